"""A node is started on a file system without any room: one line says so, or it serves what it can;
with room all is as it was."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.real_cluster import READY_S, Cluster, Load, check_all, eventually
from tests.support.small_disks import SmallDiskOfNode, small_disks

pytestmark = [pytest.mark.integration, pytest.mark.proof]

SIZE_MIB = 24
SETTINGS = {
    "disk_reserve_bytes": 2 << 20,
    "log_segment_bytes": 1 << 20,
    "log_tail_bytes": 1 << 20,
    "checkpoint_interval_s": 0.2,
}
FAILED = 74
SERIALIZABLE = "?consistency=serializable"
PAGE = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDiskOfNode]:
    with small_disks(tmp_path, 1, SIZE_MIB) as disks:
        yield disks[0]


@pytest.fixture
def down(
    disk: SmallDiskOfNode, new_cluster: Callable[..., Cluster]
) -> Iterator[tuple[Cluster, SmallDiskOfNode]]:
    """A node whose data is to be on the disk; it was never started."""
    cluster = new_cluster(1, start=False, **SETTINGS)
    disk.hold(cluster.nodes[1])
    try:
        yield cluster, disk
    finally:
        cluster.close(show=False)


def written(cluster: Cluster) -> Load:
    """The node has served, and was stopped: nothing half made is left."""
    cluster.start()
    with Load(cluster, [1], size=2000) as load:
        load.more(200)
    assert cluster.stop(1) == [0]
    return load


def ends_with_one_line(cluster: Cluster) -> str:
    """The start fails; what it says."""
    cluster.start(1, wait=False)
    assert cluster.wait_exit(1, READY_S) == FAILED
    told = [line for line in cluster.log(1).splitlines() if line.startswith("kvstore: ")]
    assert len(told) == 1 and "Traceback" not in cluster.log(1), cluster.log(1)
    return told[0]


def test_there_is_no_room_at_all(down: tuple[Cluster, SmallDiskOfNode]) -> None:
    """For a node that has data, however much is missing; nothing of it is lost."""
    cluster, disk = down
    load = written(cluster)
    disk.fill()
    assert "make room on its disk" in ends_with_one_line(cluster)
    disk.free()
    cluster.start()
    check_all(cluster, 1, load.acknowledged)
    cluster.must_put(1, "after", b"x")


@pytest.mark.parametrize("pages", [0, 6, 16, 200])
def test_a_new_node_finds_no_room(down: tuple[Cluster, SmallDiskOfNode], pages: int) -> None:
    """What its first start began is no hindrance to the next one."""
    cluster, disk = down
    disk.fill(pages * PAGE)
    said = ends_with_one_line(cluster)
    assert "room" in said or "No space left" in said, said
    disk.free()
    cluster.start()
    cluster.must_put(1, "after", b"x")


def test_there_is_a_little_room(down: tuple[Cluster, SmallDiskOfNode]) -> None:
    """It comes up and serves reads; writes that grow are refused, and taken again without another
    start."""
    cluster, disk = down
    load = written(cluster)
    disk.fill(64 * PAGE)
    cluster.start(1, wait=False)
    eventually(lambda: cluster.status(1).get("node", {}).get("out_of_space"), "it says so", READY_S)
    process = cluster.nodes[1].pid
    check_all(cluster, 1, load.acknowledged, SERIALIZABLE)
    assert cluster.put(1, "grows", b"x" * 1000).status == 507
    disk.free()
    cluster.wait_ready(1)
    cluster.must_put(1, "after", b"x")
    assert cluster.nodes[1].pid == process
    check_all(cluster, 1, load.acknowledged)


def test_what_fills_the_disk_is_what_the_node_itself_was_making(
    down: tuple[Cluster, SmallDiskOfNode],
) -> None:
    cluster, disk = down
    load = written(cluster)
    disk.fill()
    disk.ballast.rename(cluster.nodes[1].data_dir / "snapshot.incoming")
    cluster.start()
    check_all(cluster, 1, load.acknowledged)
    cluster.must_put(1, "after", b"x")
