"""A bit flips on the disk of one node while the cluster runs: no client ever sees it, and the node
is rebuilt from the others by itself."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proof.processes.waiting import eventually
from tests.support.real_cluster import READY_S, Client, Cluster, Load, check_all

pytestmark = [pytest.mark.integration, pytest.mark.proof]

SERIALIZABLE = "?consistency=serializable"
KEY, VALUE = "flipped", bytes(range(256)) * 8
SETTINGS = {
    "rebuild": "automatic",
    "replace_lost_after_s": 1.0,
    "checkpoint_interval_s": 0.2,
    "scrub_interval_s": 1.0,
}


def flip(path: Path) -> int:
    """One bit in each copy of the value that the file holds, behind the node's back: which of them
    are in free pages is not known. How many there were."""
    data = path.read_bytes()
    count, at = 0, data.find(VALUE)
    with path.open("r+b", buffering=0) as file:
        while at >= 0:
            place = at + len(VALUE) // 2
            file.seek(place)
            file.write(bytes([data[place] ^ 0x10]))
            count, at = count + 1, data.find(VALUE, at + len(VALUE))
    return count


class Readers:
    """Read the key from each node for itself, and the same through a quorum. All answers but the
    right one are in `wrong`; that a node does not answer for a while is none."""

    def __init__(self, cluster: Cluster) -> None:
        self.wrong: list[tuple[int, int, bytes]] = []
        self.right = dict.fromkeys(cluster.numbers, 0)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._read, args=(number, node.client_port), daemon=True)
            for number, node in cluster.nodes.items()
        ]

    def __enter__(self) -> "Readers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _read(self, number: int, port: int) -> None:
        client = Client(port)
        while not self._stop.wait(0.01):
            for query in ("", SERIALIZABLE):
                answer = client.call("GET", f"/v1/kv/{KEY}{query}")
                if answer.status == 200 and answer.body == VALUE:
                    self.right[number] += 1
                elif answer.status not in (0, 503, 504):
                    self.wrong.append((number, answer.status, answer.body[:20]))
        client.close()


@pytest.mark.parametrize(
    ("victim", "read"), [("leader", True), ("follower", True), ("follower", False)]
)
def test_a_bit_flips_in_the_state(
    new_cluster: Callable[..., Cluster], victim: str, read: bool
) -> None:
    """`read`: clients ask for the value all the time; else the scrubber meets it."""
    cluster = new_cluster(3, **SETTINGS)
    cluster.must_put(1, KEY, VALUE)
    with Load(cluster, cluster.numbers, size=500) as load:
        load.more(100)
        hurt = cluster.leader() if victim == "leader" else cluster.followers()[0]
        state = cluster.nodes[hurt].data_dir / "state.mdb"
        eventually(lambda: VALUE in state.read_bytes(), "the value is in the file")
        process = cluster.nodes[hurt].pid
        readers = Readers(cluster)
        if read:
            with readers:
                passed_s = rebuilt(cluster, hurt, state)
        else:
            passed_s = rebuilt(cluster, hurt, state)
        load.more(50)
    print(f"{victim}, {'read' if read else 'scrubbed'}: rebuilt after {passed_s:.1f} s")
    assert readers.wrong == []
    assert cluster.nodes[hurt].pid == process
    cluster.converged()
    for number in cluster.numbers:
        expected = load.acknowledged | {KEY: VALUE}
        check_all(cluster, number, expected, SERIALIZABLE)


def rebuilt(cluster: Cluster, hurt: int, state: Path) -> float:
    """Flip it; how many seconds later the node votes again and serves."""
    began_s = time.monotonic()
    assert flip(state) > 0
    eventually(lambda: "data set aside" in cluster.log(hurt), "it is noticed", READY_S)
    print(f"set aside after {time.monotonic() - began_s:.1f} s")

    def votes_again() -> bool:
        view = cluster.status(hurt)
        if not view.get("node", {}).get("ready") or view["configuration"] is None:
            return False
        voters = view["configuration"]["voters"]
        return view["node"]["id"] in voters and len(voters) == len(cluster.numbers)

    eventually(votes_again, f"node {hurt} votes again", READY_S)
    return time.monotonic() - began_s
