"""Maps: many items in few calls, a bounded number of them under way.

A chunk is one call. Its size follows the time that items are seen to take, so that it is long
enough to be cheap and short enough to balance and to be run again. A chunk whose worker was lost is
cut in parts that run side by side, so an item that kills its worker costs itself alone. Where nothing may
run twice, an item is a call of its own.
"""

from __future__ import annotations

import math
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from . import wire
from .chunks import CHUNKS_PER_SLOT, Chunks, Outcome
from .errors import CallError, TooLarge, WorkerLost

if TYPE_CHECKING:
    from .pool import ClusterPool

#: A chunk's aimed-for length, in seconds and bytes.
CHUNK_SECONDS = 0.1
CHUNK_BYTES = 2 << 20
#: The first chunk of a known function: it shows how large items are.
FIRST_ITEMS = 64
#: No item is believed to take less, in seconds.
ITEM_SECONDS_MIN = 50e-9
#: A sized input is cut into at least this many chunks for each slot.
SHARES = 4
#: Parts of a chunk whose worker was lost: of many only the one with the culprit is lost again, and each loss
#: costs a process.
LOST_PARTS = 16
#: How often a chunk is started before it is cut, and a part of one; a single item as often as any call.
CHUNK_ATTEMPTS, PART_ATTEMPTS = 2, 1
#: How long the number of slots is believed, in seconds.
SLOTS_KEPT = 1.0


class _Chunk:
    __slots__ = ("id", "is_part", "items", "sent", "start")

    def __init__(self, start: int, items: list[Any], is_part: bool = False) -> None:
        self.start = start
        self.items = items
        self.is_part = is_part
        self.id = 0
        self.sent = 0.0

    @property
    def attempts_max(self) -> int | None:
        if len(self.items) == 1:
            return None
        return PART_ATTEMPTS if self.is_part else CHUNK_ATTEMPTS

    def parts(self, count: int) -> list[_Chunk]:
        """The same items in so many chunks."""
        size = math.ceil(len(self.items) / count)
        return [
            _Chunk(self.start + at, self.items[at : at + size], is_part=True)
            for at in range(0, len(self.items), size)
        ]


