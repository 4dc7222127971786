"""Parameters and results as JSON and attachments."""

from __future__ import annotations

import base64
import json
import math
import re
import sys
import types
from typing import Any, Callable

from muster_host.failure import InvalidParams, Unsupported, describe_failure, type_name
from muster_host.shelf import BYTES_MIN, SHARED, Shelf

ATTACHMENTS_MAX = 60
# Views from this size on are written to the pipe at once; smaller ones are copied.
VIEW_BYTES_MIN = 64 << 10

FRAME, BASE64, LITERAL, ARRAY = "$frame", "$base64", "$literal", "$array"
SHAPES = frozenset((FRAME, BASE64, LITERAL, ARRAY, SHARED))


class Encoder:
    """Turns results into JSON, bytes and arrays into attachments."""

    def __init__(self) -> None:
        # None: the caller takes no attachments.
        self.frames: list[Any] | None = None
        # None: large attachments are frames like others.
        self.shelf: Shelf | None = None
        # Objects made here that stand for bytes.
        self._made = 0
        self._nested = self._build(",")
        # Puts the whole text between two results of a chunk where JSON has its comma.
        self._flat = self._build('},{"result":')

    def _build(self, separator: str) -> Callable[[Any], str]:
        markers: dict[int, Any] = {}
        make: Any = getattr(json.encoder, "c_make_encoder", None)
        text = json.encoder.encode_basestring
        try:
            # Made once: `JSONEncoder.encode` makes one for every call.
            scan = make(markers, self._default, text, None, ":", separator, False, False, False)
            if "".join(scan([1, {"a": "ü"}], 0)) != f'[1{separator}{{"a":"ü"}}]':
                raise TypeError
        except TypeError:
            slow = json.JSONEncoder(
                separators=(separator, ":"),
                ensure_ascii=False,
                allow_nan=False,
                default=self._default,
            )
            return slow.encode

        def encode(value: Any) -> str:
            try:
                return "".join(scan(value, 0))
            except BaseException:
                # What was being encoded would count as a circular reference later.
                markers.clear()
                raise

        return encode

    def encode(self, value: Any) -> str:
        """The value as JSON. Raises TypeError when it cannot be held."""
        try:
            return self._encode(value)
        except Unsupported:
            raise
        except (TypeError, ValueError, RecursionError) as error:
            # A key that is no text, a float that is not finite, a list within itself.
            raise Unsupported(f"a result cannot be held by JSON: {error}: {brief(value)}") from None

    def _encode(self, value: Any) -> str:
        kind = type(value)
        if kind is int:
            return repr(value)
        if value is None:
            return "null"
        if kind is float and math.isfinite(value):
            return repr(value)
        held = len(self.frames) if self.frames is not None else 0
        self._made = 0
        text = self._nested(value)
        if '"$' in text and kind is not str:
            shapes = sum(text.count(f'"{shape}":') for shape in SHAPES)
            if shapes > self._made:
                # An object of the function's own looks like an attachment: mark it.
                if self.frames is not None:
                    del self.frames[held:]
                text = self._nested(as_literals(value))
        return text

    def encode_chunk(self, results: list[Any], failures: dict[int, str]) -> list[bytes]:
        """The answer to a map chunk; a result that cannot be held joins the failures."""
        if not failures and results:
            plain = self._plain(results)
            if plain is not None:
                return [b'[{"result":', plain, b"}]"]
        parts = []
        for at, result in enumerate(results):
            failure = failures.get(at)
            if failure is None:
                try:
                    parts.append(f'{{"result":{self.encode(result)}}}')
                    continue
                except BaseException as error:
                    failure = describe_failure(error)
            parts.append(f'{{"error":{failure}}}')
        return [to_utf8("[" + ",".join(parts) + "]")]

    def _plain(self, results: list[Any]) -> bytes | None:
        """The results with `},{"result":` between them, if all are plain scalars."""
        try:
            if type(results[0]) in (int, float):
                # The quickest way from many numbers to text. Looking at the text is quicker than
                # looking at the types: of nothing but these bytes are finite numbers alone.
                text = repr(results)[1:-1].encode()
                if not text.translate(None, b" +,-.0123456789e"):
                    return text.replace(b", ", b'},{"result":')
            if set(map(type, results)) <= {int, float, bool, str, type(None)}:
                return to_utf8(self._flat(results)[1:-1])
        except ValueError:
            # One of them is not finite, or too long: it fails alone.
            pass
        return None

    def _default(self, value: Any) -> Any:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._attach(value)
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            if isinstance(value, numpy.ndarray):
                return self._attach_array(value, numpy)
            if isinstance(value, numpy.generic):
                return value.item()
        if isinstance(value, types.CoroutineType):
            value.close()
        raise Unsupported(f"a result of type {type_name(type(value))} cannot be held by JSON: {brief(value)}")

    def _attach(self, value: Any) -> dict[str, Any]:
        self._made += 1
        if self.frames is None:
            return {BASE64: base64.b64encode(value).decode("ascii")}
        if self.shelf is not None and memoryview(value).nbytes >= BYTES_MIN:
            name = self.shelf.put(value, is_left=True)
            if name is not None:
                return {SHARED: name}
        if len(self.frames) == ATTACHMENTS_MAX:
            raise Unsupported(f"a result carries at most {ATTACHMENTS_MAX} bytes objects and arrays")
        # What can change until it is written is copied, unless it is written at once.
        is_view = isinstance(value, memoryview) and value.c_contiguous and value.nbytes >= VIEW_BYTES_MIN
        self.frames.append(value.cast("B") if is_view else bytes(value))
        return {FRAME: len(self.frames) - 1}

    def _attach_array(self, array: Any, numpy: Any) -> dict[str, Any]:
        if array.dtype.hasobject:
            raise Unsupported("an array of Python objects cannot be carried")
        self._made += 1
        # Copies only what is not contiguous; dates have no buffer of their own.
        flat = numpy.ascontiguousarray(array).reshape(-1).view(numpy.uint8) if array.size else b""
        descr = numpy.lib.format.dtype_to_descr(array.dtype)
        return {ARRAY: self._attach(memoryview(flat)), "dtype": descr, "shape": list(array.shape)}


