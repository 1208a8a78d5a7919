"""What both Python programs share. The contract of all client programs is in the Go package's doc.go."""

import json
import signal
import sys
import threading
import time

_printing = threading.Lock()


def flags():
    """The command, and the flags that follow it."""
    args = sys.argv[1:]
    if not args or args[0] not in ("produce", "consume") or len(args) % 2 == 0:
        sys.exit("usage: produce|consume --flag value ...")
    return args[0], {args[i][2:]: args[i + 1] for i in range(1, len(args), 2)}


def say(**line):
    """Print one line for the driver."""
    text = json.dumps(line, separators=(",", ":")) + "\n"
    with _printing:
        sys.stdout.write(text)
        sys.stdout.flush()


def values(f):
    """Yield (partition, value) at the rate asked for."""
    count, rate, partitions = int(f["count"]), int(f["rate"]), int(f["partitions"])
    start = time.monotonic()
    for i in range(count):
        if rate > 0:
            due = start + i / rate - time.monotonic()
            if due > 0:
                time.sleep(due)
        yield i % partitions, f"{f['producer']}/{i % partitions}/{i // partitions}"


def until_told():
    """An event that SIGTERM sets."""
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    return told
