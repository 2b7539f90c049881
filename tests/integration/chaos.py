"""Kill -9 under load, again and again, and look for what was acknowledged and is not there.

    python -m tests.integration.chaos --rounds 50 --seed 1
    python -m tests.integration.chaos --failover --rounds 20

The first prints a table; the second the time from the leader's death to the next acknowledged
write. Exit code 1 if a write was lost, came back wrong, or if the run showed nothing.
"""

import argparse
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.real_cluster import DEADLINE_S, Answer, Client, Cluster, eventually

WRITERS = 9
SHARED_KEYS = 4
READERS = 6


@dataclass
class History:
    """What was asked for and what was acknowledged; writers append, the checker reads.

    Unique keys are written once. Shared keys are overwritten by all writers; the revision of each
    acknowledgement orders them.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    acknowledged: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    unknown: dict[str, bytes] = field(default_factory=dict)
    shared_acknowledged: dict[str, dict[int, bytes]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    shared_unknown: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    count: int = 0

    def add(self, key: str, value: bytes, answer: Answer) -> None:
        """One write and its answer. Refused ones (503 and 429) must leave no trace."""
        with self.lock:
            if answer.status == 200:
                self.count += 1
                if key.startswith("shared"):
                    self.shared_acknowledged[key][answer.revision] = value
                else:
                    self.acknowledged[key] = (answer.revision, value)
            elif answer.status in (0, 504):
                if key.startswith("shared"):
                    self.shared_unknown[key].add(value)
                else:
                    self.unknown[key] = value


@dataclass
class Verdict:
    """What a read-back found."""

    checked: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def judge_unique(self, key: str, wrote: tuple[int, bytes] | None, unknown: bytes | None,
                     got: Answer) -> None:  # fmt: skip
        """An acknowledged key is there, once, at its revision; an unknown one, whole or not."""
        self.checked += 1
        if got.status == 404:
            if wrote is not None:
                self.lost.append(f"{key}: acknowledged at {wrote[0]}, absent")
        elif got.status != 200:
            self.wrong.append(f"{key}: cannot be read: {got.status}")
        elif wrote is not None and (got.revision, got.body) != wrote:
            self.wrong.append(f"{key}: wrote {wrote}, read {got}")
        elif wrote is None and got.body != unknown:
            self.wrong.append(f"{key}: wrote {unknown!r} at most, read {got}")
        elif got.version != 1:
            self.wrong.append(f"{key}: applied {got.version} times")

    def judge_shared(self, key: str, wrote: dict[int, bytes], unknown: set[bytes],
                     got: Answer) -> None:  # fmt: skip
        """The last acknowledged value, or one of unknown outcome that came after it."""
        self.checked += 1
        last = max(wrote, default=0)
        if got.revision < last:
            self.lost.append(f"{key}: acknowledged at {last}, read {got}")
        elif got.revision in wrote:
            if got.body != wrote[got.revision]:
                self.wrong.append(f"{key}: wrote {wrote[got.revision]!r}, read {got}")
        elif got.status == 200 and got.body not in unknown:
            self.wrong.append(f"{key}: read {got}, which nobody may have written")


class Writers:
    """Threads that write to all nodes until they are stopped."""

    def __init__(self, cluster: Cluster, history: History, round_: int) -> None:
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(cluster, history, round_, n), daemon=True)
            for n in range(WRITERS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Return when no write is under way any more."""
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "a writer hangs"

    def _write(self, cluster: Cluster, history: History, round_: int, writer: int) -> None:
        node = cluster.nodes[1 + writer % len(cluster.numbers)]
        client = Client(node.client_port, timeout_s=5.0)
        counter = 0
        while not self._stop.is_set():
            counter += 1
            shared = counter % 4 == 0
            unique = f"unique/{round_}/{writer}/{counter}"
            key = f"shared/{(counter // 4) % SHARED_KEYS}" if shared else unique
            value = f"{round_}:{writer}:{counter}:".encode().ljust(64, b"v")
            path = f"/v1/kv/{key.replace('/', '%2F')}?timeout=3"
            answer = client.call("PUT", path, value)
            history.add(key, value, answer)
            if answer.status != 200:
                self._stop.wait(0.02)
        client.close()


