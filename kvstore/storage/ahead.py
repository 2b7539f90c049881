"""A segment to be, made while the one before is still written to: no commit waits for its zeros.

Sixteen MiB of zeros take some 40 ms to make and to sync. They are needed whenever a segment is full
and no old one has been given up to be used again: while a log is young, and while more is written
between two checkpoints than a segment holds.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from kvstore.storage.disk import Disk, File
from kvstore.storage.segments import zeroed_file

PAUSE_S = 0.005
"""After each MiB. Without, a commit that falls into the making of a file takes twice as long."""


class AheadFile:
    """At most one file at `path`. `begin`, `take` and `clear` belong to the log's thread, and what
    `begin` gives runs once, on another.

    A file counts only in the life of the process that made it: what a crash left of one is removed
    by `clear`, and so is one of which a write or a sync failed.
    """

    def __init__(self, disk: Disk, path: Path) -> None:
        self.path = path
        self._disk = disk
        self._begun = False
        self._given_up = threading.Event()
        self._failed = False
        self._made: tuple[File, int] | None = None

    @property
    def begun(self) -> bool:
        """Whether there is one, or is to be one."""
        return self._begun

    def begin(self, size: int) -> Callable[[], None]:
        """What makes a file of `size` zeros, synced. It raises nothing: if it cannot, nobody has
        lost anything, and the log makes its own when it needs one, or says why not."""
        self._begun = True

        def make() -> None:
            try:
                made = zeroed_file(self._disk, self.path, size, self._go_on)
            except OSError:
                self._failed = True
                return
            self._made = (made, size)

        return make

    def _go_on(self, file: File) -> None:
        """Between two pieces: the disk is to be free for commits, and who closes waits. Raises
        OSError."""
        file.sync()
        if self._given_up.wait(PAUSE_S):
            raise InterruptedError

    def take(self, needed: int) -> tuple[File, int] | None:
        """The file and its size, if it is made and large enough; to be renamed before another one
        is begun."""
        if self._failed:
            self._failed = self._begun = False  # for the next segment it is tried again
        made = self._made
        if made is None or made[1] < needed:
            return None
        self._made, self._begun = None, False
        return made

    def give_up(self) -> None:
        """What is being made need not be finished. For any thread."""
        self._given_up.set()

    def clear(self) -> None:
        """Nothing is being made: remove what is there. Raises OSError."""
        if self._made is not None:
            self._made[0].close()
        self._made = None
        self._begun = self._failed = False
        self._given_up.clear()
        self._disk.remove(self.path)
