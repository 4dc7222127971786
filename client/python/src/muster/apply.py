"""Shipping functions: pickled once, sent once to each process that runs them.

A function is named by the hash of its pickle. The first calls carry the function itself; later ones
only its name. A process that does not know it (it was started since) says so, and gets it.
"""

from __future__ import annotations

import pickle
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import shipped, wire
from .errors import ApplyNotAllowed, MethodNotFound, NotPicklable, from_object, restore_pickled
from .future import Future
from .library import Packed
from .loan import Loan
from .streaming import Listener

if TYPE_CHECKING:
    from .chunks import Outcome
    from .options import Method, Options
    from .pool import ClusterPool

#: The first calls for each slot carry the function: one may go to a process that has it already.
DEFINED_PER_SLOT = 2
#: Items of a chunk of a shipped function.
CHUNK_ITEMS_MAX = 1_000_000
NOT_ALLOWED = (
    "no worker that may run the call runs functions that clients send; start one with "
    "`muster-worker --allow-apply`"
)


class Shipment:
    """A packed function and the pool that runs it."""

    def __init__(self, pool: ClusterPool, packed: Packed) -> None:
        self._pool = pool
        self._packed = packed

    def is_of(self, pool: ClusterPool, packed: Packed) -> bool:
        """Whether this is that function of that pool."""
        return self._pool is pool and self._packed is packed

    def submit(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], on_item: Callable[[Any, int], None] | None = None
    ) -> Future[Any]:
        """Calls the function; `on_item` is given what it yields, with its size in bytes."""
        link = self._pool.link
        future = ShippedFuture(self, link, next(link.ids), shipped.METHOD)
        try:
            future.arguments = _dump_arguments((args, kwargs))
        except NotPicklable:
            for name, value in (*enumerate(args), *kwargs.items()):
                _try_to_dump(value, f"argument {name!r}")
            raise
        if on_item is not None:
            future.listener = self._pool._options.listener(on_item, _read_item)
        loan = self.lend(future.arguments)
        if loan is not None:
            future.borrow(loan, future.post_again)
        is_new = self.is_new()
        self.post(future.id, future.arguments, None, is_new, future.deliver, future.listener, loan=loan)
        return future

    def lend(self, arguments: Sequence[Any]) -> Loan | None:
        """What puts the large ones on the shelf, if there can be any."""
        return self._pool.lend(shipped.METHOD) if len(arguments) > 1 else None

    def chunks(self, is_star: bool) -> ShippedChunks:
        """The function as something to map."""
        return ShippedChunks(self, "arguments" if is_star else "item", self._pool._options)

    def is_new(self) -> bool:
        """Whether the next call carries the function."""
        packed = self._packed
        if packed.sendings < 0:
            method = self._pool.method(shipped.METHOD)
            packed.sendings = DEFINED_PER_SLOT * (method.slots if method else 1)
        packed.sendings -= packed.sendings > 0
        return packed.sendings > 0

    def post(
        self,
        id: int,
        arguments: Sequence[Any],
        each: str | None,
        is_defined: bool,
        sink: Callable[..., None],
        listener: Listener | None = None,
        attempts_max: int | None = None,
        loan: Loan | None = None,
        is_again: bool = False,
    ) -> int:
        """Sends a call, with large attachments on the shelf if there is a `loan`; its size in bytes."""
        packed = self._packed
        link = self._pool.link
        is_small = len(arguments) == 1 and len(arguments[0]) <= shipped.TEXT_BYTES_MAX
        if is_small and not (is_defined or each or packed.setup or listener):
            # What nearly all single calls are: as text, and without an encoder.
            head = b'{"function":"%b","arguments":"%b"}'
            text = head % (packed.hash.encode(), b2a_base64(arguments[0], newline=False))
            self._pool.post(link, id, shipped.METHOD, text, wire.NO_FRAMES, sink)
            return len(text)
        params: dict[str, Any] = {"function": packed.hash, "arguments": arguments}
        if each is not None:
            params["each"] = each
        if packed.setup is not None:
            params["setup"] = packed.setup.hash
        if is_defined:
            params["define"] = packed.definitions()
        if listener is not None:
            params["stream"] = True
        text, frames = wire.encode(params, share=loan.share if loan is not None else None)
        self._pool.post(
            link,
            id,
            shipped.METHOD,
            text,
            frames,
            sink,
            listener=listener,
            attempts_max=attempts_max,
            loan=loan,
            is_again=is_again,
        )
        size = sum(memoryview(frame).nbytes for frame in frames)
        return size + loan.bytes if loan is not None else size


_TEXT_HEAD = b'{"jsonrpc":"2.0","result":"'