def read_back(cluster: Cluster, history: History, prefix: str) -> Verdict:
    """Read all keys that begin with `prefix`, and the shared ones, at all nodes in parallel."""
    verdict = Verdict()
    unique = [k for k in {**history.acknowledged, **history.unknown} if k.startswith(prefix)]
    shared = sorted({*history.shared_acknowledged, *history.shared_unknown})
    # Shared keys at every node, unique ones at one node each.
    work = [(n, k) for n in cluster.numbers for k in shared]
    work += [(cluster.numbers[i % len(cluster.numbers)], k) for i, k in enumerate(unique)]

    def read(part: list[tuple[int, str]]) -> None:
        clients = {n: Client(cluster.nodes[n].client_port, 10.0) for n in cluster.numbers}
        for number, key in part:
            got = clients[number].call("GET", f"/v1/kv/{key.replace('/', '%2F')}")
            with history.lock:
                if key.startswith("shared"):
                    wrote = history.shared_acknowledged[key]
                    verdict.judge_shared(key, wrote, history.shared_unknown[key], got)
                else:
                    wrote_one = history.acknowledged.get(key)
                    verdict.judge_unique(key, wrote_one, history.unknown.get(key), got)
        for client in clients.values():
            client.close()

    threads = [threading.Thread(target=read, args=(work[i::READERS],)) for i in range(READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdict.checked == len(work), "a reader died"
    return verdict


@dataclass
class Report:
    """The sum of all rounds."""

    rounds: int = 0
    kills: int = 0
    acknowledged: int = 0
    unknown: int = 0
    checked: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    idle_rounds: list[int] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        """Count what a read-back found."""
        self.checked += verdict.checked
        self.lost += verdict.lost
        self.wrong += verdict.wrong

    def complaints(self) -> list[str]:
        """Why this run is no success; empty if it is one."""
        found = self.lost[:5] + self.wrong[:5]
        if self.acknowledged == 0:
            found.append("no write was acknowledged")
        if self.kills == 0:
            found.append("no node was killed")
        found += [f"round {r}: no write was acknowledged" for r in self.idle_rounds]
        return found


def run(cluster: Cluster, rounds: int, seed: int, show: bool = False) -> Report:
    """Kill and check `rounds` times on a running cluster."""
    rng = random.Random(seed)
    history, report = History(), Report()
    if show:
        print("round  killed    acknowledged  unknown  read back  lost  wrong  seconds")
    for number in range(1, rounds + 1):
        began, acknowledged, unknown = time.monotonic(), history.count, _unknown(history)
        victims = _round(cluster, history, number, rng)
        verdict = read_back(cluster, history, f"unique/{number}/")
        cluster.converged()
        report.rounds, report.kills = number, report.kills + len(victims)
        report.add(verdict)
        if history.count == acknowledged:
            report.idle_rounds.append(number)
        if show:
            who = "all" if len(victims) == len(cluster.numbers) else f"node {victims[0]}"
            print(
                f"{number:5}  {who:8}  {history.count - acknowledged:12}  "
                f"{_unknown(history) - unknown:7}  {verdict.checked:9}  {len(verdict.lost):4}  "
                f"{len(verdict.wrong):5}  {time.monotonic() - began:7.2f}",
                flush=True,
            )
    report.add(read_back(cluster, history, "unique/"))
    report.acknowledged, report.unknown = history.count, _unknown(history)
    return report


def _unknown(history: History) -> int:
    return len(history.unknown) + sum(map(len, history.shared_unknown.values()))


def _round(cluster: Cluster, history: History, number: int, rng: random.Random) -> list[int]:
    """Load, death at a random moment, load on the rest, restart; who was killed."""
    victims = list(cluster.numbers) if rng.random() < 1 / 3 else [rng.choice(cluster.numbers)]
    writers = Writers(cluster, history, number)
    try:
        time.sleep(rng.uniform(0.1, 1.0))  # the random moment, not a wait for anything
        assert all(map(cluster.running, cluster.numbers)), "a node ended by itself"
        cluster.kill9(*victims)
        time.sleep(rng.uniform(0.0, 0.5))
    finally:
        writers.stop()
    cluster.start(*victims, wait=False)
    cluster.wait_ready()
    return victims


def failover(cluster: Cluster, rounds: int, show: bool = False) -> list[float]:
    """Kill the leader `rounds` times under light load at the others; seconds without a write."""
    times: list[float] = []
    for number in range(1, rounds + 1):
        leader = cluster.leader()
        cluster.wait_ready()
        took_s = _failover_once(cluster, leader)
        times.append(took_s)
        if show:
            print(f"round {number:2}  leader {leader}  {took_s * 1000:6.0f} ms", flush=True)
        cluster.start(leader)
        cluster.converged()
    return times


def _failover_once(cluster: Cluster, leader: int) -> float:
    """From the kill to the first acknowledgement of a write that was sent after it."""
    stop, done = threading.Event(), threading.Event()
    killed_at: list[float] = []
    acknowledged: list[float] = []
    warm: set[int] = set()

    def write(number: int, writer: int) -> None:
        client = Client(cluster.nodes[number].client_port, 5.0)
        while not stop.wait(0.005):
            began = time.monotonic()
            answer = client.call("PUT", f"/v1/kv/light-{writer}?timeout=0.25", b"x")
            if answer.status == 200:
                warm.add(writer)
                if killed_at and began > killed_at[0]:
                    acknowledged.append(time.monotonic())
                    done.set()
        client.close()

    places = [n for n in cluster.numbers if n != leader] * 2
    threads = [
        threading.Thread(target=write, args=(n, i), daemon=True) for i, n in enumerate(places)
    ]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(warm) == len(places), "every client writes")
        cluster.nodes[leader].signal(signal.SIGKILL)
        killed_at.append(time.monotonic())  # after the kill: no write of the old leader counts
        cluster.wait_exit(leader)
        assert done.wait(DEADLINE_S), "no write was acknowledged after the leader's death"
    finally:
        stop.set()
        for thread in threads:
            thread.join(DEADLINE_S)
    return min(acknowledged) - killed_at[0]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--failover", action="store_true", help="time the loss of the leader")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="kvstore-chaos-"))
    cluster = Cluster(options.nodes, directory)
    try:
        cluster.start()
        if options.failover:
            times = failover(cluster, options.rounds, show=True)
            print(
                f"{len(times)} rounds: median {statistics.median(times):.3f} s, "
                f"worst {max(times):.3f} s from kill -9 of the leader to the next "
                "acknowledged write"
            )
            return 0
        report = run(cluster, options.rounds, options.seed, show=True)
        print(
            f"{report.rounds} rounds, seed {options.seed}: {report.kills} nodes killed, "
            f"{report.acknowledged} writes acknowledged, {report.unknown} of unknown outcome, "
            f"{report.checked} reads compared; acknowledged writes lost: {len(report.lost)}; "
            f"wrong values: {len(report.wrong)}"
        )
        complaints = report.complaints()
        print("\n".join(complaints))
        return 1 if complaints else 0
    finally:
        cluster.close(show=False)
        shutil.rmtree(directory)


if __name__ == "__main__":
    sys.exit(main())
