"""A call's future: a `concurrent.futures.Future` that can cancel on the cluster."""

from __future__ import annotations

import concurrent.futures
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import InvalidParams
from .wire import Buffer, read_answer

if TYPE_CHECKING:
    from .link import Link
    from .loan import Loan

T = TypeVar("T")


class _Condition(threading.Condition):
    """A condition that is small while nobody waits for it. The original has five bound methods of its lock and
    a queue: of thousands of open futures, half of what the garbage collector walks through."""

    def __init__(self) -> None:
        self._lock: Any = threading.RLock()
        self._waiters: Any = ()

    def acquire(self, *args: Any) -> bool:
        return self._lock.acquire(*args)  # type: ignore[no-any-return]

    def release(self) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        if not self._waiters:
            self._waiters = deque()
        return super().wait(timeout)

    def _release_save(self) -> Any:
        return self._lock._release_save()

    def _acquire_restore(self, saved: Any) -> None:
        self._lock._acquire_restore(saved)

    def _is_owned(self) -> bool:
        return self._lock._is_owned()  # type: ignore[no-any-return]


class Future(concurrent.futures.Future[T]):
    """The result that a call will have.

    `method` is what was called, `id` the call's number in this connection.
    """

    def __init__(self, link: Link, id: int, method: str, read: Callable[..., Any] = read_answer) -> None:
        super().__init__()
        self._condition = _Condition()
        self.id = id
        self.method = method
        self._link = link
        self._read = read
        self._post_as_frames: Callable[[], None] | None = None
        #: Whether the call had to be made a second time, with more in it.
        self.is_again = False

    @property
    def key(self) -> str:
        """Names the call in the broker: `muster cancel --key KEY`."""
        return self._link.key(self.id, self.is_again)

    def cancel(self) -> bool:
        """Cancels the call, running or not, here and on the cluster. False: it has ended already."""
        if not super().cancel():
            return False
        if self.set_running_or_notify_cancel():
            return False
        self._link.cancel([self.id])
        return True

    def wait(self) -> T:
        """The result; Ctrl-C ends the call, too. For whoever keeps no reference to the future."""
        try:
            return self.result()
        except BaseException:
            self.cancel()
            raise

    def borrow(self, loan: Loan, post_as_frames: Callable[[], None]) -> None:
        """Its call has attachments on the shelf, or else sends them so."""
        self._post_as_frames = post_as_frames
        self.add_done_callback(loan.end)

    def must_send_frames(self, failure: BaseException) -> bool:
        """Whether the call failed because the shelf is out of somebody's reach; then it is made again."""
        post = self._post_as_frames
        if post is None or not isinstance(failure, InvalidParams) or "shelf" not in failure.data:
            return False
        self._post_as_frames = None
        try:
            post()
        except Exception as error:
            # A message carries fewer frames than a shelf.
            self.fail(error)
        return True

    def give_up(self, error: BaseException) -> None:
        """Ends with an exception here, and the call on the cluster."""
        self.fail(error)
        self._link.cancel([self.id])

    def deliver(self, body: bytes, frames: Sequence[Buffer], error: BaseException | None) -> None:
        """Takes the answer, on the link's thread."""
        try:
            if error is not None:
                raise error
            result = self._read(body, frames, self.method)
        except Exception as failure:
            if not self.must_send_frames(failure):
                self.fail(failure)
        else:
            self.succeed(result)

    def succeed(self, result: Any) -> None:
        """Ends with a result, unless it was cancelled in the meantime."""
        try:
            self.set_result(result)
        except concurrent.futures.InvalidStateError:
            pass

    def fail(self, error: BaseException) -> None:
        """Ends with an exception, unless it was cancelled in the meantime."""
        try:
            self.set_exception(error)
        except concurrent.futures.InvalidStateError:
            pass
