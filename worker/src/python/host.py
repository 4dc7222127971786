"""Runs the functions of Python modules for one slot of muster-worker.

The worker starts this file in a child process and talks to it over two pipes, which arrive as
standard input and output and are moved out of the way before any module is loaded: whatever a
function prints, or C code writes to a descriptor, goes to the worker's log.

Every message, in both directions, is HEADER, the lengths of its attachments (four bytes each),
a name, a body of JSON, and the attachments. All numbers are little-endian. The other end is
worker/src/python/pipe.rs.

Only the standard library, Python 3.8 or newer.
"""

from __future__ import annotations

import sys

# With `-c` the working directory comes first: a file there must not pass for one of the modules
# below. It comes back before the first module is loaded.
WORKING_DIRECTORY = [sys.path.pop(0)] if sys.path[:1] == [""] else []

import base64
import importlib
import importlib.util
import inspect
import io
import json
import math
import os
import re
import signal
import struct
import threading
import time
import traceback
import types
from typing import Any, Callable, Iterator, NamedTuple, NoReturn

HOST_FILE = "<muster host>"

# length of the rest, kind, flags, attachments, serial, first, second, name length, body length
HEADER = struct.Struct("<IBBHIIIII")

# Kinds of messages to the host. Of a call, `first` counts the items of a map chunk (0: a plain
# call), `second` is the timeout of an item in ms.
CONFIGURE = 0x01
CALL = 0x02

# Kinds of messages to the worker. Of a result, `first` is the service time in microseconds and
# `second` the number of items. Of a stream item, `first` is its sequence, the flags its kind.
HELLO = 0x81
LOAD_FAILED = 0x82
RESULT = 0x83
STREAM = 0x84
TICK = 0x85

# Flags of a call.
TAKES_FRAMES = 1
WANTS_STREAM = 2
# Flags of a result.
IS_ERROR = 1

CALL_FAILED = -32000
DEADLINE_EXCEEDED = -32001
INVALID_PARAMS = -32602

# Replies wait for each other at most this long, and up to this size.
FLUSH_NS = 1_000_000
FLUSH_BYTES = 32 << 10
# A chunk whose items have a timeout shows this often that it goes on.
TICK_SECONDS = 0.25

ATTACHMENTS_MAX = 60
DOC_CHARS_MAX = 16 << 10
MESSAGE_CHARS_MAX = 16 << 10
TRACEBACK_CHARS_MAX = 64 << 10

BUFFER_BYTES = 64 << 10


class Call(NamedTuple):
    """A call as it came from the worker."""

    serial: int
    flags: int
    items: int
    timeout_ms: int
    method: str
    params: str
    attachments: list[bytes]


class InvalidParams(Exception):
    """The parameters cannot be read: the caller's fault, not the function's."""


class Unsupported(TypeError):
    """A result that JSON cannot hold."""


class LoadError(Exception):
    """The modules offer nothing that can be hosted."""


class ItemTimeout(BaseException):
    """Raised inside a function by the alarm; no `except Exception` of its own stops it."""


class Forked(BaseException):
    """This process is a copy that a function made by forking; it must not touch the pipes."""


