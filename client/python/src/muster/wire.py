"""Values as JSON and frames: what a call's parameters and results are on the wire.

Bytes, memoryviews and numpy arrays become attachments: frames below the JSON body, which the body
names by `{"$frame": n}`. An array is `{"$array": {"$frame": n}, "dtype": "<f8", "shape": [2, 3]}`.
Nothing is copied on the way out, and arrays are views of the frame they came in.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from . import packing
from .errors import CallError, InvalidParams, from_object
from .shelf import BYTES_MIN, SHARED

FRAME, BASE64, LITERAL, ARRAY = "$frame", "$base64", "$literal", "$array"
_SHAPES = frozenset((FRAME, BASE64, LITERAL, ARRAY, SHARED))

#: Attachments of one message; the protocol allows 64 frames with envelope and body.
FRAMES_MAX = 60


@runtime_checkable
class HasBuffer(Protocol):
    """A received frame, such as `zmq.Frame`."""

    @property
    def buffer(self) -> memoryview: ...


#: What an attachment can be: anything with the buffer protocol, or a received frame.
Buffer = Any
#: What nearly all messages have: none of their own, for there are many.
NO_FRAMES: Sequence[Buffer] = ()
#: Puts bytes where the reader finds them by a name; None when they are to travel as a frame.
Share = Callable[[Buffer], "str | None"]


class TooManyFrames(TypeError):
    """A value has more attachments than a message can carry."""


class _Binary(Exception):
    """Raised by the quick encoder: this value needs frames."""


def _refuse(value: Any) -> Any:
    raise _Binary


# What `json.loads` comes to, without its checks: the broker has parsed the text before.
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_quick = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_refuse).encode


def encode_plain(value: Any) -> bytes | None:
    """A value as JSON text in UTF-8, if that is all it takes; None: `encode` has to see to it."""
    try:
        text = _quick(value)
        return None if '"$' in text and _has_shape(value) else text.encode()
    except (_Binary, UnicodeEncodeError):
        return None


def encode(
    value: Any, takes_frames: bool = True, share: Share | None = None
) -> tuple[bytes, Sequence[Buffer]]:
    """A value as JSON text in UTF-8, and its attachments; bytes as text if `takes_frames` is False.
    `share` is offered large ones.

    Raises `TypeError` naming what JSON cannot hold, `ValueError` for NaN and infinities.
    """
    plain = encode_plain(value)
    if plain is not None:
        return plain, NO_FRAMES
    frames: list[Buffer] = []
    text = _quick(_lower(value, _Attachments(frames if takes_frames else None, share)))
    try:
        return text.encode(), frames
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8, but an escape.
        return json.dumps(json.loads(text), separators=(",", ":")).encode(), frames


def encode_items(items: list[Any], share: Share | None = None) -> tuple[bytes, Sequence[Buffer]]:
    """Like `encode`, for the items of a chunk, which are often all numbers."""
    packed = packing.pack(items)
    if packed is not None:
        return packed[0].encode(), [packed[1]]
    return encode(items, share=share)


def _has_shape(value: Any) -> bool:
    if isinstance(value, dict):
        return not _SHAPES.isdisjoint(value) or any(map(_has_shape, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_has_shape, value))


class _Attachments:
    """What is taken out of a value. `frames` is None when they are to be text."""

    def __init__(self, frames: list[Buffer] | None, share: Share | None) -> None:
        self._frames = frames
        self._share = share

    def add(self, value: Buffer) -> dict[str, Any]:
        """Takes bytes; what stands for them."""
        frames = self._frames
        if frames is None:
            return {BASE64: base64.b64encode(value).decode("ascii")}
        if isinstance(value, memoryview) and not value.c_contiguous:
            value = value.tobytes()
        if self._share is not None and memoryview(value).nbytes >= BYTES_MIN:
            name = self._share(value)
            if name is not None:
                return {SHARED: name}
        if len(frames) == FRAMES_MAX:
            raise TooManyFrames(f"a message carries at most {FRAMES_MAX} bytes objects and arrays")
        frames.append(value)
        return {FRAME: len(frames) - 1}


def _lower(value: Any, attachments: _Attachments) -> Any:
    """The value with attachments taken out and look-alikes marked."""
    if isinstance(value, dict):
        lowered = {key: _lower(item, attachments) for key, item in value.items()}
        return {LITERAL: lowered} if not _SHAPES.isdisjoint(value) else lowered
    if isinstance(value, (list, tuple)):
        return [_lower(item, attachments) for item in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return attachments.add(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.ndarray):
            return _lower_array(value, attachments, numpy)
        if isinstance(value, numpy.generic):
            return _lower(value.item(), attachments)
    raise TypeError(
        f"{type(value).__module__}.{type(value).__qualname__} {value!r:.80} cannot be held by JSON"
    )


def _lower_array(array: Any, attachments: _Attachments, numpy: Any) -> dict[str, Any]:
    if array.dtype.hasobject:
        raise TypeError("an array of Python objects cannot be an attachment")
    dtype = numpy.lib.format.dtype_to_descr(array.dtype)
    # Copies only what is not contiguous; dates have no buffer of their own.
    flat = numpy.ascontiguousarray(array).reshape(-1).view(numpy.uint8) if array.size else b""
    return {ARRAY: attachments.add(flat), "dtype": dtype, "shape": list(array.shape)}


def restore(value: Any, frames: Sequence[Buffer], as_bytes: Callable[[memoryview], Any] = bytes) -> Any:
    """Puts attachments where the value names them; `as_bytes` makes the object that stands for one."""
    if isinstance(value, list):
        return [restore(item, frames, as_bytes) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, inner),) = value.items()
        if key == FRAME:
            return as_bytes(view(_frame(inner, frames)))
        if key == BASE64 and isinstance(inner, str):
            return base64.b64decode(inner, validate=True)
        if key == LITERAL and isinstance(inner, dict):
            return {key: restore(item, frames, as_bytes) for key, item in inner.items()}
    elif ARRAY in value:
        return _restore_array(value, frames)
    return {key: restore(item, frames, as_bytes) for key, item in value.items()}


def _restore_array(value: dict[str, Any], frames: Sequence[Buffer]) -> Any:
    import numpy

    source = value[ARRAY]
    if isinstance(source, dict) and FRAME in source:
        content = view(_frame(source[FRAME], frames))
    elif isinstance(source, dict) and BASE64 in source:
        content = memoryview(base64.b64decode(source[BASE64]))
    else:
        raise ValueError(f"{ARRAY} names no attachment")
    descr = value["dtype"]
    if isinstance(descr, list):
        descr = [tuple(tuple(part) if isinstance(part, list) else part for part in field) for field in descr]
    dtype = numpy.lib.format.descr_to_dtype(descr)
    return numpy.frombuffer(content, dtype=dtype).reshape(value["shape"])


def _frame(index: Any, frames: Sequence[Buffer]) -> Buffer:
    if type(index) is not int or not 0 <= index < len(frames):
        raise InvalidParams(-32602, f"attachment {index!r} is missing: {len(frames)} came")
    return frames[index]


def view(frame: Buffer) -> memoryview:
    """A frame's bytes without a copy."""
    return frame.buffer if isinstance(frame, HasBuffer) else memoryview(frame)


