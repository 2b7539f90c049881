"""Whether this node still serves: it fails once and for good, or it shuts down."""

import asyncio
from collections.abc import Callable

from kvstore.errors import DataDamaged, DivergedState, KvError, Stopping, StorageError
from kvstore.event_log import EventLog
from kvstore.peers.refusals import Ending


class Health:
    """Made on the replica's loop. `failure` is the reason once the node had to stop, "" before."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self.failure = ""
        self.ending = Ending.FAILED
        """How it ended, once there is a `failure`."""
        self.stopping = False
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._fail_waiting: Callable[[KvError], None] = _nobody_waits
        self._turned_s: float | None = None

    def start(self, fail_waiting: Callable[[KvError], None]) -> None:
        """From now on `fail_waiting(error)` answers everybody who waits when the node fails."""
        self._fail_waiting = fail_waiting

    def check(self) -> None:
        """Raises Stopping if this node has failed or is shutting down."""
        if self.failure:
            raise self._stopping()
        if self.stopping:
            raise Stopping("this node is shutting down")

    def _stopping(self) -> Stopping:
        return Stopping(f"this node has {'failed' if self._failed else 'ended'}: {self.failure}")

    @property
    def _failed(self) -> bool:
        return self.ending in (Ending.FAILED, Ending.DAMAGED)

    def fail(self, reason: str, ending: Ending = Ending.FAILED) -> None:
        """Stop serving at once, and say why. Nothing is acknowledged from here on."""
        if self.failure:
            return
        self.failure, self.ending = reason, ending
        self._events.event("failed" if self._failed else ending.value, reason=reason)
        self._fail_waiting(self._stopping())
        if not self.failed.done():
            self.failed.set_result(reason)

    def turned(self, now_s: float) -> None:
        """The ticker is at work."""
        self._turned_s = now_s

    def turned_s_ago(self, now_s: float) -> float:
        """How long ago the ticker was last at work; 0 before the start."""
        return 0.0 if self._turned_s is None else now_s - self._turned_s

    def watch(self, task: "asyncio.Task[None]") -> None:
        """A part that runs as long as the node does: if `task` ends by an error, so does the node.

        Failing schedule otherwise: the ticker dies of a log that cannot be written, and the node
        neither leads nor follows for ever, while its process answers that it is well.
        """
        task.add_done_callback(self._part_ended)

    def _part_ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail_by(error)

    def fail_by(self, error: BaseException) -> None:
        """A state that cannot be, or a bug: the node's memory is not to be trusted."""
        if isinstance(error, DivergedState):
            self.fail(str(error), Ending.DAMAGED)
            return
        self._events.defect(error)
        self.fail(f"{type(error).__name__}: {error}")

    def guard(self, call: Callable[[], None]) -> None:
        """`call()`; whatever it raises stops the node."""
        try:
            call()
        except Exception as error:
            self.fail_by(error)

    def storage_failed(self, error: StorageError) -> None:
        """D2: never carry on past a failed write."""
        ending = Ending.DAMAGED if isinstance(error, DataDamaged) else Ending.FAILED
        self.fail(str(error), ending)


def _nobody_waits(_: KvError) -> None:
    """Before the start."""
