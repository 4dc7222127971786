"""What functions print: to the worker's log, and to a caller that asked for it.

muster-worker has this very file in its Python children, which may run Python 3.8.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Callable  # noqa: UP035

# A line without an end is passed on when it is this long.
LINE_CHARS_MAX = 4 << 10

Sink = Callable[[str, str], None]


class Output:
    """Stands before `sys.stdout` or `sys.stderr` for as long as the process lives, so that whoever
    kept the object (loggers do) is heard, too."""

    def __init__(self, name: str, target: Any) -> None:
        self._name = name
        self._target = target
        self._sink: Sink | None = None
        self._held = ""
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        written: int = self._target.write(text)
        if self._sink is not None:
            with self._lock:
                self._held += text
                end = self._held.rfind("\n") + 1
                if end or len(self._held) > LINE_CHARS_MAX:
                    self._pass_on(end or len(self._held))
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def divert(self, sink: Sink | None) -> None:
        """Passes on what was held; from now on what is written goes to `sink`, too."""
        with self._lock:
            self._pass_on(len(self._held))
            self._sink = sink

    def _pass_on(self, count: int) -> None:
        text, self._held = self._held[:count], self._held[count:]
        if text and self._sink is not None:
            self._sink(self._name, text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def __iter__(self) -> Any:
        return iter(self._target)


_outputs: list[Output] = []


def stand_before() -> None:
    """Puts outputs before the streams of this process."""
    for name in ("stdout", "stderr"):
        output = Output(name, getattr(sys, name))
        setattr(sys, name, output)
        _outputs.append(output)


def divert(sink: Sink | None) -> None:
    """What is printed from now on goes to `sink`, too; None: to the log alone."""
    for output in _outputs:
        output.divert(sink)
