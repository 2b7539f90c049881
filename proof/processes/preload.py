"""A disk that hangs and a wall clock that steps, for one process that was started with both.

A small library, compiled when it is needed, stands between the process and the C library
(LD_PRELOAD). It changes `fsync` and its kin and the readings of the wall clock; writes, reads and
the monotonic clock are the system's. So a sync hangs as on a device that answers nothing: the
thread that asked waits, and all others go on.
"""

import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("preload.c")
COMPILERS = ("cc", "gcc", "clang")
BUILD_S_MAX = 60.0
_HANG, _OFFSET, _HUNG, _SHIFTED, _WORDS = range(5)
"""Of the shared file, 64 bits each; as in preload.c."""


class PreloadUnavailable(Exception):
    """There can be no such library here; the text says why."""


def unavailable() -> str:
    """Why this machine cannot have the library; empty if it can, as far as can be seen."""
    if sys.platform != "linux":
        return "LD_PRELOAD as it is used here needs Linux"
    if not any(map(shutil.which, COMPILERS)):
        return f"a C compiler is needed, and there is none of {', '.join(COMPILERS)} in the path"
    return ""


def build(directory: Path) -> Path:
    """The library, compiled into `directory`. Raises PreloadUnavailable."""
    if reason := unavailable():
        raise PreloadUnavailable(reason)
    compiler = next(filter(None, map(shutil.which, COMPILERS)))
    library = directory / "preload.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S_MAX)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PreloadUnavailable(str(error)) from None
    if done.returncode:
        raise PreloadUnavailable(f"{compiler}: {done.stderr.strip()}")
    return library


class NodeGrip:
    """The hold on one process, also on those that are started later with the same `variables`."""

    def __init__(self, library: Path, file: Path) -> None:
        """`file` is made. Raises OSError."""
        self.variables = {"LD_PRELOAD": str(library), "NODE_GRIP": str(file)}
        file.write_bytes(bytes(mmap.PAGESIZE))
        descriptor = os.open(file, os.O_RDWR)
        try:
            self._map = mmap.mmap(descriptor, mmap.PAGESIZE)
        finally:
            os.close(descriptor)
        self._words = memoryview(self._map).cast("q")

    def hang(self, on: bool) -> None:
        """Let every sync of the process wait until this is called with False."""
        self._words[_HANG] = int(on)

    def step(self, offset_s: float) -> None:
        """The process's wall clock is `offset_s` ahead of the true one from now on."""
        self._words[_OFFSET] = int(offset_s * 1e9)

    @property
    def hung(self) -> int:
        """How many syncs had to wait, ever."""
        return self._words[_HUNG]

    @property
    def shifted(self) -> int:
        """How often the wall clock was read while it was off, ever."""
        return self._words[_SHIFTED]

    def close(self) -> None:
        """Let go: nothing hangs, the clock is right."""
        self.hang(False)
        self.step(0.0)
        self._words.release()
        self._map.close()
