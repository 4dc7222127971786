"""Ways to run several items in one call, as a map sends them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from . import wire

if TYPE_CHECKING:
    from .options import Method
    from .pool import ClusterPool

#: Results in order, and the exceptions of failed items by their place.
Outcome = tuple[list[Any], dict[int, Exception]]

#: What the protocol allows.
CHUNK_ITEMS_MAX = 100_000
#: Chunks under way for each slot.
CHUNKS_PER_SLOT = 2
#: Single calls under way for each slot: the broker hands quick ones over ahead.
CALLS_PER_SLOT = 16


class Chunks(Protocol):
    """A way to run several items in one call."""

    #: The method whose slots will run them.
    method: str
    items_max: int
    per_slot: int

    def send(
        self, items: list[Any], sink: Callable[..., None], attempts_max: int | None
    ) -> tuple[int, int]:
        """Sends a call for the items; its id and its size in bytes."""
        ...

    def read(self, body: bytes, frames: Sequence[Any], count: int) -> Outcome:
        """Reads the answer for so many items. Raises when the call as a whole failed."""
        ...

    def item_seconds(self, told: Method) -> float | None:
        """What an item is known to take, before the first has run. `told` is what the broker tells of `method`."""
        ...

    def learn(self, item_seconds: float) -> None:
        """Takes in what an item has taken."""
        ...


class NamedChunks:
    """Chunks of a method that takes them."""

    per_slot = CHUNKS_PER_SLOT
    items_max = CHUNK_ITEMS_MAX

    def __init__(self, pool: ClusterPool, method: str) -> None:
        self.method = method
        self._pool = pool

    def send(
        self, items: list[Any], sink: Callable[..., None], attempts_max: int | None
    ) -> tuple[int, int]:
        def encode(share: wire.Share | None) -> tuple[bytes, Sequence[wire.Buffer]]:
            return wire.encode_items(items, share)

        return self._pool.post_lending(self.method, encode, sink, '"map":true,', attempts_max)

    def read(self, body: bytes, frames: Sequence[Any], count: int) -> Outcome:
        return wire.read_chunk(body, frames, self.method, count)

    def item_seconds(self, told: Method) -> float | None:
        return told.service_us / 1e6 if told.service_us is not None else None

    def learn(self, item_seconds: float) -> None:
        """The broker knows it."""


class NamedCalls:
    """One call an item, for methods that take no chunks and for lists of arguments."""

    per_slot = CALLS_PER_SLOT
    items_max = 1

    def __init__(self, pool: ClusterPool, method: str, is_star: bool) -> None:
        self.method = method
        self._pool = pool
        self._is_star = is_star

    def send(
        self, items: list[Any], sink: Callable[..., None], attempts_max: int | None
    ) -> tuple[int, int]:
        params = list(items[0]) if self._is_star else items

        def encode(share: wire.Share | None) -> tuple[bytes, Sequence[wire.Buffer]]:
            return wire.encode(params, share=share)

        return self._pool.post_lending(self.method, encode, sink)

    def read(self, body: bytes, frames: Sequence[Any], count: int) -> Outcome:
        return [wire.read_answer(body, frames, self.method)], {}

    def item_seconds(self, told: Method) -> None:
        """Of no use: a call has one item."""

    def learn(self, item_seconds: float) -> None:
        """Of no use."""
