"""Where records go on their way to the disk: group commit on a thread of its own."""

import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from kvstore.errors import StorageFailed
from kvstore.storage.room import RoomWait
from kvstore.storage.segment_log import SegmentLog
from paxos.records import Record


class LogWriter(Protocol):
    """Where the replica sends groups of records. The simulation has its own."""

    def submit(self, records: list[Record], then: Callable[[], None]) -> None:
        """Commit `records`; later, and in order of submission, call `then` on the caller's loop."""

    @property
    def waits_for_room(self) -> str:
        """Why nothing is committed before the disk has room; "" if that is not so."""

    def stop_waiting(self) -> None:
        """From now on a commit without room fails."""

    def close(self) -> None:
        """Finish what was submitted and release the disk."""


class ThreadedLogWriter:
    """Group commit: a thread that writes all that came while the last commit was under way.

    `post` runs a callable on the replica's loop from any thread; `failed` is called there, once,
    with the reason when a commit fails, after which nothing is written or called any more.
    """

    def __init__(
        self,
        store: SegmentLog,
        post: Callable[[Callable[[], None]], object],
        failed: Callable[[StorageFailed], None],
    ) -> None:
        self._store = store
        self._post = post
        self._failed = failed
        self._queue: queue.SimpleQueue[tuple[list[Record], Callable[[], None]] | None] = (
            queue.SimpleQueue()
        )
        self._room = store.room = RoomWait(store.free_bytes)
        self._ahead: threading.Thread | None = None
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def submit(self, records: list[Record], then: Callable[[], None]) -> None:
        self._queue.put((records, then))

    @property
    def waits_for_room(self) -> str:
        return self._room.reason

    def stop_waiting(self) -> None:
        self._room.give_up()

    def close(self) -> None:
        self._room.give_up()
        self._queue.put(None)
        self._store.give_up_ahead()
        self._thread.join()
        if self._ahead is not None:
            self._ahead.join()
        self._store.close()

    def _run(self) -> None:
        open_ = True
        while open_:
            groups = [self._queue.get()]
            while not self._queue.empty():
                groups.append(self._queue.get())
            open_ = None not in groups
            work = [group for group in groups if group is not None]
            records = [record for group, _ in work for record in group]
            if records:
                try:
                    self._store.commit(records)
                except Exception as error:
                    # A defect is no better than a bad disk: nobody may wait for a commit for ever.
                    failure = (
                        error if isinstance(error, StorageFailed) else StorageFailed(str(error))
                    )
                    self._post(partial(self._failed, failure))
                    return
            for _, then in work:
                self._post(then)
            self._make_ahead()

    def _make_ahead(self) -> None:
        """The next segment, by a thread that lives as long as that takes."""
        make = self._store.make_ahead()
        if make is not None:
            self._ahead = threading.Thread(target=make, name="ahead", daemon=True)
            self._ahead.start()