class Channel:
    """The two pipes to the worker."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._reader = io.FileIO(read_fd, "rb")
        self._write_fd = write_fd
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._pending_since = 0
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def receive(self) -> tuple[int, Call]:
        """Waits for the next message. Replies that are still held go out before it waits.

        Raises EOFError when the worker is gone.
        """
        self._fill(HEADER.size)
        header = HEADER.unpack_from(self._buffer, self._start)
        length, kind, flags, attachments, serial, first, second, name_bytes, body_bytes = header
        self._fill(4 + length)
        view = self._view
        at = self._start + HEADER.size
        sizes = struct.unpack_from(f"<{attachments}I", self._buffer, at) if attachments else ()
        at += 4 * attachments
        name = str(view[at : at + name_bytes], "utf-8")
        at += name_bytes
        body = str(view[at : at + body_bytes], "utf-8")
        at += body_bytes
        frames = []
        for size in sizes:
            frames.append(bytes(view[at : at + size]))
            at += size
        self._start += 4 + length
        if len(self._buffer) > BUFFER_BYTES and self._start == self._end:
            self._resize(BUFFER_BYTES)
        return kind, Call(serial, flags, first, second, name, body, frames)

    def send(
        self,
        kind: int,
        flags: int,
        serial: int,
        first: int,
        second: int,
        body: list[bytes],
        attachments: list[bytes],
    ) -> None:
        """Holds a message back until `flush`, or until enough of them wait."""
        count = len(attachments)
        sizes = struct.pack(f"<{count}I", *map(len, attachments)) if attachments else b""
        body_bytes = sum(map(len, body))
        size = len(sizes) + body_bytes + sum(map(len, attachments))
        length = HEADER.size - 4 + size
        header = HEADER.pack(length, kind, flags, count, serial, first, second, 0, body_bytes)
        with self._lock:
            now = time.perf_counter_ns()
            if not self._pending:
                self._pending_since = now
            self._pending += [header, sizes, *body, *attachments]
            self._pending_bytes += HEADER.size + size
            if self._pending_bytes >= FLUSH_BYTES or now - self._pending_since >= FLUSH_NS:
                self._write_pending()

    def flush(self) -> None:
        """Writes what is held back."""
        with self._lock:
            if self._pending:
                self._write_pending()

    def _write_pending(self) -> None:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        if os.getpid() != self._owner:
            raise Forked
        small: list[bytes] = []
        for part in pending:
            # Large parts are written as they are, the rest in one go.
            if len(part) < BUFFER_BYTES:
                small.append(part)
                continue
            self._write(b"".join(small))
            small.clear()
            self._write(part)
        self._write(b"".join(small))

    def _write(self, content: bytes) -> None:
        rest = memoryview(content).cast("B")
        while rest:
            rest = rest[os.write(self._write_fd, rest) :]

    def _fill(self, needed: int) -> None:
        """Reads until `needed` bytes are there, from `_start` on."""
        if self._end - self._start >= needed:
            return
        self.flush()
        if self._start + needed > len(self._buffer) or self._start == self._end:
            self._resize(max(needed, BUFFER_BYTES))
        while self._end - self._start < needed:
            count = self._reader.readinto(self._view[self._end :])
            if not count:
                raise EOFError
            self._end += count

    def _resize(self, size: int) -> None:
        """Moves what is unread to the front of a buffer of this size."""
        unread = self._end - self._start
        if size == len(self._buffer):
            self._view[:unread] = bytes(self._view[self._start : self._end])
        else:
            buffer = bytearray(size)
            buffer[:unread] = self._view[self._start : self._end]
            self._buffer, self._view = buffer, memoryview(buffer)
        self._start, self._end = 0, unread

    def abandon(self) -> None:
        """Lets go of the pipes, in a process made by forking."""
        self._pending.clear()
        os.close(self._write_fd)
        self._reader.close()


FRAME, BASE64, LITERAL = "$frame", "$base64", "$literal"
SHAPES = frozenset((FRAME, BASE64, LITERAL))


class Encoder:
    """Turns results into JSON, bytes into attachments."""

    def __init__(self) -> None:
        # None: the caller takes no attachments.
        self.frames: list[bytes] | None = None
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
        """The value as JSON. Raises TypeError or ValueError when it cannot be held."""
        kind = type(value)
        if kind is int:
            return repr(value)
        if value is None:
            return "null"
        if kind is float and math.isfinite(value):
            return repr(value)
        if kind is types.CoroutineType or kind is types.GeneratorType:
            self._default(value)
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

    def _default(self, value: Any) -> dict[str, Any]:
        if isinstance(value, (bytes, bytearray, memoryview)):
            self._made += 1
            content = bytes(value)
            if self.frames is None:
                return {BASE64: base64.b64encode(content).decode("ascii")}
            if len(self.frames) == ATTACHMENTS_MAX:
                raise Unsupported(f"a result carries at most {ATTACHMENTS_MAX} bytes objects")
            self.frames.append(content)
            return {FRAME: len(self.frames) - 1}
        close = getattr(value, "close", None)
        if isinstance(value, types.CoroutineType) and close:
            close()
        raise Unsupported(f"a result of type {type_name(type(value))} cannot be held by JSON")


def as_literals(value: Any) -> Any:
    """Marks objects that look like attachments and are none."""
    if isinstance(value, dict):
        inner = {key: as_literals(item) for key, item in value.items()}
        if len(inner) == 1 and next(iter(inner)) in SHAPES:
            return {LITERAL: inner}
        return inner
    if isinstance(value, (list, tuple)):
        return [as_literals(item) for item in value]
    return value


def restore(value: Any, attachments: list[bytes]) -> Any:
    """Puts attachments where the parameters name them."""
    if isinstance(value, list):
        return [restore(item, attachments) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, inner),) = value.items()
        if key == FRAME:
            if type(inner) is int and 0 <= inner < len(attachments):
                return attachments[inner]
            came = len(attachments) or "none"
            raise InvalidParams(f"attachment {inner!r} is missing: {came} came with the call")
        if key == BASE64 and isinstance(inner, str):
            try:
                return base64.b64decode(inner, validate=True)
            except ValueError as error:
                raise InvalidParams(f"$base64: {error}") from None
        if key == LITERAL and isinstance(inner, dict):
            value = inner
    return {key: restore(item, attachments) for key, item in value.items()}


# What `json.loads` is made of; its own checks of the argument cost more than a small value.
scan_once: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def decode(text: str, attachments: list[bytes]) -> Any:
    """Parameters from JSON, which the broker has checked already."""
    try:
        value, _ = scan_once(text, 0)
    except (ValueError, StopIteration, RecursionError) as error:
        raise InvalidParams(str(error) or "no JSON") from None
    if '"$' in text:
        return restore(value, attachments)
    return value


class Origin:
    """Whose errors these are: part of their `data`."""

    worker = ""
    host = ""


def type_name(kind: type) -> str:
    module = kind.__module__
    if module in ("builtins", "__main__", __name__):
        return kind.__qualname__
    return f"{module}.{kind.__qualname__}"


def error_object(code: int, message: str, data: dict[str, Any] | None = None) -> str:
    error: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return json.dumps(error)


def describe_failure(error: BaseException) -> str:
    """The error object of a call that raised."""
    if isinstance(error, Forked):
        raise error
    if isinstance(error, InvalidParams):
        return error_object(INVALID_PARAMS, f"Invalid params: {error}")
    if isinstance(error, ItemTimeout):
        return error_object(DEADLINE_EXCEEDED, "DeadlineExceeded", {"state": "running"})
    kind = "TypeError" if isinstance(error, Unsupported) else type_name(type(error))
    try:
        message = str(error)[:MESSAGE_CHARS_MAX]
    except BaseException as second:
        message = f"<its text raised {type_name(type(second))}>"
    data = {
        "type": kind,
        "message": message,
        "traceback": describe_traceback(error),
        "worker": Origin.worker,
        "host": Origin.host,
        "pid": os.getpid(),
    }
    return error_object(CALL_FAILED, f"{kind}: {message}" if message else kind, data)


def describe_traceback(error: BaseException) -> str:
    """The traceback from the first frame that is not this file's."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == HOST_FILE:
        frames = frames.tb_next
    if frames is None and isinstance(error, Unsupported):
        return ""
    try:
        text = "".join(traceback.format_exception(type(error), error, frames))
    except BaseException as second:
        return f"<its traceback raised {type_name(type(second))}>"
    return text[-TRACEBACK_CHARS_MAX:]


