"""Many numbers of one kind as bytes: how a chunk's items, and its results, travel when they can.

`{"$array": {"$frame": 0}, "dtype": "<i8", "shape": [3]}` stands for a list of three integers, `<f8` for floats.
muster-worker has this very file in its Python children, which may run Python 3.8.
"""

from __future__ import annotations

import math
import sys
from array import array
from typing import Any, Sequence  # noqa: UP035

#: Fewer numbers than this are as quick as text.
NUMBERS_MIN = 64

_DTYPES = {"q": "<i8", "d": "<f8"}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


def pack(values: list[Any]) -> tuple[str, memoryview] | None:
    """The numbers as JSON that names attachment 0, and as that attachment. None unless all are `int` and
    fit 64 bits, or all are finite `float`: what comes out at the other end equals what went in."""
    kinds = set(map(type, values))
    if len(values) < NUMBERS_MIN or sys.byteorder != "little":
        return None
    if kinds == {int}:
        code = "q"
    elif kinds == {float} and math.isfinite(sum(values)):
        # A sum that is not finite may be of finite numbers. Text tells which.
        code = "d"
    else:
        return None
    try:
        numbers = array(code, values)
    except OverflowError:
        return None
    text = f'{{"$array":{{"$frame":0}},"dtype":"{_DTYPES[code]}","shape":[{len(values)}]}}'
    return text, memoryview(numbers).cast("B")


def unpack(described: dict[str, Any], frames: Sequence[Any]) -> list[Any]:
    """The numbers that `pack` packed. Raises `ValueError` when these are none."""
    code = _CODES.get(described.get("dtype", ""))
    source, shape = described.get("$array"), described.get("shape")
    if code is None or source != {"$frame": 0} or len(frames) != 1 or not isinstance(shape, list):
        raise ValueError("packed items are one attachment of dtype <i8 or <f8")
    numbers = array(code)
    numbers.frombytes(frames[0])
    if sys.byteorder != "little":
        numbers.byteswap()
    if shape != [len(numbers)]:
        raise ValueError(f"{len(numbers)} packed items came, not {shape}")
    return numbers.tolist()
