"""A process's standard error as a pipe, whose reader can stop reading and can go away.

A FIFO, so that a reader can come back. While it is read, all of it goes into a file.
"""

import asyncio
import fcntl
import os
from pathlib import Path

PIPE_BYTES = 4096
"""Small, so that few lines fill it."""
READ_BYTES = 1 << 16
FILLER = b"\0"
"""Never part of a log; so it is taken out again."""


class LogPipe:
    """The reader's end. Belongs to one event loop."""

    def __init__(self, fifo: Path, log_file: Path) -> None:
        """Make `fifo`, which writers open by its path. Raises OSError."""
        self.fifo = fifo
        self._log_file = log_file
        self._descriptor = -1
        self._reads = False
        self.lines = 0
        """How many came, ever."""
        os.mkfifo(fifo, 0o600)

    def read(self) -> None:
        """Read all that comes from now on."""
        if self._reads:
            return
        if self._descriptor < 0:
            # Also for writing: otherwise it would be at its end whenever the process is away.
            self._descriptor = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        asyncio.get_running_loop().add_reader(self._descriptor, self.drain)
        self._reads = True

    def drain(self) -> None:
        """Read what is there now, if it is read at all just now."""
        while self._reads:
            try:
                data = os.read(self._descriptor, READ_BYTES)
            except BlockingIOError:
                return
            data = data.replace(FILLER, b"")
            self.lines += data.count(b"\n")
            with self._log_file.open("ab") as file:
                file.write(data)

    def fill(self) -> None:
        """Read no more, and make it full, so that whoever writes must wait."""
        self.drain()
        self._stop_reading()
        fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            while True:
                os.write(self._descriptor, FILLER * PIPE_BYTES)
        except BlockingIOError:
            pass
        # A write longer than the pipe's atomic size may leave some bytes free.
        try:
            while True:
                os.write(self._descriptor, FILLER)
        except BlockingIOError:
            pass

    def leave(self) -> None:
        """The reader goes away: whoever writes gets an error."""
        self.drain()
        self._stop_reading()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _stop_reading(self) -> None:
        if self._reads:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._reads = False
