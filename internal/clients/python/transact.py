"""Transactions of librdkafka: each writes three records to every topic, and every fourth is aborted."""

import sys

from confluent_kafka import Producer


def main():
    f = {a[2:]: b for a, b in zip(sys.argv[1::2], sys.argv[2::2])}
    failed = []
    producer = Producer(
        {"bootstrap.servers": f["bootstrap"], "transactional.id": f["id"], "transaction.timeout.ms": 30000}
    )
    producer.init_transactions(60)
    for i in range(int(f["count"])):
        abort = i % 4 == 3
        producer.begin_transaction()
        for k in range(3):
            for topic in f["topics"].split(","):
                value = f"{'aborted/' if abort else ''}{f['id']}/{i}/{k}"
                producer.produce(
                    topic, value=value.encode(), partition=k % 2, on_delivery=lambda e, _: e and failed.append(e)
                )
        if abort:
            producer.flush()
            producer.abort_transaction(60)
        else:
            producer.commit_transaction(60)
    for e in failed:
        print(e, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
