"""What a running function tells its caller before the answer: progress, output, yielded values."""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import wire
from .errors import CallError, Overloaded

if TYPE_CHECKING:
    from .future import Future

T = TypeVar("T")

#: Values that wait to be taken: so many, and so many bytes, and the call ends with `Overloaded`.
VALUES_MAX, VALUE_BYTES_MAX = 100_000, 256 << 20

#: How every notification about a call begins.
PREFIX = b'{"jsonrpc":"2.0","method":"rpc.'

Read = Callable[[Any, Sequence[wire.Buffer]], Any]


def read_note(body: bytes) -> tuple[str, dict[str, Any]]:
    """Kind (`progress`, `output` or `item`) and parameters of a notification."""
    note = json.loads(body)
    return note["method"].partition(".")[2], note["params"]


class Listener:
    """Takes the notifications about one call, on the link's thread."""

    def __init__(
        self,
        on_progress: Callable[[float, float | None], None] | None = None,
        on_output: Callable[[str, str], None] | None = None,
        on_item: Callable[[Any, int], None] | None = None,
        read: Read | None = None,
    ) -> None:
        self._on_progress = on_progress
        self._on_output = on_output
        self._on_item = on_item
        self._read = read or _read_json
        self._attempt = 0
        self._seen = 0
        self._given = 0
        self.lost: CallError | None = None

    def heed(self, kind: str, params: dict[str, Any], frames: Sequence[wire.Buffer], size: int) -> None:
        """Takes one notification of so many bytes."""
        if kind == "item":
            self._heed_item(params, frames, size)
            return
        value = params["value"]
        if kind == "progress" and self._on_progress is not None:
            self._on_progress(value["done"], value["total"])
        elif kind == "output" and self._on_output is not None:
            self._on_output(value["stream"], value["text"])

    def _heed_item(self, params: dict[str, Any], frames: Sequence[wire.Buffer], size: int) -> None:
        if params["attempt"] != self._attempt:
            # Its worker died and it began anew: what was given already comes once more.
            self._attempt, self._seen = params["attempt"], 0
        self._seen += 1
        if params["seq"] != self._seen and self.lost is None:
            missing = f"values were dropped after the {self._seen - 1}th: they came faster than they were read"
            self.lost = Overloaded(-32003, missing, {"limit": "outbox_replies"})
        if self.lost is None and self._seen > self._given:
            self._given += 1
            if self._on_item is not None:
                self._on_item(self._read(params["value"], frames), size)


def _read_json(value: Any, frames: Sequence[wire.Buffer]) -> Any:
    return wire.restore(value, frames)


class Stream(Generic[T]):
    """The values that a generator on the cluster yields, as they come. What it returns is the result of
    `future`. Leaving the loop early cancels the call.

    If its worker dies the generator begins anew elsewhere, and as many values as have been given are
    left out. Values that nobody takes are kept up to a limit; beyond it the call ends with `Overloaded`.
    """

    future: Future[Any]

    def __init__(self) -> None:
        # Why no further values are taken; the call may be answered before `begin`.
        self._full: Overloaded | None = None
        self._has_begun = False
        self._values: queue.SimpleQueue[tuple[Any, int]] = queue.SimpleQueue()
        # Each written by one side alone: the link's thread, and whoever takes.
        self._put_bytes = self._taken_bytes = 0
        #: Tells whoever waits in another way that there is something to take.
        self.notice: Callable[[], None] = lambda: None

    def begin(self, future: Future[Any]) -> None:
        """The call is made, and may have said something already."""
        self.future = future
        self._has_begun = True
        if self._full is not None:
            future.give_up(self._full)
        future.add_done_callback(self.end)

    def put(self, value: T, size: int) -> None:
        """Adds a value that came in so many bytes; on the link's thread."""
        if self._full is not None:
            return
        waiting_bytes = self._put_bytes - self._taken_bytes
        for limit, there, most in (
            ("stream_values", self._values.qsize(), VALUES_MAX),
            ("stream_bytes", waiting_bytes + size, VALUE_BYTES_MAX),
        ):
            # A value alone is always taken.
            if there >= most and waiting_bytes:
                full = f"values are not taken as fast as they come; {limit} is {most}"
                self._full = Overloaded(-32003, full, {"limit": limit, "max": most})
                if self._has_begun:
                    self.future.give_up(self._full)
                return
        self._put_bytes += size
        self._values.put((value, size))
        self.notice()

    def end(self, _: Any) -> None:
        self._values.put(_END)
        self.notice()

    def take(self, timeout: float | None = None) -> T:
        """The next value. Raises `StopIteration` after the last, `TimeoutError` after `timeout` seconds, and
        what the generator raised."""
        try:
            found = self._values.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no value within {timeout:g} s") from None
        if found is not _END:
            value, size = found
            self._taken_bytes += size
            return value  # type: ignore[no-any-return]
        self._values.put(_END)
        raise StopIteration(self.future.result())

    def is_empty(self) -> bool:
        """Whether there is nothing to take now."""
        return self._values.empty()

    def __iter__(self) -> Iterator[T]:
        try:
            while True:
                try:
                    value = self.take()
                except StopIteration:
                    return
                yield value
        finally:
            self.future.cancel()

    def cancel(self) -> bool:
        """Ends the generator; False: it has ended already."""
        return self.future.cancel()


_END: tuple[Any, int] = (None, 0)
