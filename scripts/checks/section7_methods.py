"""The procedures that the examples of the JSON-RPC 2.0 specification, section 7, call."""

import builtins


def subtract(minuend, subtrahend):
    """Return minuend - subtrahend."""
    return minuend - subtrahend


def sum(*values):
    """Return the sum of the values."""
    return builtins.sum(values)


def get_data():
    """Return some data."""
    return ["hello", 5]


def update(*values):
    """Take note of the values."""


def notify_hello(*values):
    """Say hello to the values."""


def notify_sum(*values):
    """Take note of the sum of the values."""
