"""Functions for the tour: `muster up -n 4 --python client/python/examples/methods.py`.

Nothing here knows of Muster. Public functions become methods under their own names, and so do the
public methods of objects at the top level of the file.
"""

import time


def is_even(n):
    """Return True if n is even."""
    return n % 2 == 0


def is_odd(n):
    """Return True if n is odd."""
    return n % 2 == 1


def f1(t, x, y):
    """Sleep t seconds, then return x + y + 3."""
    time.sleep(t)
    return x + y + 3


class Calculator:
    """An object whose methods are offered."""

    def multiply(self, x, y):
        """Return x times y."""
        return x * y


calculator = Calculator()


def count_slowly(n):
    """Yield 0 to n - 1."""
    for number in range(n):
        yield number
        time.sleep(0.01)
