"""Files and their names as a crash leaves them: what was not synced is kept in part.

A file is what programs read (the system's memory) and what lies on the disk, in sectors of 512
bytes. A sector that was written and not synced is *dirty*: at a crash the disk has it or not, each
for itself. A sync that fails leaves the same, and the sectors count as clean from then on: what
programs read is not what a crash leaves, and the next sync says nothing. Linux does that.

A name (created, given to another file, removed) is durable after a sync of its directory; a crash
before keeps some of the changes, in their order, as a journal does.
"""

import random
from pathlib import Path

from proof.simulation.machine.lmdb_model import EnvironmentFile

SECTOR_BYTES = 512


class DiskFile:
    """`content` is what programs read, `synced` what a crash leaves at least."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.synced = bytearray()
        self.version = 0
        self._dirty: set[int] = set()

    def write(self, offset: int, data: bytes) -> None:
        """Into memory."""
        end = offset + len(data)
        if offset > len(self.content):
            self.content.extend(bytes(offset - len(self.content)))
        self.content[offset:end] = data
        self._dirty.update(range(offset // SECTOR_BYTES, -(-end // SECTOR_BYTES)))

    def sync(self) -> None:
        """All of it is on the disk."""
        self._persist(self._dirty)
        self._dirty.clear()

    def fail_sync(self, randomness: random.Random) -> None:
        """Some of it is, and nobody knows."""
        self._persist(self._torn(randomness))
        self._dirty.clear()

    def crash(self, randomness: random.Random) -> None:
        """What is on the disk is all there is."""
        self._persist(self._torn(randomness))
        self._dirty.clear()
        self.content = bytearray(self.synced)

    def _torn(self, randomness: random.Random) -> list[int]:
        """The dirty sectors that the disk has: all, none, the first ones, or any."""
        dirty = sorted(self._dirty)
        if not dirty:
            return []
        match randomness.randrange(4):
            case 0:
                return dirty
            case 1:
                return []
            case 2:
                return dirty[: randomness.randrange(len(dirty) + 1)]
        return [sector for sector in dirty if randomness.random() < 0.5]

    def _persist(self, sectors: "set[int] | list[int]") -> None:
        if not sectors:
            return
        self.version += 1
        end = min((max(sectors) + 1) * SECTOR_BYTES, len(self.content))
        if end > len(self.synced):
            self.synced.extend(bytes(end - len(self.synced)))
        for sector in sectors:
            at = sector * SECTOR_BYTES
            self.synced[at : at + SECTOR_BYTES] = self.content[at : at + SECTOR_BYTES]


StoredFile = DiskFile | EnvironmentFile


class Names:
    """The files by name: `now`, and as `durable` as directories were synced."""

    def __init__(self) -> None:
        self.now: dict[Path, StoredFile] = {}
        self.durable: dict[Path, StoredFile] = {}
        self._changes: list[tuple[Path, StoredFile | None, Path | None]] = []

    def put(self, path: Path, file: StoredFile, old: Path | None = None) -> None:
        """`file` is called `path`, and no longer `old`."""
        if old is not None:
            del self.now[old]
        self.now[path] = file
        self._changes.append((path, file, old))

    def put_durably(self, path: Path, file: StoredFile) -> None:
        """The name is on the disk at once."""
        self.now[path] = self.durable[path] = file

    def remove(self, path: Path) -> None:
        """It may be absent."""
        if self.now.pop(path, None) is not None:
            self._changes.append((path, None, None))

    def sync(self, directory: Path) -> None:
        """The names in `directory` are durable."""
        rest = []
        for change in self._changes:
            if change[0].parent == directory:
                self._make_durable(*change)
            else:
                rest.append(change)
        self._changes = rest

    def crash(self, randomness: random.Random) -> None:
        """The disk may have had some of the changes that were not synced."""
        for change in self._changes[: randomness.randrange(len(self._changes) + 1)]:
            self._make_durable(*change)
        self._changes.clear()
        self.now = dict(self.durable)

    def clear(self) -> None:
        """Nothing is left."""
        self.now.clear()
        self.durable.clear()
        self._changes.clear()

    def _make_durable(self, path: Path, file: StoredFile | None, old: Path | None) -> None:
        if old is not None:
            self.durable.pop(old, None)
        if file is None:
            self.durable.pop(path, None)
        else:
            self.durable[path] = file
