"""The confluent-kafka program: librdkafka's newest release."""

import sys

from confluent_kafka import Consumer, KafkaError, Producer
from contract import flags, say, until_told, values


def produce(f):
    failed = []
    producer = Producer({"bootstrap.servers": f["bootstrap"], "enable.idempotence": True, "acks": "all"})

    def delivered(err, m):
        if err is not None:
            failed.append(err)
            print(m.value(), err, file=sys.stderr)
        else:
            say(partition=m.partition(), offset=m.offset(), value=m.value().decode())

    for partition, value in values(f):
        producer.produce(f["topic"], value=value.encode(), partition=partition, on_delivery=delivered)
        producer.poll(0)
    while producer.flush(1):
        pass
    return 1 if failed else 0


def consume(f):
    told = until_told()
    config = {"bootstrap.servers": f["bootstrap"], "group.id": f["group"], "auto.offset.reset": "earliest"}
    if "protocol" in f:
        config["group.protocol"] = f["protocol"]
    consumer = Consumer(config)
    consumer.subscribe(
        [f["topic"]], on_assign=lambda _, assigned: say(assigned=[t.partition for t in assigned])
    )
    while not told.is_set():
        m = consumer.poll(0.2)
        if m is None:
            continue
        if m.error():
            if m.error().code() != KafkaError._PARTITION_EOF:
                print(m.error(), file=sys.stderr)
            continue
        say(partition=m.partition(), offset=m.offset(), value=m.value().decode(errors="replace"))
    consumer.close()
    return 0


if __name__ == "__main__":
    command, f = flags()
    sys.exit(produce(f) if command == "produce" else consume(f))
