"""The kafka-python program."""

import sys
import time

from contract import flags, say, until_told, values
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer


def produce(f):
    failed = []
    producer = KafkaProducer(
        bootstrap_servers=f["bootstrap"].split(","), acks="all", enable_idempotence=True
    )
    for partition, value in values(f):
        future = producer.send(f["topic"], value=value.encode(), partition=partition)
        future.add_callback(
            lambda m, value=value: say(partition=m.partition, offset=m.offset, value=value)
        )
        future.add_errback(
            lambda e, value=value: (failed.append(value), print(value, e, file=sys.stderr))
        )
    producer.flush()
    producer.close()
    return 1 if failed else 0


class Told(ConsumerRebalanceListener):
    def on_partitions_revoked(self, revoked):
        pass

    def on_partitions_assigned(self, assigned):
        say(assigned=[t.partition for t in assigned])


# kafka-python 3.0 may lose the assignment that it joins for once it has the topic's metadata: it then waits
# for ever. Whoever is alone in a group and has nothing for so long, in seconds, begins anew.
LOST = 20


def consume(f):
    told = until_told()

    def join():
        consumer = KafkaConsumer(
            bootstrap_servers=f["bootstrap"].split(","),
            group_id=f["group"],
            auto_offset_reset="earliest",
            enable_auto_commit=True,
        )
        consumer.subscribe([f["topic"]], listener=Told())
        return consumer

    consumer, had = join(), time.monotonic()
    while not told.is_set():
        for records in consumer.poll(timeout_ms=200).values():
            for r in records:
                say(partition=r.partition, offset=r.offset, value=r.value.decode(errors="replace"))
        if consumer.assignment():
            had = time.monotonic()
        elif time.monotonic() - had > LOST:
            print("no assignment: joining anew", file=sys.stderr)
            consumer.close()
            consumer, had = join(), time.monotonic()
    consumer.close()
    return 0


if __name__ == "__main__":
    command, f = flags()
    sys.exit(produce(f) if command == "produce" else consume(f))
