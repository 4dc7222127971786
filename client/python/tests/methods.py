"""Functions that the tests call."""

import os
import sys
import time

import muster


def is_even(n):
    """Return True if n is even."""
    return n % 2 == 0


def square(x):
    return x * x


class Calculator:
    def multiply(self, x, y=2):
        """Return x times y."""
        return x * y


calculator = Calculator()


def echo(value):
    return value


def pid():
    return os.getpid()


def slow_square(x):
    time.sleep(0.01)
    return x * x


def nap(seconds):
    time.sleep(seconds)
    return os.getpid()


def fail(message):
    raise ValueError(message)


class Custom(Exception):
    pass


def fail_oddly(x):
    raise Custom(x)


def invert(x):
    return 1 / x


def die():
    os._exit(3)


def die_of(x):
    if x == 13:
        os._exit(3)
    return x


def note_and_die_of(item):
    path, x = item
    with open(path, "a") as file:
        file.write(f"{x}\n")
    return die_of(x)


def number_or_name(n):
    return n if n % 10 else str(n)


def tenfold(x):
    return x * 10


@muster.once
def append(path, line, seconds=0.0):
    """Write a line to a file, then sleep."""
    with open(path, "a") as file:
        file.write(f"{line}\n")
    time.sleep(seconds)
    return line


async def later(x):
    return x + 1


def count(n):
    yield from range(n)


async def count_later(n):
    for number in range(n):
        yield number


def blobs(n):
    """Yield attachments, then return how many."""
    for number in range(n):
        yield bytes([number]) * 100_000
    return n


def endless(seconds=0.001):
    number = 0
    while True:
        yield number
        number += 1
        time.sleep(seconds)


def dies_once(path, n):
    """Yield 0 to n-1, ending the process in the middle the first time."""
    for number in range(n):
        if number == n // 2 and not os.path.exists(path):
            open(path, "w").close()
            os._exit(3)
        yield number


def steps(n):
    for done in range(1, n + 1):
        print(f"step {done}")
        print(f"note {done}", file=sys.stderr)
        muster.progress(done, n)
    return muster.call_id()


def patient(path):
    """Says in a file that it has asked, goes on until it is cancelled, and says that."""
    while not muster.cancelled():
        open(path, "a").close()
        time.sleep(0.005)
    with open(path, "w") as file:
        file.write("cancelled")


def stubborn(path):
    """Asks, says so in a file, and does not care."""
    muster.cancelled()
    open(path, "w").close()
    time.sleep(60)


def doubled(array):
    return array * 2


def length(array):
    return len(array)


def every_second(content):
    return memoryview(content)[::2]


def large(size):
    return bytes(size)


def large_ones(count, size):
    for _ in range(count):
        yield bytes(size)


def die_once_and_echo(path, value):
    if not os.path.exists(path):
        open(path, "w").close()
        os._exit(3)
    return value


def wait_for_file(path):
    while not os.path.exists(path):
        time.sleep(0.01)


def uncarried(kind):
    return {"set": {1, 2}, "nan": float("nan"), "object": object()}[kind]


prepared = 0


def prepare():
    global prepared
    prepared += 1


def how_prepared(_=None):
    return os.getpid(), prepared


def connect():
    """The cluster that this process serves."""
    global pool
    if pool is None:
        pool = muster.connect()
    return pool


pool = None


def nested_square(x):
    return connect().call("square", x)


def nested_map(n):
    return sum(connect().map("square", range(n), 1))


def fibonacci(n):
    """Each call waits for two others."""
    if n < 2:
        return n
    calls = [connect().submit("fibonacci", n - 1), connect().submit("fibonacci", n - 2)]
    return sum(call.result() for call in calls)


def descend(depth):
    return 0 if depth == 0 else 1 + connect().call("descend", depth - 1)


async def nested_await(x):
    apool = muster.AsyncPool(connect())
    return await apool.call("square", x)


def nested_die(path):
    """Its process is killed in the middle of an inner call, once."""
    inner = connect().submit("nap", 0.3)
    if not os.path.exists(path):
        with open(path, "w") as file:
            file.write(str(os.getpid()))
        time.sleep(60)
    return inner.result() and "survived"
