"""The worker's side of shipped functions: the method `muster.apply`.

A worker that allows it offers one method, which runs what clients send. Only the standard library
is needed here, and what the sent functions themselves need (usually cloudpickle). muster-worker has this
very file in its Python children, which may run Python 3.8.

`muster.apply` takes its parameters by name:

- `function`: the hash of the function, 32 hexadecimal digits.
- `arguments`: a list of attachments. The first is a pickle, the rest are its out-of-band buffers. It
  holds `(args, kwargs)` or, with `each`, the list of items. A small pickle may come as text in base64 instead.
- `define`: attachments with pickled functions, by hash. They are kept until the process ends.
- `setup`: the hash of a function without parameters that runs once in each process, before the rest.
- `each`: absent, or `"item"` or `"arguments"`: apply the function to every item, as its one argument or
  as the list of its arguments.
- `stream`: if the function makes a generator, what it yields is sent as it comes.

It answers a list of attachments, pickle and buffers likewise: the function's result, or with `each`
the pair of the list of results and a dict of failures by place. A small one is text if the arguments were. If it does not know a function, it answers
`{"missing": HASH}`; the caller asks again with `define`.
"""

from __future__ import annotations

import inspect
import os
import pickle
import platform
import socket
import sys
import traceback
from binascii import a2b_base64, b2a_base64
from collections import OrderedDict
from itertools import starmap
from typing import Any, Callable  # noqa: UP035

METHOD = "muster.apply"

#: Functions that a process keeps.
FUNCTIONS_MAX = 1000
#: Buffers smaller than this stay in the pickle; at most BUFFERS_MAX travel beside it.
BUFFER_BYTES_MIN = 4 << 10
BUFFERS_MAX = 48

#: Larger pickles are attachments. Smaller ones are quicker within the message than in a frame beside it.
TEXT_BYTES_MAX = 1 << 10

#: What a host makes of coroutines and generators.
settle: Callable[[Any], Any] | None = None

#: Their pickles have no buffers and name no class.
_PLAIN = frozenset((int, float, bool, str, type(None)))

_functions: OrderedDict[str, Callable[..., Any]] = OrderedDict()
_set_up: set[str] = set()


def apply(
    function: str,
    arguments: list[Any] | str,
    define: dict[str, Any] | None = None,
    setup: str | None = None,
    each: str | None = None,
    stream: bool = False,
) -> Any:
    """Run a function that the caller sent."""
    if define is not None:
        _define(define)
    if setup is not None and setup not in _set_up:
        if setup not in _functions:
            return {"missing": setup}
        _functions[setup]()
        _set_up.add(setup)
    run = _functions.get(function)
    if run is None:
        return {"missing": function}
    _functions.move_to_end(function)
    is_text = isinstance(arguments, str)
    if isinstance(arguments, str):
        given = pickle.loads(a2b_base64(arguments))
    else:
        # Arrays can be written to, as they can where the function came from.
        buffers = [bytearray(b) if memoryview(b).readonly else b for b in arguments[1:]]
        given = pickle.loads(arguments[0], buffers=buffers)
    if each is not None:
        return _dump_each(*_apply_each(run, given, each == "arguments"))
    args, kwargs = given
    try:
        result = run(*args, **kwargs)
        if stream and inspect.isgenerator(result):
            return _dump_yielded(result)
        answer = dump(result if settle is None else settle(result))
        if is_text and len(answer) == 1 and len(answer[0]) <= TEXT_BYTES_MAX:
            return str(b2a_base64(answer[0], newline=False), "ascii")
        return answer
    except Exception as error:
        packed = _pack_error(error)
        if packed is not None:
            try:
                # The host sends it along, as the member `pickle` of the error's data.
                error.__muster_pickle__ = packed  # type: ignore[attr-defined]
            except AttributeError:
                pass
        raise


