"""Functions that the tests call."""

import os
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
