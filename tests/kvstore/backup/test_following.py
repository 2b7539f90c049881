"""A continuous backup of a node: it goes on where its files end, tells of a hole, forgets nothing.

With processes that are killed: `tests/integration/test_backups.py`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from kvstore.backup import following
from kvstore.backup.catalogue import Catalogue
from kvstore.backup.following import MARK, Follower, FollowPlan
from kvstore.backup.policies import parse_policy
from kvstore.backup.sources import RestorePoint
from kvstore.backup.targets import DirectoryTarget
from kvstore.client import BlockingClient
from kvstore.errors import BackupError
from tests.support.following import Writer, check_moments, kept_through, restored
from tests.support.thread_node import thread_node

WAIT_S = 60.0


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with thread_node(tmp_path_factory.mktemp("followed")) as url:
        with BlockingClient(url) as store:
            store.put("first", "1")  # whichever test comes first: there is something to keep
        yield url


class Told:
    """What a follower told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, what: str, **facts: object) -> None:
        self.lines.append(f"{what} {facts}")

    def of(self, what: str) -> bool:
        return any(line.startswith(what) for line in self.lines)


def follow(
    where: str,
    target: DirectoryTarget,
    meanwhile: Callable[[], Awaitable[None]],
    base_every_s: float = 3600.0,
) -> Told:
    """Follow for as long as `meanwhile` takes; what was told."""
    told = Told()
    plan = FollowPlan(
        endpoints=where,
        policy=parse_policy("1h:1m"),
        flush_s=0.02,
        base_every_s=base_every_s,
        rate_mib_s=1000,
    )

    async def run() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(Follower(plan, target, told).run(stop))
        waiting = asyncio.create_task(meanwhile())
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await waiting
        waiting.cancel()
        stop.set()
        await task

    asyncio.run(run())
    return told


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


def test_it_goes_on_where_its_files_end(where: str, tmp_path: Path) -> None:
    place = str(tmp_path / "kept")
    target = DirectoryTarget(Path(place))
    with Writer(where) as writer:
        for base_every_s in (3600.0, 0.1):

            async def more() -> None:
                await until(lambda: kept_through(place) > 1)
                await asyncio.to_thread(writer.more, 25)

            follow(where, target, more, base_every_s)
            writer.more(10)  # while nobody follows
        writer.stop()
        last = max(writer.done)

        async def all_is_kept() -> None:
            await until(lambda: kept_through(place) >= last)

        follow(where, target, all_is_kept)
    check_moments(place, writer, 2)
    assert restored(place, RestorePoint()) == (last, writer.model(last))


def test_a_hole_is_told_and_a_new_base_follows_it(where: str, tmp_path: Path) -> None:
    """The cluster compacts while nobody follows."""
    place = str(tmp_path / "kept")
    target = DirectoryTarget(Path(place))

    async def one_base() -> None:
        await until(lambda: kept_through(place) > 1)

    follow(where, target, one_base)
    first = kept_through(place)
    with BlockingClient(where) as store:
        store.put("hole", "1")
        last = store.put("hole", "2").revision
        store.compact(last)

    async def two_bases() -> None:
        await until(lambda: len(Catalogue(target.names()).bases) == 2)
        with BlockingClient(where) as store:
            after = (await asyncio.to_thread(store.put, "hole", "3")).revision
        await until(lambda: reached(target) >= after)

    told = follow(where, target, two_bases)
    assert told.of("hole") and Catalogue(target.names()).newest.revision >= last
    # Before it and after it any revision comes back; between them none does.
    assert restored(place, RestorePoint(first))[0] == first
    assert restored(place, RestorePoint(last))[0] == last
    with pytest.raises(BackupError, match="holds revisions"):
        restored(place, RestorePoint(first + 1))


def reached(target: DirectoryTarget) -> int:
    """From the newest base on."""
    catalogue = Catalogue(target.names())
    return catalogue.reaches(catalogue.newest)


def test_what_cannot_be_written_is_tried_again(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "RETRY_S", 0.01)

    class Full(DirectoryTarget):
        """Twice there is no room for a piece."""

        failures = 2

        def write(self, name: str, data: bytes) -> None:
            if name.startswith("changes") and self.failures:
                self.failures -= 1
                raise OSError(28, "No space left on device")
            super().write(name, data)

    place = str(tmp_path / "kept")
    target = Full(Path(place))

    async def meanwhile() -> None:
        await until(lambda: kept_through(place) > 1)
        await asyncio.to_thread(put)
        await until(lambda: kept_through(place) >= written[0])

    written: list[int] = []

    def put() -> None:
        with BlockingClient(where) as store:
            written.append(store.put("full", "1").revision)

    told = follow(where, target, meanwhile)
    assert target.failures == 0 and told.of("not written") and told.of("written again")


def test_a_stop_does_not_wait_for_a_full_disk(where: str, tmp_path: Path) -> None:
    """It ends, and says that not all is kept."""

    class Full(DirectoryTarget):
        """There is never room for a piece."""

        tries = 0

        def write(self, name: str, data: bytes) -> None:
            if name.startswith("changes"):
                self.tries += 1
                raise OSError(28, "No space left on device")
            super().write(name, data)

    target = Full(tmp_path)

    async def meanwhile() -> None:
        await until(lambda: kept_through(str(tmp_path)) > 1)
        with BlockingClient(where) as store:
            await asyncio.to_thread(store.put, "full", "2")
        await until(lambda: target.tries > 0)

    with pytest.raises(OSError, match="No space"):
        follow(where, target, meanwhile)


def test_a_place_is_of_one_cluster(where: str, tmp_path: Path) -> None:
    (tmp_path / MARK).write_text(json.dumps({"cluster_id": "another"}))

    async def never() -> None:
        await asyncio.sleep(WAIT_S)

    with pytest.raises(BackupError, match="backup of cluster another"):
        follow(where, DirectoryTarget(tmp_path), never)
