"""Both Python clients against secured listeners: one round of records for each case.

The cases are JSON on stdin, one a line: name, client (confluent or kafka-python), bootstrap, topic,
protocol, and what the mechanism needs. Each is answered by one line: name, read, error.
"""

import json
import sys
import time
import uuid

COUNT = 5
PATIENCE = 60


def confluent(c, values):
    from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

    heard = []
    config = {
        "bootstrap.servers": c["bootstrap"],
        "security.protocol": c["protocol"],
        "ssl.ca.location": c["ca"],
        "error_cb": heard.append,
        "log_level": 0,
    }
    if "cert" in c:
        config |= {"ssl.certificate.location": c["cert"], "ssl.key.location": c["key"]}
    if "mechanism" in c:
        config["sasl.mechanisms"] = c["mechanism"]
    if "token" in c:
        config["oauth_cb"] = lambda _: (c["token"], time.time() + 3600)
    elif "username" in c:
        config |= {"sasl.username": c["username"], "sasl.password": c["password"]}

    failed = []
    producer = Producer(config | {"message.timeout.ms": PATIENCE * 1000})
    for v in values:
        producer.produce(c["topic"], value=v, partition=0, on_delivery=lambda e, _: e and failed.append(e))
    end = time.monotonic() + PATIENCE
    while producer.flush(0.1) and time.monotonic() < end:
        # librdkafka tries for ever; who waits for a reason reads it here.
        if any(e.name() in ("_AUTHENTICATION", "_SSL") for e in heard):
            producer.purge()
    # A connection that broke and was made again is no failure.
    if failed or len(producer):
        raise KafkaException((heard or failed or [KafkaError(KafkaError._TIMED_OUT)])[0])
    consumer = Consumer(config | {"group.id": "none", "enable.auto.commit": False})
    consumer.assign([TopicPartition(c["topic"], 0, 0)])
    got = set()
    while time.monotonic() < end and not got.issuperset(values):
        m = consumer.poll(0.2)
        if m is not None and not m.error():
            got.add(m.value())
    consumer.close()
    return len(got.intersection(values))


def kafka_python(c, values):
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.net.sasl.oauth import AbstractTokenProvider

    class Tokens(AbstractTokenProvider):
        def token(self):
            return c["token"]

    config = {"bootstrap_servers": c["bootstrap"], "security_protocol": c["protocol"], "ssl_cafile": c["ca"]}
    if "cert" in c:
        config |= {"ssl_certfile": c["cert"], "ssl_keyfile": c["key"]}
    if "mechanism" in c:
        config["sasl_mechanism"] = c["mechanism"]
    if "token" in c:
        config["sasl_oauth_token_provider"] = Tokens()
    elif "username" in c:
        config |= {"sasl_plain_username": c["username"], "sasl_plain_password": c["password"]}
    wait = 5 if c.get("fails") else PATIENCE  # any end of it is a failure
    producer = KafkaProducer(**config, max_block_ms=wait * 1000)
    try:
        for f in [producer.send(c["topic"], value=v, partition=0) for v in values]:
            f.get(wait)
    finally:
        producer.close(1)
    consumer = KafkaConsumer(**config)
    consumer.assign([TopicPartition(c["topic"], 0)])
    consumer.seek_to_beginning()
    got = set()
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and not got.issuperset(values):
        for records in consumer.poll(timeout_ms=200).values():
            got.update(r.value for r in records)
    consumer.close()
    return len(got.intersection(values))


def main():
    for line in sys.stdin:
        c = json.loads(line)
        answer = {"name": c["name"], "read": 0, "error": ""}
        values = [uuid.uuid4().hex.encode() for _ in range(COUNT)]
        try:
            answer["read"] = {"confluent": confluent, "kafka-python": kafka_python}[c["client"]](c, values)
        except Exception as e:  # whatever it is, it is the answer
            answer["error"] = f"{type(e).__name__}: {e}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
