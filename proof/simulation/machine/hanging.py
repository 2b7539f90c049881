"""A disk that hangs: what was asked of it returns only once that is over, or never."""

from collections import deque
from collections.abc import Callable

from kvstore.storage.log_writer import LogWriter
from paxos.records import Record


class Hang:
    """While it is `on`, blocking calls that are due stay where they are. A program that is killed
    meanwhile leaves calls under way, as in any crash."""

    def __init__(self) -> None:
        self.on = False
        self._parked: list[Callable[[], None]] = []

    def park(self, go_on: Callable[[], None]) -> bool:
        """Keep `go_on` until it is over; False, and nothing is kept, if it does not hang."""
        if self.on:
            self._parked.append(go_on)
        return self.on

    def begin(self) -> None:
        """From now on nothing returns."""
        self.on = True

    def end(self) -> None:
        """All that was due returns."""
        self.on = False
        parked, self._parked = self._parked, []
        for go_on in parked:
            go_on()


class AgedWriter:
    """A writer of the log that knows how long its oldest commit has been under way."""

    def __init__(self, writer: LogWriter, now_s: Callable[[], float]) -> None:
        self._writer = writer
        self._now_s = now_s
        self._asked_s: deque[float] = deque()

    @property
    def oldest_s(self) -> float | None:
        """When the oldest commit under way was asked for; None if there is none."""
        return self._asked_s[0] if self._asked_s else None

    @property
    def waits_for_room(self) -> str:
        """See `LogWriter`."""
        return self._writer.waits_for_room

    def stop_waiting(self) -> None:
        """See `LogWriter`."""
        self._writer.stop_waiting()

    def submit(self, records: list[Record], then: Callable[[], None]) -> None:
        """See `LogWriter`."""
        self._asked_s.append(self._now_s())

        def done() -> None:
            self._asked_s.popleft()
            then()

        self._writer.submit(records, done)

    def close(self) -> None:
        """See `LogWriter`."""
        self._writer.close()
