"""What becomes of a call that raised: its error object."""

from __future__ import annotations

import json
import os
import traceback
from typing import Any

from muster_host.channel import Forked
from muster_host.shelf import NotThere

# The start of the file name of each module of this program.
OWN_FILES = "<muster host>"

CALL_FAILED = -32000
DEADLINE_EXCEEDED = -32001
OVERLOADED = -32003
INVALID_PARAMS = -32602

MESSAGE_CHARS_MAX = 16 << 10
TRACEBACK_CHARS_MAX = 64 << 10


class InvalidParams(Exception):
    """The parameters cannot be read: the caller's fault, not the function's."""


class Unsupported(TypeError):
    """A result that cannot be carried."""


class ItemTimeout(BaseException):
    """Raised inside a function by the alarm; no `except Exception` of its own stops it."""


class Origin:
    """Whose errors these are: part of their `data`."""

    worker = ""
    host = ""


def type_name(kind: type) -> str:
    module = kind.__module__
    if module in ("builtins", "__main__") or module.startswith("muster_host."):
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
    if isinstance(error, NotThere):
        # The caller sends them as frames then.
        return error_object(INVALID_PARAMS, f"Invalid params: {error}", {"shelf": str(error)})
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
    packed = getattr(error, "__muster_pickle__", None)
    if packed is not None:
        data["pickle"] = packed
    return error_object(CALL_FAILED, f"{kind}: {message}" if message else kind, data)


def describe_traceback(error: BaseException) -> str:
    """The traceback from the first frame that is not this program's."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(OWN_FILES):
        frames = frames.tb_next
    if frames is None and isinstance(error, Unsupported):
        return ""
    try:
        text = "".join(traceback.format_exception(type(error), error, frames))
    except BaseException as second:
        return f"<its traceback raised {type_name(type(second))}>"
    return text[-TRACEBACK_CHARS_MAX:]
