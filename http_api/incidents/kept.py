"""Recordings that this node kept by itself: files of its data directory, few and of bounded size.

Each holds one line about itself and then what `GET /v1/node/recording` answered at that moment.
"""

import gzip
import json
import os
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

BYTES_MAX = 32 << 20
"""Of all of them together."""
NEWEST_KEPT = 4
"""These are not thinned out."""
NEAR_MS = 10_000
"""Nodes that kept something within so long of each other mean the same incident."""
SUFFIX = ".ndjson.gz"
_LEVEL = 1
"""Of the compression: half of the time of the default, and a tenth more bytes."""


class KeptIncident(NamedTuple):
    """One of them. `at_ms` is by this node's clock, since 1970, and names the file."""

    at_ms: int
    causes: tuple[str, ...]
    size: int


def thinned(kept: Sequence[KeptIncident], most: int, bytes_max: int) -> list[KeptIncident]:
    """What is to go so that `most` remain, of so many bytes at most. `kept` is in the order of
    time. Of those that are not new the one goes that came soonest after the one before it: a storm
    is told by how it began, and what happened only once is kept long."""
    left, gone = list(kept), []
    while left and (len(left) > most or sum(one.size for one in left) > bytes_max):
        old = range(1, max(1, len(left) - NEWEST_KEPT))
        at = min(old, key=lambda i: left[i].at_ms - left[i - 1].at_ms, default=0)
        gone.append(left.pop(at))
    return gone


class KeptIncidents:
    """Those in `directory`, `most` at most. Whatever touches files may block and raise OSError."""

    def __init__(self, directory: Path, most: int) -> None:
        self._directory = directory
        self.most = most
        self._kept: list[KeptIncident] = []

    def load(self) -> None:
        """Look at what an earlier process left. A file that cannot be read is left out."""
        self._kept = []
        if not self._directory.exists():
            return
        for path in self._directory.glob(f"*{SUFFIX}"):
            with suppress(OSError, EOFError, ValueError, KeyError, TypeError, zlib.error):
                with gzip.open(path) as file:
                    head = json.loads(file.readline(1 << 16))
                causes = tuple(map(str, head["causes"]))
                self._kept.append(KeptIncident(int(head["at_ms"]), causes, path.stat().st_size))
        self._kept.sort()

    def all(self) -> list[KeptIncident]:
        """Oldest first."""
        return list(self._kept)

    def nearest(self, at_ms: int) -> KeptIncident | None:
        """The one nearest to that moment; None if none is near."""
        found = min(self._kept, key=lambda one: abs(one.at_ms - at_ms), default=None)
        return found if found is not None and abs(found.at_ms - at_ms) <= NEAR_MS else None

    def read(self, kept: KeptIncident) -> str:
        """The recording."""
        with gzip.open(self._path(kept.at_ms), "rt") as file:
            file.readline()
            return file.read()

    def add(self, at_ms: int, causes: Sequence[str], recording: bytes) -> None:
        """Keep one more, and thin them out."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        head = json.dumps({"at_ms": at_ms, "causes": list(causes)}).encode()
        data = gzip.compress(head + b"\n" + recording, _LEVEL)
        path = self._path(at_ms)
        part = path.with_suffix(".part")
        part.write_bytes(data)
        os.replace(part, path)
        kept = sorted((*self._kept, KeptIncident(at_ms, tuple(causes), len(data))))
        for one in thinned(kept, self.most, BYTES_MAX):
            self._path(one.at_ms).unlink(missing_ok=True)
            kept.remove(one)
        self._kept = kept

    def _path(self, at_ms: int) -> Path:
        return self._directory / f"{at_ms}{SUFFIX}"