def read_answer(body: bytes, frames: Sequence[Buffer], method: str | None) -> Any:
    """The result in a JSON-RPC answer. Raises what the error in it stands for."""
    try:
        answer = _scan(str(body, "utf-8"), 0)[0]
        if "error" in answer:
            raise from_object(answer["error"], method)
        result = answer["result"]
        if frames or b'"$' in body:
            result = restore(result, frames)
        return result
    except CallError:
        raise
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise from_object({"code": -32008, "message": f"unreadable answer: {error!r}"}, method) from error


_HEAD = b'{"jsonrpc":"2.0","result":[{"result":'
_PACKED_HEAD = b'{"jsonrpc":"2.0","result":{"$array":'
# Between the results of a chunk stands `},{"result":`. Without these bytes only its comma is left.
_NOT_NUMBERS = b'{}":result'
_BETWEEN_BYTES = len('},{"result":') - 1


def read_chunk(
    body: bytes, frames: Sequence[Buffer], method: str, count: int
) -> tuple[list[Any], dict[int, Exception]]:
    """The results of a map chunk of `count` items, and the exceptions of failed ones by their place.

    Raises when the chunk as a whole failed.
    """
    tail = body.rfind(b'}],"id":')
    if not frames and body.startswith(_HEAD) and tail > 0:
        inner = body[len(_HEAD) : tail]
        numbers = inner.translate(None, _NOT_NUMBERS)
        # If just as many bytes went as stand between `count` results, none of them was part of one:
        # they are numbers or lists of numbers, and this is by far the quickest way to read them.
        if len(inner) - len(numbers) == (count - 1) * _BETWEEN_BYTES:
            try:
                return _scan(f"[{str(numbers, 'ascii')}]", 0)[0], {}
            except (ValueError, StopIteration):
                pass
    if frames and body.startswith(_PACKED_HEAD):
        try:
            unpacked = packing.unpack(json.loads(body)["result"], [view(frame) for frame in frames])
        except ValueError as error:
            raise from_object({"code": -32008, "message": f"unreadable answer: {error}"}, method) from error
        return unpacked, {}
    results: list[Any] = []
    failures: dict[int, Exception] = {}
    for index, outcome in enumerate(read_answer(body, frames, method)):
        if "result" not in outcome:
            failures[index] = from_object(outcome.get("error"), method)
        results.append(outcome.get("result"))
    return results, failures