class Method(NamedTuple):
    """A function on offer."""

    name: str
    function: Callable[..., Any]
    # Where it was found, for the error when two claim a name.
    origin: str


def load(path: str) -> types.ModuleType:
    """Imports a file, or a module by its name."""
    if not (path.endswith(".py") or os.sep in path or os.path.isdir(path)):
        return importlib.import_module(path)
    path = os.path.abspath(path)
    folder, base = os.path.split(path)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if os.path.isdir(path):
        return importlib.import_module(base)
    if not os.path.exists(path):
        raise LoadError(f"{path}: no such file")
    name = base[:-3] if base.endswith(".py") else base
    if name in sys.modules:
        # The standard library's module of that name stays what it is.
        name = f"muster_{name}"
    loader = importlib.machinery.SourceFileLoader(name, path)
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None, "a loader was given"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def public_methods(module: types.ModuleType) -> Iterator[Method]:
    """What a module offers: what `__all__` lists; else its own public functions and the public
    methods of its instances of classes defined in it."""
    listed = getattr(module, "__all__", None)
    names = listed if listed is not None else [n for n in vars(module) if not n.startswith("_")]
    origin = getattr(module, "__file__", None) or module.__name__
    for name in names:
        if not hasattr(module, name):
            raise LoadError(f"{origin}: __all__ lists {name}, which is not there")
        value = getattr(module, name)
        if isinstance(value, (type, types.ModuleType)):
            continue
        if is_function(value):
            if listed is not None or is_own_function(value, module):
                yield Method(name, value, f"{origin}: {name}")
        elif type(value).__module__ == module.__name__:
            for method_name, method in instance_methods(value):
                yield Method(method_name, method, f"{origin}: {name}.{method_name}")
        elif listed is not None and callable(value):
            yield Method(name, value, f"{origin}: {name}")


