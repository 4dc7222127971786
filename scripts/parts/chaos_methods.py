"""What the Python workers of scripts/chaos offer. Every start is written down with its time."""

import os
import time

_MASK = (1 << 64) - 1
_folder = os.environ["MUSTER_CHAOS_FOLDER"]
_starts = os.open(
    os.path.join(_folder, f"starts-{os.getpid()}.log"),
    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
)


def mix(n, nap_ms):
    """Return a number that depends on every bit of n, after a nap."""
    os.write(_starts, f"{n} {os.getpid()} {time.monotonic_ns()}\n".encode())
    if nap_ms:
        time.sleep(nap_ms / 1000)
    x = n * 0x9E3779B97F4A7C15 & _MASK
    x ^= x >> 29
    return (x * 0xBF58476D1CE4E5B9 & _MASK) >> 11
