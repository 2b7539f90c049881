"""Real nodes on file systems of a few MiB that fill up, and on a quota: nothing acknowledged is
lost, and there is service again without a restart."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvstore.client import BlockingClient, OutOfSpace
from proof.processes.waiting import eventually
from tests.support.real_cluster import Cluster, Load, check_all
from tests.support.small_disks import SmallDiskOfNode, small_disks

pytestmark = [pytest.mark.integration, pytest.mark.proof]

SIZE_MIB = 48
SETTINGS = {
    "disk_reserve_bytes": 8 << 20,
    "log_segment_bytes": 1 << 20,
    "log_tail_bytes": 1 << 20,
    "checkpoint_interval_s": 0.2,
    "history_revisions": 100,
}
VALUE_BYTES = 20_000


@pytest.fixture
def on_small_disks(
    tmp_path: Path, new_cluster: Callable[..., Cluster]
) -> Iterator[tuple[Cluster, dict[int, SmallDiskOfNode]]]:
    """Three nodes, each on a disk of its own."""
    with small_disks(tmp_path, 3, SIZE_MIB) as disks:
        cluster = new_cluster(3, start=False, **SETTINGS)
        by_node = dict(zip(cluster.numbers, disks, strict=True))
        for number, disk in by_node.items():
            disk.hold(cluster.nodes[number])
        cluster.start()
        cluster.leader()
        try:
            yield cluster, by_node
        finally:
            cluster.close(show=False)


def out_of_space(cluster: Cluster, number: int) -> str:
    return str(cluster.status(number).get("node", {}).get("out_of_space", ""))


def filled(cluster: Cluster) -> Load:
    """Written to until no node takes any more. At first the history gives way, and there is room
    again; so each must have refused for a while."""
    with Load(cluster, cluster.numbers, size=VALUE_BYTES) as load:
        since_s = time.monotonic()

        def stays_full() -> bool:
            nonlocal since_s
            if not all(out_of_space(cluster, number) for number in cluster.numbers):
                since_s = time.monotonic()
            return time.monotonic() - since_s > 2

        eventually(stays_full, "all are full", 60)
    return load


def check_service(cluster: Cluster, load: Load, lives: dict[int, int]) -> None:
    """All serve, nobody was started again, and nothing is lost anywhere."""
    cluster.wait_ready()
    for number in cluster.numbers:
        eventually(
            lambda number=number: not out_of_space(cluster, number), f"node {number} has room"
        )
        cluster.must_put(number, f"after-{number}", b"x")
    assert {n: cluster.nodes[n].pid for n in cluster.numbers} == lives
    cluster.converged()
    for number in cluster.numbers:
        check_all(cluster, number, load.acknowledged, "?consistency=serializable")


def pids(cluster: Cluster) -> dict[int, int]:
    return {number: cluster.nodes[number].pid for number in cluster.numbers}


@pytest.mark.parametrize("victim", ["follower", "leader"])
def test_the_disk_of_one_node_is_full(
    on_small_disks: tuple[Cluster, dict[int, SmallDiskOfNode]], victim: str
) -> None:
    """To the last byte, by somebody else's file. The others go on; it refuses what grows, and what
    they write it has once there is room."""
    cluster, disks = on_small_disks
    lives = pids(cluster)
    full = cluster.leader() if victim == "leader" else cluster.followers()[0]
    others = [number for number in cluster.numbers if number != full]
    with Load(cluster, others * 2, size=VALUE_BYTES) as load:
        load.more(50)
        disks[full].fill()
        eventually(lambda: out_of_space(cluster, full), f"node {full} says so")
        assert cluster.put(full, "grows", b"x").status == 507
        load.more(300)  # more than its log has room for
        assert "the log waits for room" in eventually(
            lambda: "waits for room" in out_of_space(cluster, full) and out_of_space(cluster, full),
            "its log waits",
        )
        assert cluster.leader(others) in others
        assert cluster.call(full, "GET", "/healthz").status == 200
        disks[full].free()
        began_s = time.monotonic()
        cluster.wait_ready(full)
        print(f"ready {time.monotonic() - began_s:.1f} s after there was room")
    check_service(cluster, load, lives)
    assert "disk full" in cluster.log(full) and "space again" in cluster.log(full)


def test_all_disks_are_full(
    on_small_disks: tuple[Cluster, dict[int, SmallDiskOfNode]],
) -> None:
    """By what is written, and then to the last byte. Reads and deletions go on at first; then
    nothing does, but nobody ends, and with room all is as before."""
    cluster, disks = on_small_disks
    lives = pids(cluster)
    load = filled(cluster)
    gone = list(load.acknowledged)[:5]
    for key in gone:
        answer = cluster.call(1, "DELETE", f"/v1/kv/{key}")
        assert answer.status in (200, 204), answer
        del load.acknowledged[key]
    check_all(cluster, 1, dict(list(load.acknowledged.items())[:20]))
    for disk in disks.values():
        disk.fill()
    for number in cluster.numbers:
        assert cluster.put(number, "grows", b"x").status in (507, 503)
    endpoints = [node.url for node in cluster.nodes.values()]
    with BlockingClient(endpoints) as store, pytest.raises(OutOfSpace):
        store.put("grows", b"x")
    for disk in disks.values():
        disk.free()
    # Their own data has filled them: room is made by deleting.
    keys = list(load.acknowledged)
    for key in keys[: len(keys) // 2]:
        assert cluster.call(1, "DELETE", f"/v1/kv/{key}").status in (200, 204)
        del load.acknowledged[key]
    check_service(cluster, load, lives)


def test_a_quota_is_used_up_and_has_room_again(new_cluster: Callable[..., Cluster]) -> None:
    quota = 16 << 20
    cluster = new_cluster(3, space_quota_bytes=quota, checkpoint_interval_s=0.2)
    lives = pids(cluster)
    load = filled(cluster)
    assert "space-quota-bytes" in out_of_space(cluster, 1)
    assert cluster.put(2, "grows", b"x").status == 507
    status = cluster.status(1)["node"]
    assert 0.95 * quota <= status["state_bytes"] < 1.5 * quota
    keys = list(load.acknowledged)
    for key in keys[: len(keys) // 2]:
        assert cluster.call(1, "DELETE", f"/v1/kv/{key}").status in (200, 204)
        del load.acknowledged[key]
    check_service(cluster, load, lives)
