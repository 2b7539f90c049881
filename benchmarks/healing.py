"""Lost disks of a store of a million keys, and a node that joins while it is written to: seconds to
full strength, what writers notice meanwhile, and whether every acknowledged write is there.

python -m benchmarks.healing [--keys 1000000] [--connections 64] [--wipes 5]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGKILL
from statistics import median

from benchmarks.backups import puts, told
from benchmarks.clients.load import Load, LoadFailed, Sample, best_client, measure
from benchmarks.clients.traffic import request, write_requests
from benchmarks.shared.probe import Unreachable, call
from benchmarks.shared.procfs import machine
from benchmarks.shared.session import say, workspace
from benchmarks.systems.clusters import ClusterFailed, OurBenchCluster
from benchmarks.systems.filling import fill
from kvstore.client import BlockingClient
from kvstore.errors import KvError
from kvstore_cli.launcher.node_process import (
    PROGRAM,
    ServerProcess,
    clean_environment,
    join_command,
)
from proof.processes.network import HeldPlaces
from proof.processes.waiting import eventually

DEADLINE_S = 300.0
POLL_S = 0.05
SECONDS = 15
WRITER = b"written/"


class Writer:
    """Writes one key after the other, each until it is acknowledged, from a thread of its own."""

    def __init__(self, urls: list[str]) -> None:
        self.acknowledged = 0
        self.longest_s = 0.0
        """The longest time from one acknowledged write to the next."""
        self._urls = urls
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with BlockingClient(self._urls, timeout_s=60) as client:
            last = time.monotonic()
            while not self._done.wait(0.005):
                client.put(WRITER + b"%d" % self.acknowledged, b"%d" % self.acknowledged)
                self.acknowledged += 1
                self.longest_s = max(self.longest_s, time.monotonic() - last)
                last = time.monotonic()

    def __enter__(self) -> Writer:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._done.set()
        self._thread.join()

    def lost(self) -> int:
        """How many acknowledged writes are not there."""
        with BlockingClient(self._urls, timeout_s=60) as client:
            found = {e.key: e.value for e in client.list(prefix=WRITER)}
        expected = range(self.acknowledged)
        return sum(found.get(WRITER + b"%d" % n) != b"%d" % n for n in expected)


def client_of(*nodes: ServerProcess) -> BlockingClient:
    """Of some nodes."""
    return BlockingClient([node.url for node in nodes], timeout_s=5)


def leader_of(nodes: list[ServerProcess]) -> ServerProcess:
    """The node that leads now."""

    def ask() -> ServerProcess | None:
        with contextlib.suppress(KvError), client_of(*nodes) as client:
            leader = client.status().leader
            address = leader.client_address if leader else None
            return next((n for n in nodes if address and n.url.endswith(address)), None)
        return None

    found = eventually(ask, "a leader", DEADLINE_S, POLL_S)
    assert found is not None
    return found


def voters_of(nodes: list[ServerProcess]) -> set[int]:
    """The ids that vote and are linked with the leader; none while a change is under way."""
    with contextlib.suppress(KvError), client_of(leader_of(nodes)) as client:
        status = client.status()
        if status.configuration is not None and not status.configuration.under_way:
            voting = [m for m in status.members if m.kind == "voter"]
            if all(m.connected or m.id == status.node.id for m in voting):
                return {m.id for m in voting}
    return set()


def whole(nodes: list[ServerProcess], before: set[int]) -> bool:
    """Whether each of these nodes votes and is ready, and one of them under a new id."""
    with contextlib.suppress(Unreachable):
        if all(call(n.client_port, request("GET", "/readyz"))[0] == 200 for n in nodes):
            voters = voters_of(nodes)
            return len(voters) == len(nodes) and voters != before
    return False


def wipe(nodes: list[ServerProcess], victim: ServerProcess) -> float:
    """Seconds from the start of a node whose disk is empty until all vote and are ready."""
    before = voters_of(nodes)
    victim.signal(SIGKILL)
    victim.wait(20)
    shutil.rmtree(victim.data_dir)
    begun = time.monotonic()
    victim.start()
    eventually(lambda: whole(nodes, before), "whole again", DEADLINE_S, POLL_S)
    return time.monotonic() - begun


def heal(nodes: list[ServerProcess], wipes: int) -> int:
    """Lose disks, one after the other; the number of lost writes."""
    leader = leader_of(nodes)
    follower = next(node for node in nodes if node is not leader)
    victims = [("a follower", follower), ("the leader", None)]
    victims += [(f"node {n.number}", n) for n in itertools.islice(itertools.cycle(nodes), wipes)]
    took = []
    with Writer([node.url for node in nodes]) as writer:
        for name, victim in victims:
            took.append(wipe(nodes, victim or leader_of(nodes)))
            say(f"wiped {name}: {took[-1]:.1f} s to full strength")
    lost = writer.lost()
    say(
        f"{len(took)} disks lost, median {median(took):.1f} s, commands typed 0; "
        f"{writer.acknowledged:,} writes acknowledged meanwhile, longest gap "
        f"{writer.longest_s:.2f} s, lost {lost}"
    )
    return lost


def joining(nodes: list[ServerProcess], directory: Path, places: HeldPlaces) -> ServerProcess:
    """A node that is not started yet, and its token."""
    with client_of(*nodes) as client:
        token = client.create_token(ttl_s=600, uses=1).token
    number = len(nodes) + 1
    listen = places.listen_client(number), places.listen_peer(number)
    path = directory / f"node-{number}"
    endpoint = nodes[0].url.removeprefix("http://")
    command = join_command(PROGRAM, endpoint, token, "joined", listen, path, {})
    return ServerProcess(number, listen, path, command, clean_environment())


def join(nodes: list[ServerProcess], directory: Path, options: argparse.Namespace) -> None:
    """Let one more node in under load."""
    requests = directory / "puts"
    write_requests(requests, puts(options.keys))
    ports, pids = [node.client_port for node in nodes], [node.pid for node in nodes]

    def press(seconds: float, seed: int) -> Sample:
        load = Load(best_client(), options.connections, seconds, seed)
        return measure(load, ports, requests, [pid for pid in pids if pid])

    told("before", press(SECONDS, 1))
    with contextlib.closing(HeldPlaces([len(nodes) + 1])) as places:
        joined = joining(nodes, directory, places)
        try:
            with ThreadPoolExecutor(1) as pool:
                pressing = pool.submit(press, options.during_s, 2)
                time.sleep(1)
                before, begun = voters_of(nodes), time.monotonic()
                joined.start()
                all_nodes = [*nodes, joined]
                eventually(lambda: whole(all_nodes, before), "joined", DEADLINE_S, POLL_S)
                joined_s = time.monotonic() - begun
                told(f"during (a voter after {joined_s:.1f} s)", pressing.result())
            told("after, with four voters", press(SECONDS, 3))
        finally:
            joined.signal(SIGKILL)
            joined.wait(20)


def main() -> int:
    """Measure, and tell; 1 if anything failed or was lost."""
    parser = argparse.ArgumentParser(description="Lost disks, and a node that joins.")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--wipes", type=int, default=5)
    parser.add_argument("--during-s", type=int, default=60)
    options = parser.parse_args()
    say(machine())
    try:
        with workspace() as directory, OurBenchCluster(directory) as cluster:
            cluster.start()
            cluster.wait_ready()
            say(f"{options.keys:,} keys in {fill(cluster, options.keys):.1f} s")
            lost = heal(cluster.nodes, options.wipes)
            join(cluster.nodes, directory, options)
            return 1 if lost else 0
    except (ClusterFailed, LoadFailed, Unreachable, KvError, TimeoutError) as error:
        say(f"FAILED: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
