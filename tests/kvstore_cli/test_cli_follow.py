"""`kvstore backup --follow`: no hole, whoever is killed, and any moment comes back."""

import asyncio
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kvstore.backup.catalogue import Base, Catalogue
from kvstore.backup.downloads import download
from kvstore.backup.following import MARK
from kvstore.backup.sources import RestorePoint
from kvstore.backup.targets import open_target
from kvstore_cli import follow
from kvstore_cli.follow import DRILL_MARK, Drills
from kvstore_cli.main import main
from proof.processes.waiting import eventually
from tests.support.cluster_fixtures import new_cluster
from tests.support.following import (
    FollowProcess,
    Writer,
    check_moments,
    kept_through,
    restored,
)
from tests.support.real_cluster import Cluster

__all__ = ["new_cluster"]
pytestmark = pytest.mark.integration

FAST = ("--base-every", "2", "--keep", "1h:1m")


def caught_up(place: str, writer: Writer) -> None:
    last = max(writer.done)
    eventually(lambda: kept_through(place) >= last, f"revision {last} is kept")


def test_it_goes_on_where_it_stopped(cluster: Cluster, tmp_path: Path) -> None:
    place = str(tmp_path / "kept")
    following = FollowProcess(cluster, place, tmp_path / "log", *FAST)
    with following, Writer(cluster) as writer:
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


def test_a_place_is_of_one_cluster(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / MARK).write_text(json.dumps({"cluster_id": "another"}))
    where = ",".join(node.url for node in cluster.nodes.values())
    assert main(["backup", "--follow", str(tmp_path), "--endpoints", where]) == 7
    assert "backup of cluster another" in capsys.readouterr().err


def test_a_hole_is_told_and_a_new_base_follows_it(cluster: Cluster, tmp_path: Path) -> None:
    """The cluster compacts while nobody follows."""
    place = str(tmp_path / "kept")
    log = tmp_path / "log"
    with FollowProcess(cluster, place, log) as following:
        with Writer(cluster) as writer:
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


def one_base(cluster: Cluster, tmp_path: Path) -> Path:
    """A base of the cluster under the name that a continuous backup gives it."""
    file = tmp_path / "made.kvb"
    where = ",".join(node.url for node in cluster.nodes.values())
    header = asyncio.run(download(where, file))
    (tmp_path / "kept").mkdir()
    return file.rename(tmp_path / Base(header.revision, header.created_ms).name)


@pytest.mark.proof
def test_twenty_kills_make_no_hole(new_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster, chosen = new_cluster(), random.Random(5)
    place = str(tmp_path / "kept")
    following = FollowProcess(cluster, place, tmp_path / "log", *FAST)
    with following, Writer(cluster) as writer:
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