def is_function(value: Any) -> bool:
    # `__wrapped__`: a function behind lru_cache or another decorator that makes an object of it.
    return inspect.isroutine(value) or (callable(value) and hasattr(value, "__wrapped__"))


def is_own_function(value: Any, module: types.ModuleType) -> bool:
    # The C half of a module such as `operator` is called `_operator`.
    return getattr(value, "__module__", None) in (module.__name__, "_" + module.__name__)


def instance_methods(instance: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in dir(type(instance)):
        if name.startswith("_"):
            continue
        # Looked up on the classes, so that no property runs.
        home = next(kind for kind in type(instance).__mro__ if name in vars(kind))
        plain = vars(home)[name]
        is_method = isinstance(plain, (types.FunctionType, classmethod, staticmethod))
        if home.__module__ != "builtins" and (is_method or is_function(plain)):
            yield name, getattr(instance, name)


def describe_method(method: Method) -> dict[str, Any]:
    doc = inspect.getdoc(method.function) or ""
    described: dict[str, Any] = {
        "name": method.name,
        "params": describe_params(method.function),
        "doc": doc.encode("utf-8", "replace").decode("utf-8")[:DOC_CHARS_MAX],
        "chunks": True,
    }
    if getattr(method.function, "__muster_once__", False):
        described["once"] = True
    return described


def describe_params(function: Callable[..., Any]) -> list[dict[str, Any]] | None:
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return None
    params = []
    for param in signature.parameters.values():
        stars = "*" if param.kind is param.VAR_POSITIONAL else ""
        if param.kind is param.VAR_KEYWORD:
            stars = "**"
        optional = bool(stars) or param.default is not param.empty
        params.append({"name": stars + param.name, "optional": optional})
    return params


def load_all(paths: list[str], prefix: str) -> dict[str, Method]:
    methods: dict[str, Method] = {}
    sys.path[:0] = WORKING_DIRECTORY
    for path in paths:
        found = 0
        for method in public_methods(load(path)):
            found += 1
            name = prefix + method.name
            claimed = methods.setdefault(name, method._replace(name=name))
            if claimed.function != method.function:
                both = f"{claimed.origin}, and {method.origin}"
                raise LoadError(f"method {name} is claimed by two functions: {both}")
        if not found:
            raise LoadError(f"{path} offers no public function")
    return methods


def describe_load_failure(error: BaseException) -> dict[str, Any]:
    if isinstance(error, LoadError):
        return {"message": str(error)}
    file: str | None = None
    line: int | None = None
    if isinstance(error, SyntaxError) and error.filename:
        file, line, text = error.filename, error.lineno, error.msg
    else:
        text = str(error)
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename != HOST_FILE and not frame.filename.startswith("<frozen"):
                file, line = frame.filename, frame.lineno
    kind = type_name(type(error))
    return {
        "message": f"{kind}: {text}" if text else kind,
        "file": file,
        "line": line,
        "traceback": describe_traceback(error),
    }


class Host:
    """The functions of one slot and the channel their calls come by."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.encoder = Encoder()
        self.functions: dict[str, Callable[..., Any]] = {}

    def configure(self, config: dict[str, Any]) -> bool:
        """Loads the modules and tells what they offer; False when that failed."""
        Origin.worker, Origin.host = config["worker"], config["host"]
        try:
            methods = load_all(config["modules"], config["prefix"])
            described = [describe_method(method) for method in methods.values()]
        except BaseException as error:
            failure = json.dumps(describe_load_failure(error)).encode()
            self.channel.send(LOAD_FAILED, 0, 0, 0, 0, [failure], [])
            self.channel.flush()
            return False
        self.functions = {name: method.function for name, method in methods.items()}
        hello = {"python": sys.version.split()[0], "methods": described}
        self.channel.send(HELLO, 0, 0, 0, 0, [json.dumps(hello).encode()], [])
        return True

    def run(self, call: Call) -> None:
        """Runs one call or chunk and sends its result."""
        self.encoder.frames = [] if call.flags & TAKES_FRAMES else None
        started = time.perf_counter_ns()
        flags, items = 0, 1
        try:
            function = self.functions[call.method]
            if call.items:
                body, items = self.run_chunk(function, call)
            else:
                params: Any = decode(call.params, call.attachments) if call.params else []
                if type(params) is list:
                    result = function(*params)
                else:
                    result = function(**params)
                body = [to_utf8(self.encoder.encode(result))]
        except BaseException as error:
            flags, body = IS_ERROR, [to_utf8(describe_failure(error))]
            if self.encoder.frames is not None:
                self.encoder.frames.clear()
        service_us = min((time.perf_counter_ns() - started) // 1000, 0xFFFFFFFF)
        frames = self.encoder.frames or []
        self.channel.send(RESULT, flags, call.serial, service_us, items, body, frames)

    def run_chunk(self, function: Callable[[Any], Any], call: Call) -> tuple[list[bytes], int]:
        items = decode(call.params, call.attachments)
        if type(items) is not list:
            raise InvalidParams("a map chunk's params is an array of items")
        results: list[Any] = []
        failures: dict[int, str] = {}
        if call.timeout_ms:
            self.apply_timed(function, items, call, results, failures)
        else:
            feed = iter(items)
            while len(results) < len(items):
                try:
                    # `extend` keeps what came before an exception, so its place is the length.
                    results.extend(map(function, feed))
                    if len(results) < len(items):
                        # `map` takes a StopIteration out of the function for its own end.
                        raise RuntimeError("the function raised StopIteration")
                except BaseException as error:
                    failures[len(results)] = describe_failure(error)
                    results.append(None)
        return self.encoder.encode_chunk(results, failures), len(items)

    def apply_timed(
        self,
        function: Callable[[Any], Any],
        items: list[Any],
        call: Call,
        results: list[Any],
        failures: dict[int, str],
    ) -> None:
        """Applies the function with an alarm for each item. Code that does not come back to
        Python cannot be interrupted so; then the worker ends this process."""
        is_armed = False

        def expire(_signal: int, _frame: Any) -> None:
            if is_armed:
                raise ItemTimeout

        seconds = call.timeout_ms / 1000
        before = signal.signal(signal.SIGALRM, expire)
        ticked = time.monotonic()
        try:
            for item in items:
                result = None
                try:
                    is_armed = True
                    signal.setitimer(signal.ITIMER_REAL, seconds)
                    result = function(item)
                    is_armed = False
                except BaseException as error:
                    is_armed = False
                    failures[len(results)] = describe_failure(error)
                results.append(result)
                now = time.monotonic()
                if now - ticked >= TICK_SECONDS:
                    ticked = now
                    self.channel.send(TICK, 0, call.serial, len(results), 0, [], [])
                    self.channel.flush()
        finally:
            is_armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def serve(self) -> None:
        """Runs calls until the worker is gone."""
        while True:
            kind, message = self.channel.receive()
            if kind == CALL:
                self.run(message)
            elif kind == CONFIGURE and not self.configure(json.loads(message.params)):
                return


def to_utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8; it stands within a JSON string, where it has an escape.
        return re.sub("[\ud800-\udfff]", lambda m: f"\\u{ord(m[0]):04x}", text).encode("utf-8")


def open_channel() -> Channel:
    """Takes the pipes off descriptors 0 and 1 and gives those to the functions: nothing to read,
    and the worker's log to write to. Children of functions inherit neither pipe."""
    channel = Channel(os.dup(0), os.dup(1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(line_buffering=True)
    os.register_at_fork(after_in_child=channel.abandon)
    return channel


def main() -> NoReturn:
    channel = open_channel()
    try:
        Host(channel).serve()
    except EOFError:
        pass
    except (Forked, OSError):
        # A forked copy came back from its function, or the worker is gone in mid-reply.
        os._exit(0)
    sys.exit(0)


main()
