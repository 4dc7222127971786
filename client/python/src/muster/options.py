"""How calls are made, and what the cluster tells of its methods."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .streaming import Listener, Read


@dataclass(frozen=True)
class Options:
    """How calls are made. `timeout` is in seconds, of a map it is that of each item; `attempts`
    how often a call may be started when its worker dies; `priority` is -10 to 10; `to` names the
    one worker to ask.

    `on_progress(done, total)` is told what functions say with `muster.progress`, `on_output(stream, text)`
    what they print, `stream` being `stdout` or `stderr`. Both run on the connection's own thread."""

    timeout: float | None = None
    attempts: int | None = None
    priority: int | None = None
    to: str | None = None
    on_progress: Callable[[float, float | None], None] | None = None
    on_output: Callable[[str, str], None] | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout >= 0:
            raise ValueError(f"timeout is {self.timeout} s; it is at least 0, which means none")
        if self.attempts is not None and self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}; a call is started at least once")
        if self.priority is not None and not -10 <= self.priority <= 10:
            raise ValueError(f"priority is {self.priority}; it is from -10 to 10")

    @property
    def listens(self) -> bool:
        """Whether calls are made with a listener."""
        return self.on_progress is not None or self.on_output is not None

    def listener(self, on_item: Callable[[Any, int], None] | None = None, read: Read | None = None) -> Listener:
        """Takes what a call says before its answer."""
        return Listener(self.on_progress, self.on_output, on_item, read)

    def meta(self, attempts_max: int | None = None, is_shared: bool = False) -> str:
        """The members of `meta`, with a comma behind each. `attempts_max` holds if `attempts` is no less;
        `is_shared`: large attachments may come by the shelf."""
        text = '"shared":true,' if is_shared else '"frames":true,'
        if self.timeout is not None:
            text += f'"timeout_ms":{max(0, round(self.timeout * 1000)) or int(self.timeout > 0)},'
        attempts = self.attempts
        if attempts_max is not None:
            attempts = attempts_max if attempts is None else min(attempts, attempts_max)
        if attempts is not None:
            text += f'"attempts_max":{attempts:d},'
        if self.priority is not None:
            text += f'"priority":{self.priority:d},'
        if self.to is not None:
            text += f'"to":{json.dumps(self.to)},'
        return text


@dataclass(frozen=True)
class Method:
    """A method on offer. `service_us` is how long one call takes, in microseconds, once known."""

    name: str
    params: tuple[tuple[str, bool], ...] | None = None
    doc: str = ""
    once: bool = False
    chunks: bool = False
    shared: bool = False
    slots: int = 0
    service_us: float | None = None


def read_method(entry: dict[str, Any]) -> Method:
    """One entry of `broker.methods`."""
    params = entry.get("params")
    listed = None if params is None else tuple((p["name"], bool(p.get("optional"))) for p in params)
    return Method(
        entry["name"],
        listed,
        entry.get("doc") or "",
        bool(entry.get("once")),
        bool(entry.get("chunks")),
        bool(entry.get("shared")),
        int(entry.get("slots") or 0),
        entry.get("service_us"),
    )