def _define(functions: dict[str, Any]) -> None:
    for name, content in functions.items():
        if name not in _functions:
            _functions[name] = _load(content)
            if len(_functions) > FUNCTIONS_MAX:
                _functions.popitem(last=False)


def _load(content: Any) -> Any:
    try:
        return pickle.loads(content)
    except (AttributeError, TypeError, ValueError, pickle.UnpicklingError) as error:
        # What other versions write differently fails somewhere inside, in words of the inside.
        raise type(error)(
            f"{error}; the worker can't read the function with {_versions()}: has the caller the same?"
        ) from error


def _versions() -> str:
    python = f"Python {platform.python_version()}"
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is None:
        return python
    return f"{python} and cloudpickle {getattr(cloudpickle, '__version__', '?')}"


def _dump_yielded(generator: Any) -> Any:
    while True:
        try:
            value = next(generator)
        except StopIteration as end:
            return dump(end.value)
        yield dump(value)


def _apply_each(run: Callable[..., Any], items: list[Any], is_star: bool) -> tuple[list[Any], dict[int, Any]]:
    results: list[Any] = []
    failures: dict[int, Any] = {}
    settle_each = settle if settle is not None and _makes_pending(run) else None
    if settle_each is not None:
        plain, settled = run, settle_each
        run = lambda *item: settled(plain(*item))  # noqa: E731
    feed = iter(items)
    apply_rest = starmap if is_star else map
    while len(results) < len(items):
        try:
            # `extend` keeps what came before an exception, so its place is the length.
            results.extend(apply_rest(run, feed))
            if len(results) < len(items):
                raise RuntimeError("the function raised StopIteration")
        except Exception as error:
            failures[len(results)] = describe(error)
            results.append(None)
    return results, failures


def _makes_pending(run: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(run) or inspect.isgeneratorfunction(run)


def _dump_each(results: list[Any], failures: dict[int, Any]) -> list[Any]:
    try:
        return dump((results, failures))
    except TypeError:
        # Find out which result cannot be sent, and keep the others.
        for at, result in enumerate(results):
            try:
                dump(result)
            except TypeError as error:
                failures[at], results[at] = describe(error), None
        return dump((results, failures))


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as the error object of a call."""
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ in ("builtins", "__main__")
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    data = {
        "type": name,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(kind, error, error.__traceback__)),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "pickle": _pack_error(error),
    }
    return {"code": -32000, "message": f"{name}: {error}", "data": data}


def _pack_error(error: BaseException) -> str | None:
    try:
        # By value where possible: the exception's class may be one of the caller's `__main__`.
        pickler = _cloudpickle() or pickle
        return str(b2a_base64(pickler.dumps(error), newline=False), "ascii")
    except Exception:
        return None


def dump(value: Any) -> list[Any]:
    """A value as a pickle and its large buffers. Raises `TypeError` naming what cannot be pickled."""
    if type(value) in _PLAIN:
        return [pickle.dumps(value, protocol=5)]
    buffers: list[Any] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < BUFFER_BYTES_MIN or len(buffers) == BUFFERS_MAX:
            return True
        buffers.append(raw)
        return False

    try:
        try:
            head = pickle.dumps(value, protocol=5, buffer_callback=keep)
            if b"__main__" in head:
                # The other side's `__main__` is another one: its classes are sent along.
                raise AttributeError("a class of __main__")
        except (pickle.PicklingError, AttributeError, TypeError):
            cloudpickle = _cloudpickle()
            if cloudpickle is None:
                raise
            buffers.clear()
            head = cloudpickle.dumps(value, protocol=5, buffer_callback=keep)
    except Exception as error:
        kind = type(value)
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} cannot be sent: {error}") from error
    return [head, *buffers]


def _cloudpickle() -> Any:
    try:
        import cloudpickle
    except ImportError:
        return None
    return cloudpickle


# The name a host offers it by has a dot, which no function's can have.
globals()[METHOD] = apply
__all__ = [METHOD]
