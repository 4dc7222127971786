"""What can go wrong, as exceptions a program can tell apart.

An exception that a remote function raised comes back as itself where its type is a built-in one:
`except ValueError` works, and so does `except muster.RemoteError`.
"""

from __future__ import annotations

import base64
import builtins
import pickle
from concurrent.futures import CancelledError
from typing import Any


class MusterError(Exception):
    """Any failure of a call or of the way to the broker."""


class NoBroker(MusterError, ConnectionError):
    """There is no broker where it was looked for."""


class BrokerLost(MusterError, ConnectionError):
    """The broker went away and did not come back in time; the call had not run or may run again."""


class UnknownOutcome(MusterError):
    """The broker went away while a call that must not run twice was under way."""


class Closed(MusterError, RuntimeError):
    """The pool was closed."""


class RemoteTraceback(Exception):
    """The traceback of a remote function, as the cause of the exception raised here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n\n{self.text.rstrip()}\n"


class CallError(MusterError):
    """A call was answered with an error.

    `code` is its number in docs/protocol.md, `data` what came with it. `method` is the method
    called, `index` the place of the item in a map or of the part in a parallel call.
    """

    def __init__(self, code: int, message: str, data: Any = None, method: str | None = None) -> None:
        # Not `super()`: the next class may be a built-in one that asks for other arguments.
        Exception.__init__(self, message)
        self.code = code
        self.message = message
        self.data = data if isinstance(data, dict) else {}
        self.method = method
        self.index: int | None = None

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return from_object, ({"code": self.code, "message": self.message, "data": self.data}, self.method)

    @property
    def worker(self) -> str | None:
        """The worker that ran the call, where that is known."""
        return self.data.get("worker")

    @property
    def host(self) -> str | None:
        """Its host."""
        return self.data.get("host")

    @property
    def pid(self) -> int | None:
        """Its process there."""
        return self.data.get("pid")


class MethodNotFound(CallError, LookupError):
    """No worker offers the method."""


class InvalidParams(CallError, TypeError):
    """The parameters do not fit the method."""


class RemoteError(CallError):
    """The function raised. `remote_type` and `remote_traceback` tell what and where."""

    @property
    def remote_type(self) -> str:
        """The exception's type, as the worker names it."""
        return str(self.data.get("type", ""))

    @property
    def remote_traceback(self) -> str:
        """The worker's traceback as text, or ""."""
        return str(self.data.get("traceback", ""))


class DeadlineExceeded(CallError, TimeoutError):
    """The call's timeout passed, while it waited or while it ran (`data["state"]`)."""


class WorkerLost(CallError):
    """Every worker that tried the call died (`data["attempts"]`)."""


class Overloaded(CallError):
    """A cap is reached; trying again later can help."""


class Cancelled(CallError, CancelledError):
    """The call was cancelled."""


class TooLarge(CallError):
    """Something exceeds a size limit."""


class Forbidden(CallError, PermissionError):
    """The key has no right to this."""


class Draining(CallError):
    """The broker is going away."""


class BadReply(CallError):
    """What the worker sent cannot be read as an answer."""


class ApplyNotAllowed(MethodNotFound):
    """No worker runs functions that clients send."""


class NotPicklable(MusterError, TypeError):
    """A function, argument or result cannot be sent."""


_BY_CODE: dict[int, type[CallError]] = {
    -32601: MethodNotFound,
    -32602: InvalidParams,
    -32000: RemoteError,
    -32001: DeadlineExceeded,
    -32002: WorkerLost,
    -32003: Overloaded,
    -32004: Cancelled,
    -32005: TooLarge,
    -32006: Forbidden,
    -32007: Draining,
    -32008: BadReply,
}

#: How the broker words the codes; a `data.reason` says more.
_BARE = {
    "Method not found", "Invalid params", "Invalid Request", "Internal error", "Parse error",
    "CallFailed", "DeadlineExceeded", "WorkerLost", "Overloaded", "Cancelled", "TooLarge", "Forbidden",
    "Draining", "BadReply",
}  # fmt: skip


def from_object(error: Any, method: str | None = None) -> CallError:
    """The exception for a JSON-RPC error object."""
    if not isinstance(error, dict) or not isinstance(error.get("code"), int):
        return BadReply(-32008, f"an error that is none: {error!r:.200}", None, method)
    code, message, data = error["code"], str(error.get("message", "")), error.get("data")
    if not isinstance(data, dict):
        data = {} if data is None else {"data": data}
    kind = _BY_CODE.get(code, CallError)
    if kind is RemoteError:
        kind = _remote_kind(str(data.get("type", "")))
        message = str(data.get("message") or message)
    else:
        message = _explain(message, data, method)
    try:
        made = kind.__new__(kind, message)
    except TypeError:
        made = RemoteError.__new__(RemoteError, message)
    # Not `kind(...)`: built-in types such as UnicodeDecodeError ask for arguments of their own.
    CallError.__init__(made, code, message, data, method)
    made.args = (message,)
    text = data.get("traceback")
    if text:
        made.__cause__ = RemoteTraceback(f"{text.rstrip()}\n(on worker {made.worker}, host {made.host})")
    return made


def restore_pickled(error: CallError) -> BaseException:
    """The exception object that a shipped function raised, if the worker sent it along."""
    packed = error.data.get("pickle")
    if not isinstance(packed, str):
        return error
    try:
        original = pickle.loads(base64.b64decode(packed))
    except Exception:
        return error
    if not isinstance(original, Exception):
        return error
    original.__cause__ = error.__cause__
    for name in ("worker", "host", "pid", "remote_traceback"):
        try:
            setattr(original, name, getattr(error, name, None))
        except AttributeError:
            break
    return original


def _explain(message: str, data: dict[str, Any], method: str | None) -> str:
    if message not in _BARE:
        return message
    words = [message if method is None else f"{message} ({method})"]
    if message == "Method not found" and "reason" not in data:
        words.append("nobody who may run it offers it; `pool.methods()` tells what is on offer")
    for name in ("reason", "state", "limit", "by"):
        if name in data:
            words.append(f"{name}: {data[name]}")
    attempts = data.get("attempts")
    if isinstance(attempts, list):
        words += [f"attempt {n}: {_attempt(attempt)}" for n, attempt in enumerate(attempts, 1)]
    return "; ".join(words)


def _attempt(attempt: Any) -> str:
    if not isinstance(attempt, dict):
        return str(attempt)
    where = attempt.get("slot") or attempt.get("worker")
    tail = str(attempt.get("stderr") or "").strip()
    return f"{where} {attempt.get('ended', 'lost')}" + (f" ({tail[-200:]})" if tail else "")


_kinds: dict[str, type[RemoteError]] = {}


def _remote_kind(name: str) -> type[RemoteError]:
    known = _kinds.get(name)
    if known is not None:
        return known
    # A call inside the function may have raised one of ours.
    own, _, short = name.rpartition(".")
    home = globals() if own == __name__ else vars(builtins)
    builtin: Any = home.get(short) if own in ("", __name__) else None
    # Exceptions that end programs or loops must not do so here.
    fits = isinstance(builtin, type) and issubclass(builtin, Exception)
    if not fits or issubclass(builtin, (StopIteration, StopAsyncIteration, RemoteError)):
        return RemoteError
    try:
        kind = type(short, (RemoteError, builtin), {"__module__": __name__, "__str__": CallError.__str__})
    except TypeError:
        return RemoteError
    _kinds[name] = kind
    return kind
