"""Nodes of the release before are restarted one by one with this one, under load.

The releases speak with each other meanwhile, and each directory is converted at its node's first
start. Whoever asks with idempotency keys notices nothing.
"""

import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from kvstore.client import BlockingClient
from kvstore.storage.data_dir import FORMAT
from kvstore_cli.launcher.node_process import clean_environment
from kvstore_cli.main import main
from proof.processes.waiting import eventually
from tests.support.real_cluster import Cluster, check_all
from tests.support.release_before import release_before
from tests.support.steady_writer import SteadyCounter, SteadyWriter

pytestmark = [pytest.mark.integration, pytest.mark.proof]

MORE = 150
"""Writes between one step and the next."""


class IdempotentLoad:
    """Writers that put keys of their own and one that counts, each request with an idempotency
    key, one after the other."""

    def __init__(self, endpoints: list[str]) -> None:
        self._writers = [
            SteadyWriter(
                endpoints[n:] + endpoints[:n], prefix=f"roll/{n}/", timeout_s=20, pause_s=0
            )
            for n in range(3)
        ]
        self._counter = SteadyCounter(endpoints, "roll-count", timeout_s=20, pause_s=0)
        self._running = ExitStack()

    def __enter__(self) -> "IdempotentLoad":
        for client in (*self._writers, self._counter):
            self._running.enter_context(client)
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def written(self) -> dict[str, bytes]:
        return {key: value for one in self._writers for key, value in one.acknowledged.items()}

    @property
    def counted(self) -> int:
        return self._counter.done

    @property
    def failed(self) -> list[Exception]:
        return [error for one in (*self._writers, self._counter) for error in one.failures]

    def more(self, count: int = MORE) -> None:
        """Wait for so many further writes."""

        def done() -> int:
            return sum(one.done for one in self._writers)

        wanted = done() + count
        eventually(lambda: done() >= wanted, f"{count} more writes", 60)


class Seen:
    """A watch of what the load puts, from before it begins; `keys` in the order of its events."""

    def __init__(self, endpoints: list[str]) -> None:
        self.keys: list[str] = []
        self._store = BlockingClient(endpoints, timeout_s=20)
        self._watch = self._store.watch(prefix="roll/", resume_s=60)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Seen":
        self._watch.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.close()
        self._thread.join(60)
        self._store.close()

    def _run(self) -> None:
        for event in self._watch:
            self.keys.append(event.key.decode())


def old_cluster(
    tmp_path: Path, new_cluster: Callable[..., Cluster], **settings: object
) -> tuple[Cluster, list[str]]:
    """Three nodes of the release before, and where they serve."""
    before = release_before(tmp_path)
    cluster = new_cluster(3, start=False, **settings)
    for node in cluster.nodes.values():
        node.environment = before
    cluster.start()
    assert {held_format(cluster, number) for number in cluster.numbers} == {FORMAT - 1}
    return cluster, [node.url for node in cluster.nodes.values()]


def leader_first(cluster: Cluster) -> list[int]:
    leader = cluster.leader()
    return [leader, *(number for number in cluster.numbers if number != leader)]


def check_whole(cluster: Cluster, load: IdempotentLoad, seen: Seen) -> None:
    """Nothing failed, nothing is lost, nothing was done twice, and all nodes agree."""
    assert load.failed == []
    assert {held_format(cluster, number) for number in cluster.numbers} == {FORMAT}
    eventually(lambda: len(seen.keys) >= len(load.written), "the watch has seen all", 60)
    assert sorted(seen.keys) == sorted(load.written)
    cluster.converged()
    expected = load.written | {"roll-count": b"%d" % load.counted}
    for number in cluster.numbers:
        check_all(cluster, number, expected, "?consistency=serializable")
    assert [key for key in load.written if cluster.get(1, key).version != 1] == []
    print(f"{len(load.written)} writes and {load.counted} increments, none failed")


def test_a_rolling_restart_from_the_release_before(
    tmp_path: Path, new_cluster: Callable[..., Cluster]
) -> None:
    cluster, endpoints = old_cluster(tmp_path, new_cluster)
    with BlockingClient(endpoints) as store:
        lease = store.lease(300)
        store.put("leased", b"x", lease=lease.id)
    with Seen(endpoints) as seen:
        with IdempotentLoad(endpoints) as load:
            load.more()
            asked = ["upgrade", "--check", "--endpoints", ",".join(endpoints)]
            eventually(lambda: main(asked) == 0, "it can be upgraded")
            for number in leader_first(cluster):
                assert cluster.stop(number) == [0]
                load.more(MORE // 3)
                cluster.nodes[number].environment = clean_environment()
                cluster.start(number)
                load.more()
        check_whole(cluster, load, seen)
    assert [cluster.get(number, "leased").body for number in cluster.numbers] == [b"x"] * 3


def test_killed_nodes_and_snapshots_between_the_releases(
    tmp_path: Path, new_cluster: Callable[..., Cluster]
) -> None:
    """Directories that a crash left are converted too. A node that lacks more than the log holds
    gets a snapshot of the other release: the new from the old, and the old from the new."""
    cluster, endpoints = old_cluster(
        tmp_path, new_cluster, log_tail_slots=20, log_tail_bytes=4096, checkpoint_interval_s=0.2
    )
    with Seen(endpoints) as seen:
        with IdempotentLoad(endpoints) as load:
            load.more()
            first, second, last = leader_first(cluster)
            for number in (first, second):
                killed_until_it_needs_a_snapshot(cluster, number)
                cluster.nodes[number].environment = clean_environment()
                cluster.start(number)
                eventually(
                    lambda number=number: "snapshot installed" in cluster.log(number),
                    f"node {number} takes a snapshot",
                )
            # The others are of this release, and it comes back as it was.
            killed_until_it_needs_a_snapshot(cluster, last)
            cluster.start(last)
            eventually(lambda: "snapshot installed" in cluster.log(last), "and so does the last")
            assert held_format(cluster, last) == FORMAT - 1
            cluster.kill9(last)
            cluster.nodes[last].environment = clean_environment()
            cluster.start(last)
            load.more()
        check_whole(cluster, load, seen)


def killed_until_it_needs_a_snapshot(cluster: Cluster, number: int) -> None:
    """Until the others have given up all that it knows of the log: after a snapshot that takes a
    while, as they hold what its receiver needs next."""
    cluster.kill9(number)
    others = [other for other in cluster.numbers if other != number]
    known = max(cluster.status(other)["chosen_through"] for other in others)

    def given_up() -> bool:
        return all(cluster.status(n)["node"]["log_first_slot"] > known + 1 for n in others)

    eventually(given_up, f"the others have given up what node {number} knows", 60)


def held_format(cluster: Cluster, number: int) -> int:
    """Of the node's directory."""
    identity = cluster.nodes[number].data_dir / "identity.json"
    return int(json.loads(identity.read_text())["format"])
