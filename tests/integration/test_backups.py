"""Backups, restores and continuous backups of clusters of processes, which are killed meanwhile."""

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from kvstore.backup import building
from kvstore.backup.catalogue import Base, Catalogue
from kvstore.backup.downloads import Download, download
from kvstore.backup.sources import RestorePoint
from kvstore.backup.targets import open_target
from kvstore.client import BlockingClient, RevisionCompacted
from kvstore_cli.backups import follow
from kvstore_cli.backups.follow import DRILL_MARK, Drills
from proof.processes.waiting import eventually
from tests.support.commands import run
from tests.support.following import (
    FollowProcess,
    Writer,
    check_moments,
    kept_through,
    restored,
)
from tests.support.real_cluster import Cluster

pytestmark = [pytest.mark.integration, pytest.mark.proof]
FAST = ("--base-every", "2", "--keep", "1h:1m")


def test_a_backup_that_is_killed_is_gone_on_with(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BlockingClient(endpoints(cluster)) as store:
        for number in range(8):
            store.put(f"large/{number}", os.urandom(1 << 20))
    file = tmp_path / "store.kvb"
    part = tmp_path / "store.kvb.part"
    where = ("--endpoints", endpoints(cluster))
    words = [sys.executable, "-m", "kvstore_cli.main", "backup", str(file), *where]
    with subprocess.Popen([*words, "--rate-mib-s", "2"]) as process:
        while not part.exists() or part.stat().st_size < 2 << 20:
            assert process.poll() is None
        process.kill()
    assert not file.exists()
    kept = part.stat().st_size

    async def resumed() -> int:
        again = Download(endpoints(cluster), file, lambda _: None)
        await again.run()
        return again.resumed_at

    assert asyncio.run(resumed()) >= 1 and kept > 0
    run(capsys, "backup", "inspect", str(file))
    assert not part.exists()


def test_a_restored_cluster_serves(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three new nodes hold what the old ones held at a revision in the middle; they agree, survive
    a kill, and whoever watches from an old revision is told that it is gone."""
    file, where = str(tmp_path / "store.kvb"), endpoints(cluster)
    with BlockingClient(where) as store:
        middle = store.put("then/a", "1").revision
        store.put("then/a", "2")
        store.put("then/b", "1")
        run(capsys, "backup", file, "--endpoints", where)
        expected = list(store.list(revision=middle))
        old = store.status()
    paths = [str(tmp_path / f"node-{number}") for number in (1, 2, 3)]
    words = ("restore", file, "--to-revision", str(middle), "--json", "--data-dir", *paths)
    done = json.loads(run(capsys, *words))
    assert done["keys"] == len(expected)
    made = Cluster(3, tmp_path)
    try:
        made.start()
        made.converged()
        for node in made.nodes.values():
            with BlockingClient(node.url) as store:
                assert list(store.list()) == expected
                status = store.status()
                assert status.cluster_id not in ("", old.cluster_id)
                assert status.revision == done["revision"] >= old.revision + 10**9
                with pytest.raises(RevisionCompacted), store.watch(from_revision=middle) as watch:
                    next(iter(watch))
        with BlockingClient(made.nodes[1].url) as store:
            assert store.put("then/a", "3").version == 2
        made.kill9()
        made.start()
        assert made.get(2, "then/a").body == b"3"
        made.converged()
    finally:
        made.close()


def test_a_drill_proves_a_backup(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, where = tmp_path / "store.kvb", endpoints(cluster)
    with BlockingClient(where) as store:
        store.put("drilled", "1")
        store.put("drilled/leased", "1", ttl_s=600)
        run(capsys, "backup", str(file), "--endpoints", where)
        keys = len(list(store.list(revision=store.status().revision, keys_only=True)))
    done = json.loads(run(capsys, "backup", "drill", str(file), "--nodes", "1", "--json"))
    assert done["keys"] == keys and done["leases"] == 1 and done["total_s"] > 0


def test_a_drill_notices_what_a_restore_loses(
    cluster: Cluster,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A value that the restore writes otherwise than the backup holds it."""
    file, where = tmp_path / "store.kvb", endpoints(cluster)
    with BlockingClient(where) as store:
        store.put("drilled", "1")
        run(capsys, "backup", str(file), "--endpoints", where)
    real = building.stored_alone
    monkeypatch.setattr(
        building,
        "stored_alone",
        lambda item: real(replace(item, value=b"2") if item.key == b"drilled" else item),
    )
    said = run(capsys, "backup", "drill", str(file), "--nodes", "1", code=7)
    assert "and the backup holds" in said


def endpoints(cluster: Cluster) -> str:
    return ",".join(node.url for node in cluster.nodes.values())


def caught_up(place: str, writer: Writer) -> None:
    last = max(writer.done)
    eventually(lambda: kept_through(place) >= last, f"revision {last} is kept")


def test_it_goes_on_where_it_stopped(cluster: Cluster, tmp_path: Path) -> None:
    place = str(tmp_path / "kept")
    following = FollowProcess(endpoints(cluster), place, tmp_path / "log", *FAST)
    with following, Writer(endpoints(cluster)) as writer:
        eventually(lambda: kept_through(place) > 1, "a base is there")
        writer.more(30)
        following.kill()
        cluster.kill9(cluster.leader())
        writer.more(30)
        cluster.start()
        following.start()
        writer.more(30)
        writer.stop()
        caught_up(place, writer)
        assert following.stop() == 0
    check_moments(place, writer, 4)
    as_of, found = restored(place, RestorePoint())
    assert as_of == max(writer.done) and found == writer.model(as_of)


def one_base(cluster: Cluster, tmp_path: Path) -> Path:
    """A base of the cluster under the name that a continuous backup gives it."""
    file = tmp_path / "made.kvb"
    header = asyncio.run(download(endpoints(cluster), file))
    (tmp_path / "kept").mkdir()
    return file.rename(tmp_path / Base(header.revision, header.created_ms).name)


def test_it_drills_by_itself_and_alarms(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "FIRST_DRILL_S", 0.05)
    place = tmp_path / "kept"
    target = open_target(str(place))
    shutil.copy(one_base(cluster, tmp_path), place)

    async def drilled() -> Drills:
        drills = Drills(target, str(place), 3600.0, 1)
        running = asyncio.create_task(drills.run())
        while not (place / DRILL_MARK).exists():
            await asyncio.sleep(0.05)
        running.cancel()
        return drills

    assert not asyncio.run(drilled()).failed
    assert json.loads(target.read(DRILL_MARK))["ok"] is True
    target.remove(DRILL_MARK)
    (base,) = Catalogue(target.names()).bases
    (place / base.name).write_bytes(b"rotten")
    assert asyncio.run(drilled()).failed
    assert "is no backup" in json.loads(target.read(DRILL_MARK))["said"]


def test_a_hole_is_told_and_a_new_base_follows_it(cluster: Cluster, tmp_path: Path) -> None:
    """The cluster compacts while nobody follows."""
    place = str(tmp_path / "kept")
    log = tmp_path / "log"
    with FollowProcess(endpoints(cluster), place, log) as following:
        with Writer(endpoints(cluster)) as writer:
            eventually(lambda: kept_through(place) > 1, "a base is there")
            writer.more(5)
            following.kill()
            writer.more(20)
        before = max(writer.done)
        compact = json.dumps({"revision": before}).encode()
        assert cluster.call(1, "POST", "/v1/compact", compact).status == 200
        following.start()
        eventually(lambda: "hole" in log.read_text(), "the hole is told")
        eventually(lambda: len(Catalogue(open_target(place).names()).bases) == 2, "a base after it")
        assert following.stop() == 0
    assert restored(place, RestorePoint())[1] == writer.model(before)


def test_twenty_kills_make_no_hole(new_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster, chosen = new_cluster(), random.Random(5)
    place = str(tmp_path / "kept")
    following = FollowProcess(endpoints(cluster), place, tmp_path / "log", *FAST)
    with following, Writer(endpoints(cluster)) as writer:
        eventually(lambda: kept_through(place) > 1, "a base is there")
        for _ in range(20):
            writer.more(chosen.randrange(20, 200))
            victim = chosen.choice([0, 1, 2, 3])
            if victim == 0:
                following.kill()
                writer.more(chosen.randrange(50))
                following.start()
            else:
                cluster.kill9(victim)
                writer.more(chosen.randrange(50))
                cluster.start()
        writer.stop()
        caught_up(place, writer)
        assert following.stop() == 0
    check_moments(place, writer, 10)
