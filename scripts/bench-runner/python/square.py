"""The function of the Python rows."""


def square(x):
    """Return x squared."""
    return x * x


def echo(value):
    """Return what was given."""
    return value
