"""A continuous backup of a real cluster in a process of its own, a writer, and a model of what was
written, to compare restores with."""

import random
import signal
import subprocess
import sys
import threading
import time
from bisect import bisect_right
from pathlib import Path
from tempfile import TemporaryDirectory

from kvstore.backup.catalogue import Catalogue
from kvstore.backup.restoring import restore
from kvstore.backup.sources import RestorePoint
from kvstore.backup.state_files import opened
from kvstore.backup.targets import open_target
from kvstore.client import BlockingClient
from proof.processes.waiting import eventually

KEYS = 40


class FollowProcess:
    """`kvstore backup --follow`; leaving the block ends it in order."""

    def __init__(self, where: str, place: str, log: Path, *flags: str) -> None:
        words = ("backup", "--follow", place, "--endpoints", where, "--flush-s", "0.1", *flags)
        self._words = [sys.executable, "-m", "kvstore_cli.main", *words]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._words, stderr=log)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def __enter__(self) -> "FollowProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        print(self._log.read_text()[-4000:])


class Writer:
    """Puts and deletes keys by itself until it is stopped; `done` are its acknowledged writes, by
    revision: key, value or None, and when they were begun and acknowledged."""

    def __init__(self, where: str, seed: int = 1) -> None:
        self._where = where
        self._random = random.Random(seed)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.done: dict[int, tuple[bytes, bytes | None, float, float]] = {}
        self.failure: BaseException | None = None

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(60)

    def more(self, count: int) -> None:
        wanted = len(self.done) + count

        def there() -> bool:
            assert self.failure is None, self.failure
            return len(self.done) >= wanted

        eventually(there, f"{count} more writes")

    def _run(self) -> None:
        try:
            with BlockingClient(self._where, timeout_s=30) as store:
                for entry in list(store.list(prefix="follow/", keys_only=True)):
                    store.delete(entry.key)  # another writer's, of the same cluster
                number = 0
                while not self._stopped.is_set():
                    number += 1
                    self._write(store, number)
        except BaseException as error:
            self.failure = error

    def _write(self, store: BlockingClient, number: int) -> None:
        key = b"follow/%d" % self._random.randrange(KEYS)
        began_s = time.time()
        if self._random.random() < 0.2:
            gone = store.delete(key)
            if gone.deleted:
                self.done[gone.revision] = key, None, began_s, time.time()
        else:
            value = b"%d" % number * self._random.randrange(1, 50)
            revision = store.put(key, value).revision
            self.done[revision] = key, value, began_s, time.time()

    def model(self, revision: int) -> dict[bytes, bytes]:
        """What it had made by then."""
        found: dict[bytes, bytes] = {}
        for each in sorted(self.done):
            if each > revision:
                break
            key, value, _, _ = self.done[each]
            if value is None:
                found.pop(key, None)
            else:
                found[key] = value
        return found


def kept_through(place: str) -> int:
    """The last revision that the backup at `place` holds without a hole from its first base on."""
    catalogue = Catalogue(open_target(place).names())
    if not catalogue.bases:
        return 0
    return catalogue.reaches(catalogue.bases[0])


def check_moments(place: str, writer: Writer, count: int, seed: int = 2) -> None:
    """Restores to random revisions and moments equal the model."""
    chosen = random.Random(seed)
    first = Catalogue(open_target(place).names()).bases[0]
    revisions = [revision for revision in sorted(writer.done) if revision >= first.revision]
    for number in range(count):
        wanted = chosen.choice(revisions)
        if number % 2:
            at_ms = int(writer.done[wanted][3] * 1000)
            if at_ms > first.created_ms:
                check_time(place, writer, at_ms)
                continue
        as_of, found = restored(place, RestorePoint(wanted))
        assert as_of == wanted and found == writer.model(wanted)


def check_time(place: str, writer: Writer, at_ms: int) -> None:
    """What was begun after the moment is not there; whatever is there is one state, as of one
    revision."""
    as_of, found = restored(place, RestorePoint(None, at_ms))
    assert found == writer.model(as_of)
    begun = sorted((done[2], revision) for revision, done in writer.done.items())
    before = bisect_right(begun, (at_ms / 1000 + 0.001, 1 << 62))
    assert as_of <= max((revision for _, revision in begun[:before]), default=as_of)


def restored(place: str, moment: RestorePoint) -> tuple[int, dict[bytes, bytes]]:
    """As of which revision, and the writer's keys."""
    with TemporaryDirectory(prefix="kvstore-test-") as directory:
        node = Path(directory) / "node"
        done = restore(place, [node], moment)
        with opened(node / "state.mdb") as (_, state):
            items = state.range(b"follow/", b"follow0", limit=10 * KEYS).items
        return done.built.as_of, {item.key: item.value for item in items}