def brief(value: Any) -> str:
    """What is shown of a value that cannot be carried."""
    try:
        text = repr(value)
    except BaseException as error:
        return f"<its text raised {type_name(type(error))}>"
    return text if len(text) <= 80 else text[:77] + "..."


def as_literals(value: Any) -> Any:
    """Marks objects that look like attachments and are none."""
    if isinstance(value, dict):
        inner = {key: as_literals(item) for key, item in value.items()}
        is_shape = ARRAY in inner or (len(inner) == 1 and next(iter(inner)) in SHAPES)
        return {LITERAL: inner} if is_shape else inner
    if isinstance(value, (list, tuple)):
        return [as_literals(item) for item in value]
    return value


def restore(value: Any, attachments: list[Any], as_bytes: Callable[[Any], Any] = bytes) -> Any:
    """Puts attachments where the parameters name them; `as_bytes` makes what stands for one."""
    if isinstance(value, list):
        return [restore(item, attachments, as_bytes) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, inner),) = value.items()
        if key == FRAME:
            if type(inner) is int and 0 <= inner < len(attachments):
                return as_bytes(attachments[inner])
            came = len(attachments) or "none"
            raise InvalidParams(f"attachment {inner!r} is missing: {came} came with the call")
        if key == BASE64 and isinstance(inner, str):
            try:
                return base64.b64decode(inner, validate=True)
            except ValueError as error:
                raise InvalidParams(f"$base64: {error}") from None
        if key == LITERAL and isinstance(inner, dict):
            value = inner
    elif ARRAY in value:
        return restore_array(value, attachments)
    return {key: restore(item, attachments, as_bytes) for key, item in value.items()}


def as_it_is(attachment: Any) -> Any:
    return attachment


def restore_array(value: dict[str, Any], attachments: list[Any]) -> Any:
    """An array from its bytes, its type and its shape, as the Python package sends it."""
    try:
        import numpy
    except ImportError:
        raise InvalidParams("an array came, and this interpreter has no numpy") from None
    content = restore(value[ARRAY], attachments, as_it_is)
    descr = value.get("dtype")
    if isinstance(descr, list):
        descr = [tuple(tuple(part) if isinstance(part, list) else part for part in field) for field in descr]
    try:
        dtype = numpy.lib.format.descr_to_dtype(descr)
        return numpy.frombuffer(content, dtype=dtype).reshape(value.get("shape"))
    except (ValueError, TypeError) as error:
        raise InvalidParams(f"{ARRAY}: {error}") from None


# What `json.loads` is made of; its own checks of the argument cost more than a small value.
scan_once: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def decode(text: str, attachments: list[Any], as_bytes: Callable[[Any], Any] = bytes) -> Any:
    """Parameters from JSON, which the broker has checked already."""
    try:
        value, _ = scan_once(text, 0)
    except (ValueError, StopIteration, RecursionError) as error:
        raise InvalidParams(str(error) or "no JSON") from None
    if '"$' in text:
        return restore(value, attachments, as_bytes)
    return value


def to_utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8; it stands within a JSON string, where it has an escape.
        return re.sub("[\ud800-\udfff]", lambda m: f"\\u{ord(m[0]):04x}", text).encode("utf-8")


