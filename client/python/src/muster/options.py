"""How calls are made, and what the cluster tells of its methods."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Options:
    """How calls are made. `timeout` is in seconds, of a map it is that of each item; `attempts`
    how often a call may be started when its worker dies; `priority` is -10 to 10; `to` names the
    one worker to ask."""

    timeout: float | None = None
    attempts: int | None = None
    priority: int | None = None
    to: str | None = None

    def meta(self) -> str:
        """The members of `meta`, with a comma behind each."""
        text = '"frames":true,'
        if self.timeout is not None:
            text += f'"timeout_ms":{max(0, round(self.timeout * 1000)) or int(self.timeout > 0)},'
        if self.attempts is not None:
            text += f'"attempts_max":{self.attempts:d},'
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
        int(entry.get("slots") or 0),
        entry.get("service_us"),
    )
