"""A full disk where a new file is needed: nothing of it is written yet, so nothing is lost by
waiting until somebody has made room.

That is so only where a file is made. A write into a file that is there, or a sync, that fails ends
the process (D2): what it left behind is unknown.
"""

import errno
import threading
from collections.abc import Callable

NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
PAUSE_S = 0.25


class RoomWait:
    """One thread waits; any other may read `reason` and give up."""

    def __init__(self, free_bytes: Callable[[], int | None]) -> None:
        self._free_bytes = free_bytes
        self._given_up = threading.Event()
        self.reason = ""
        """Why somebody waits; "" if nobody does."""

    def wait(self, error: OSError, size: int) -> bool:
        """A file of `size` bytes was not made, by `error`. Waits until there seems to be room for
        it; False at once if it is not room that is missing, or if nobody is to wait any more."""
        if error.errno not in NO_ROOM:
            return False
        self.reason = f"{size} bytes are needed ({error.strerror})"
        while not self._given_up.wait(PAUSE_S):
            try:
                free = self._free_bytes()
            except OSError:
                continue
            if free is None or free > size:
                return True
        self.reason = ""
        return False

    def over(self) -> None:
        """The file is made."""
        self.reason = ""

    def give_up(self) -> None:
        """Who waits for room waits no longer, and neither will anybody else."""
        self._given_up.set()
