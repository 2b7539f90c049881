"""Five real nodes with links cut for some pairs only: seconds until the next write.

The cuts are those of Ng, Haridi and Carbone, "Omni-Paxos" (EuroSys 2023), section 2; their ticks
are in `tests/paxos/test_partial_partitions.py`.

The whole table: `python -m tests.integration.test_partial_cuts 5`.
"""

import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator

import pytest

from tests.support.real_cluster import Client, Cluster, running_cluster

pytestmark = [pytest.mark.integration, pytest.mark.proof]

ELECTION_S = 0.4
AIM_S = 4 * ELECTION_S
"""From the cut to the first write at whoever reaches a quorum."""
SLACK_S = 1.0
"""For machines that are busy with other tests."""
ROUNDS = 3
LEADER = 1

Pairs = list[tuple[int, int]]
CUTS: dict[str, tuple[Pairs, list[int]]] = {
    # What stays whole, and who reaches a quorum.
    "quorum loss": ([(2, 1), (2, 3), (2, 4), (2, 5)], [2]),
    "constrained": ([(2, 3), (2, 4), (2, 5)], [2]),
    "chained": ([(1, 2), (2, 3), (3, 4), (4, 5)], [2, 3, 4]),
}


def lead(cluster: Cluster) -> None:
    """All links whole, all nodes ready, and node 1 leads."""
    cluster.heal()
    cluster.wait_ready()
    body = json.dumps({"to": LEADER}).encode()
    while (leader := cluster.leader()) != LEADER:
        cluster.call(leader, "POST", "/v1/cluster/handover", body)


def seconds_to_write(cluster: Cluster, numbers: Iterable[int], key: str) -> float:
    """Until one of the nodes acknowledges a write, as a client asks one after the other."""
    begun_s = time.monotonic()
    clients = [Client(cluster.nodes[number].client_port, 2.0) for number in numbers]
    try:
        while time.monotonic() - begun_s < 60:
            for client in clients:
                if client.call("PUT", f"/v1/kv/{key}?timeout=0.1", b"v").status == 200:
                    return time.monotonic() - begun_s
            time.sleep(0.01)
    finally:
        for client in clients:
            client.close()
    raise AssertionError("nobody writes")


def after_cut(cluster: Cluster, cut: str, silent: bool) -> float:
    """One round."""
    whole, quorate = CUTS[cut]
    lead(cluster)
    numbers = cluster.numbers
    every = [(a, b) for a in numbers for b in numbers if a != b]
    up = {*whole, *((b, a) for a, b in whole)}
    cluster.proxies.cut([pair for pair in every if pair not in up], silent)
    return seconds_to_write(cluster, quorate, "cut")


@pytest.fixture(scope="module")
def five() -> Iterator[Cluster]:
    with running_cluster(5, proxied=True) as made:
        yield made


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "reset"])
@pytest.mark.parametrize("cut", CUTS)
def test_who_alone_reaches_a_quorum_writes_soon(five: Cluster, cut: str, silent: bool) -> None:
    took = [after_cut(five, cut, silent) for _ in range(ROUNDS)]
    print("seconds:", [round(seconds, 2) for seconds in took])
    assert statistics.median(took) < AIM_S + SLACK_S, took


def main(rounds: int) -> None:
    """Print the table."""
    with running_cluster(5, proxied=True) as cluster:
        for cut in CUTS:
            for silent in (True, False):
                took = sorted(after_cut(cluster, cut, silent) for _ in range(rounds))
                shown = " ".join(f"{seconds:.2f}" for seconds in took)
                print(f"{cut:12} {'silent' if silent else 'reset':6} {shown}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