class Work:
    """A map under way: yields `(start, results, failures)` as chunks end."""

    def __init__(
        self, pool: ClusterPool, chunks: Chunks, items: Iterable[Any], chunksize: int | None, progress: bool
    ) -> None:
        if chunksize is not None and chunksize < 1:
            raise ValueError(f"chunksize is {chunksize}; it is at least 1")
        self._pool = pool
        self._chunks = chunks
        try:
            self._total: int | None = len(items)  # type: ignore[arg-type]
        except TypeError:
            self._total = None
        self._items: Iterator[Any] = iter(items)
        self._is_fixed = chunksize is not None
        self._size = max(1, min(chunksize or 1, chunks.items_max))
        self._taken = 0
        self._bytes_per_item = 0.0
        # What an item may take, until the first chunk is sent.
        self._expected: float | None = None
        self._is_exhausted = False
        self._is_cancelled = False
        self._again: deque[_Chunk] = deque()
        self._under_way: dict[int, _Chunk] = {}
        # None: it was cancelled.
        self._answers: queue.SimpleQueue[tuple[_Chunk, bytes, Sequence[Any], BaseException | None] | None]
        self._answers = queue.SimpleQueue()
        self._slots, self._slots_at = self._ask_slots(), time.monotonic()
        self._bar = _bar(self._total) if progress else None
        self._refill()

    def __iter__(self) -> Iterator[tuple[int, list[Any], dict[int, Exception]]]:
        return self

    def __next__(self) -> tuple[int, list[Any], dict[int, Exception]]:
        return self.next(None)

    def next(self, timeout: float | None) -> tuple[int, list[Any], dict[int, Exception]]:
        """The next chunk's outcome. Raises `queue.Empty` after `timeout` seconds."""
        while self._under_way or self._again:
            answer = self._answers.get(timeout=timeout)
            if answer is None:
                break
            chunk, body, frames, error = answer
            self._under_way.pop(chunk.id, None)
            self._refill()
            outcome = self._judge(chunk, body, frames, error)
            if outcome is not None:
                if self._bar is not None:
                    self._bar.update(len(outcome[0]))
                return chunk.start, *outcome
        if self._bar is not None:
            self._bar.close()
        raise StopIteration

    def collect(self, return_exceptions: bool) -> list[Any]:
        """All results in order; raises the first failure."""
        pieces: list[tuple[int, list[Any]]] = []
        failed: dict[int, Exception] = {}
        try:
            for start, results, failures in self:
                for at, failure in failures.items():
                    results[at] = failed[start + at] = failure
                pieces.append((start, results))
        finally:
            self.cancel()
        pieces.sort(key=lambda piece: piece[0])
        everything: list[Any] = []
        for _, results in pieces:
            everything += results
        if failed and not return_exceptions:
            first = min(failed)
            raise mark(failed[first], first, everything)
        return everything

    def cancel(self) -> None:
        """Ends what is under way. Any thread may: one that waits for an outcome gets no more."""
        self._is_exhausted = self._is_cancelled = True
        self._again.clear()
        self._answers.put(None)
        self._cancel_under_way()

    def _cancel_under_way(self) -> None:
        if self._under_way:
            gone, self._under_way = list(self._under_way), {}
            self._pool.link.cancel(gone)

    def _refill(self) -> None:
        now = time.monotonic()
        if now - self._slots_at > SLOTS_KEPT and not self._is_exhausted:
            self._slots, self._slots_at = self._ask_slots(), now
        window = self._slots * self._chunks.per_slot
        while len(self._under_way) < window or self._again:
            if self._again:
                self._send(self._again.popleft())
                continue
            if self._is_exhausted:
                return
            items = list(islice(self._items, self._size))
            if len(items) < self._size:
                self._is_exhausted = True
            if not items:
                return
            chunk = _Chunk(self._taken, items)
            self._taken += len(items)
            self._send(chunk)

    def _send(self, chunk: _Chunk) -> None:
        answers = self._answers

        def sink(body: bytes, frames: Sequence[Any], error: BaseException | None) -> None:
            answers.put((chunk, body, frames, error))

        chunk.sent = time.monotonic()
        try:
            chunk.id, size = self._chunks.send(chunk.items, sink, chunk.attempts_max)
        except wire.TooManyFrames:
            if len(chunk.items) == 1:
                raise
            self._cut(chunk, 2)
            return
        self._bytes_per_item = size / len(chunk.items)
        if self._expected is not None:
            # Now it is known how large they are, too.
            self._fit(CHUNK_SECONDS / max(self._expected, ITEM_SECONDS_MIN), self._slots)
            self._expected = None
        self._under_way[chunk.id] = chunk
        if self._is_cancelled:
            # By another thread, which did not see this one.
            self._cancel_under_way()

    def _cut(self, chunk: _Chunk, count: int) -> None:
        """Has a chunk run in parts, before all others; those to come are no larger."""
        parts = chunk.parts(count)
        self._again.extendleft(reversed(parts))
        self._size = min(self._size, len(parts[0].items))

    def _judge(
        self, chunk: _Chunk, body: bytes, frames: Sequence[Any], error: BaseException | None
    ) -> Outcome | None:
        """The chunk's outcome; None: it was cut and sent again."""
        count = len(chunk.items)
        try:
            if error is not None:
                raise error
            outcome = self._chunks.read(body, frames, count)
        except (WorkerLost, TooLarge, wire.TooManyFrames) as failure:
            if count > 1:
                self._cut(chunk, LOST_PARTS if isinstance(failure, WorkerLost) else 2)
                self._refill()
                return None
            return [None], {0: failure}
        except Exception as failure:
            if (
                isinstance(failure, CallError)
                and failure.code in (-32602, -32000, -32001, -32008)
                and count == 1
            ):
                return [None], {0: failure}
            self.cancel()
            raise
        if not self._is_fixed:
            self._resize(chunk, count)
        return outcome

    def _resize(self, chunk: _Chunk, count: int) -> None:
        """Fits the size to what a chunk took, waiting included, so that it errs to the short side."""
        took = max(time.monotonic() - chunk.sent, 1e-6)
        size = min(count * CHUNK_SECONDS / took, self._size * 64)
        if size < self._size and count < self._size / 2 and took < CHUNK_SECONDS:
            # Most of that was the way there and back.
            size = self._size
        else:
            self._chunks.learn(took / count)
        self._fit(size, self._slots)

    def _fit(self, size: float, slots: int) -> None:
        """Sets the size, within what a message may hold and what leaves every slot its share."""
        size = min(size, self._chunks.items_max)
        if self._bytes_per_item:
            size = min(size, CHUNK_BYTES / self._bytes_per_item)
        if self._total is not None:
            share = math.ceil(self._total / (slots * SHARES))
            left = math.ceil((self._total - self._taken) / (slots * CHUNKS_PER_SLOT))
            size = min(size, share, max(left, share // 8, 1))
        self._size = max(1, int(size))

    def _ask_slots(self) -> int:
        """How many slots there are now; the first time also what the broker knows of the items' time."""
        method = self._pool.method(self._chunks.method)
        if method is None:
            return max(1, int(self._pool.status()["slots"]["total"]))
        if not self._is_fixed and not self._taken:
            self._expected = self._chunks.item_seconds(method)
            if self._expected is not None:
                self._fit(min(FIRST_ITEMS, CHUNK_SECONDS / max(self._expected, 1e-9)), max(1, method.slots))
        return max(1, method.slots)


class MapIterator(Iterator[Any]):
    """Results one by one. `next(timeout)` is that of `multiprocessing.pool.IMapIterator`."""

    def __init__(self, work: Work, is_ordered: bool) -> None:
        self._work = work
        self._is_ordered = is_ordered
        self._next_start = 0
        self._early: dict[int, tuple[list[Any], dict[int, Exception]]] = {}
        self._ready: deque[tuple[Any, Exception | None]] = deque()

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """The next result. Raises `TimeoutError` when it is not there within `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ready:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                start, results, failures = self._work.next(left)
            except queue.Empty:
                raise TimeoutError(f"no result within {timeout} s") from None
            if not self._is_ordered:
                self._add(start, results, failures)
                continue
            self._early[start] = (results, failures)
            while self._next_start in self._early:
                start = self._next_start
                self._add(start, *self._early.pop(start))
        return self.next_ready(None)

    def next_ready(self, default: Any) -> Any:
        """The next result if it is there already, else `default`."""
        if not self._ready:
            return default
        result, failure = self._ready.popleft()
        if failure is not None:
            raise failure
        return result

    def _add(self, start: int, results: list[Any], failures: dict[int, Exception]) -> None:
        self._next_start = start + len(results)
        if not failures:
            self._ready.extend((result, None) for result in results)
            return
        for at, result in enumerate(results):
            failure = failures.get(at)
            self._ready.append((result, None if failure is None else mark(failure, start + at, None)))

    def close(self) -> None:
        """Ends what is under way."""
        self._work.cancel()

    def __del__(self) -> None:
        try:
            self.close()
        except Exception:
            pass


def mark(failure: Exception, index: int, results: list[Any] | None) -> Exception:
    """Tells in an exception which item failed, and what the others gave."""
    try:
        failure.index = index  # type: ignore[attr-defined]
        if results is not None:
            failure.results = results  # type: ignore[attr-defined]
    except AttributeError:
        pass
    if hasattr(failure, "add_note"):
        # Python 3.11 prints it below the traceback.
        failure.add_note(f"(item {index} of the map)")
    return failure


def _bar(total: int | None) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(total=total)
