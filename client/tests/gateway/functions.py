"""What the gateway's tests call."""

import os
import signal
import time


def is_even(n):
    """Return True if n is even."""
    return n % 2 == 0


def echo(value):
    """Return the value."""
    return value


def reverse(data):
    """Return the bytes in the other order."""
    return data[::-1]


def power(base, exponent):
    """Return a large number."""
    return base**exponent


def scale(x, factor=2):
    """Return x times factor."""
    return x * factor


def anything(*args):
    """Take what comes."""
    return len(args)


def zero():
    """Return a character that XML has not."""
    return "\0"


def nap(seconds):
    """Sleep."""
    time.sleep(seconds)
    return seconds


class Calculator:
    """An object whose method is offered."""

    def multiply(self, x, y):
        """Return x times y."""
        return x * y


calculator = Calculator()


def end(pid):
    """End a process as a crash would."""
    os.kill(pid, signal.SIGKILL)