class ShippedFuture(Future[Any]):
    """The future of a shipped function's call."""

    arguments: Sequence[Any]
    listener: Listener | None = None

    def __init__(self, shipment: Shipment, *rest: Any) -> None:
        super().__init__(*rest)
        self._shipment = shipment

    def deliver(self, body: bytes, frames: Sequence[wire.Buffer], error: BaseException | None) -> None:
        try:
            if error is not None:
                raise error
            if body.startswith(_TEXT_HEAD):
                # What nearly all answers are; base64 has no escapes.
                result = pickle.loads(a2b_base64(body[len(_TEXT_HEAD) : body.find(b'"', len(_TEXT_HEAD))]))
            else:
                answer = _read_answer(body, frames)
                if isinstance(answer, dict):
                    self.post_again()
                    return
                result = pickle.loads(answer[0], buffers=answer[1:])
        except Exception as failure:
            if not self.must_send_frames(failure):
                self.fail(failure)
        else:
            self.succeed(result)

    def post_again(self) -> None:
        """Makes the call anew, with the function and all attachments in it."""
        self.is_again = True
        self._shipment.post(
            self.id, self.arguments, None, True, self.deliver, self.listener, is_again=True
        )


class ShippedChunks:
    """Chunks of a shipped function: pickled lists, answered by pickled lists."""

    method = shipped.METHOD
    per_slot = 2

    def __init__(self, shipment: Shipment, each: str, options: Options) -> None:
        self._shipment = shipment
        self._each = each
        # A timeout is that of each item, and the broker keeps those of calls. What must not run twice
        # is not run with others, of which one may end the process.
        is_single = options.timeout is not None or options.attempts == 1
        self.items_max = 1 if is_single else CHUNK_ITEMS_MAX

    def send(
        self, items: list[Any], sink: Callable[..., None], attempts_max: int | None
    ) -> tuple[int, int]:
        try:
            arguments = _dump_arguments(items)
        except NotPicklable:
            for item in items:
                _try_to_dump(item, f"the item {item!r:.80}")
            raise
        shipment, each = self._shipment, self._each
        link = shipment._pool.link
        id = next(link.ids)

        def post_as_frames(sink: Callable[..., None]) -> None:
            shipment.post(id, arguments, each, True, sink, attempts_max=attempts_max, is_again=True)

        def judge(body: bytes, frames: Sequence[wire.Buffer], error: BaseException | None) -> None:
            if error is None and body.startswith(b'{"jsonrpc":"2.0","result":{"missing"'):
                post_as_frames(sink)
            else:
                sink(body, frames, error)

        is_new = shipment.is_new()
        loan = shipment.lend(arguments)
        taker = judge if loan is None else loan.sink(judge, post_as_frames)
        return id, shipment.post(id, arguments, each, is_new, taker, attempts_max=attempts_max, loan=loan)

    def read(self, body: bytes, frames: Sequence[Any], count: int) -> Outcome:
        answer = _read_answer(body, frames)
        results, failures = pickle.loads(answer[0], buffers=answer[1:])
        restored = {at: restore_pickled(from_object(error)) for at, error in failures.items()}
        return results, restored  # type: ignore[return-value]

    def item_seconds(self, told: Method) -> float | None:
        # What the broker tells is of all functions that were sent.
        return self._shipment._packed.item_seconds

    def learn(self, item_seconds: float) -> None:
        self._shipment._packed.item_seconds = item_seconds


def _read_answer(body: bytes, frames: Sequence[wire.Buffer]) -> Any:
    """The attachments of an answer, not copied; a small one's text; or the object that says that a function
    is missing."""
    try:
        answer = wire.read_answer(body, (), None) if not frames else _frames_in_order(body, frames)
    except MethodNotFound as error:
        raise ApplyNotAllowed(error.code, NOT_ALLOWED, error.data) from None
    except Exception as error:
        raise _restored(error) from None
    return answer


_FRAME = re.compile(rb'\{"\$frame":(\d+)\}')


def _read_item(value: Any, frames: Sequence[wire.Buffer]) -> Any:
    head, *buffers = (wire.view(frames[part[wire.FRAME]]) for part in value)
    return pickle.loads(head, buffers=buffers)


def _frames_in_order(body: bytes, frames: Sequence[wire.Buffer]) -> list[memoryview]:
    # The result is `[{"$frame": 0}, {"$frame": 1}, …]`; those off the shelf come after the others.
    views = [wire.view(frame) for frame in frames]
    return views if len(views) < 2 else [views[int(at)] for at in _FRAME.findall(body)]


def _restored(error: Exception) -> Exception:
    from .errors import CallError

    found = restore_pickled(error) if isinstance(error, CallError) else error
    return found if isinstance(found, Exception) else error


def _dump_arguments(value: Any) -> tuple[Any, ...]:
    try:
        # Of a tuple of bytes the garbage collector takes no notice.
        return tuple(shipped.dump(value))
    except TypeError as error:
        raise NotPicklable(str(error)) from error


def _try_to_dump(value: Any, name: str) -> None:
    """Raises `NotPicklable` with the value's name if it is the one that cannot be sent."""
    try:
        shipped.dump(value)
    except TypeError as error:
        raise NotPicklable(f"{name} cannot be sent: {error.__cause__ or error}") from error
