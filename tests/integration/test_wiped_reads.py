"""A node whose disk was lost is asked for its own state all the time: it never says that there is
nothing."""

import json
import random
import shutil
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Callable

import pytest

from kvstore.client import BlockingClient, KvError, put
from tests.support.real_cluster import READY_S, Client, Cluster, Load, check_all, eventually

pytestmark = [pytest.mark.integration, pytest.mark.proof]

SERIALIZABLE = "consistency=serializable"
KEYS = {f"old-{n}": f"value {n} ".encode() * 40 for n in range(4000)}


class LocalReader:
    """Reads keys that are there from one node for itself, by both APIs. What it was answered that
    is no error and not right is in `wrong`."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.answers: Counter[int] = Counter()
        self.wrong: list[tuple[str, int, bytes]] = []
        self._stop = threading.Event()
        self._client = Client(cluster.nodes[number].client_port)
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "LocalReader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self._client.close()

    def _read(self) -> None:
        chosen, names = random.Random(1), list(KEYS)
        while not self._stop.wait(0.002):
            name = chosen.choice(names)
            self._ask(f"/v1/kv/{name}?{SERIALIZABLE}", None, KEYS[name])
            asked = {"key": b64encode(name.encode()).decode(), "serializable": True}
            found = b64encode(KEYS[name])
            self._ask("/v3/kv/range", json.dumps(asked).encode(), found)
            path = f"/v1/kv?prefix=old-&limit=3&keys_only=true&{SERIALIZABLE}"
            self._ask(path, None, b'"old-10"')

    def _ask(self, path: str, body: bytes | None, expected: bytes) -> None:
        answer = self._client.call("GET" if body is None else "POST", path, body)
        self.answers[answer.status] += 1
        if answer.status not in (0, 503) and not (answer.status == 200 and expected in answer.body):
            self.wrong.append((path, answer.status, answer.body[:80]))


def test_a_node_that_lost_its_disk_never_says_that_there_is_nothing(
    new_cluster: Callable[..., Cluster],
) -> None:
    cluster = new_cluster(
        3, replace_lost_after_s=1.0, log_tail_bytes=50_000, log_tail_slots=100,
        snapshot_piece_bytes=20_000,
    )  # fmt: skip
    with BlockingClient(cluster.nodes[1].url) as client:
        done = client.batch([put(name, value) for name, value in KEYS.items()])
    assert not any(isinstance(one, KvError) for one in done)
    wiped = cluster.followers()[0]
    with Load(cluster, [n for n in cluster.numbers if n != wiped], size=300) as load:
        load.more(200)
        cluster.kill9(wiped)
        shutil.rmtree(cluster.nodes[wiped].data_dir)
        with LocalReader(cluster, wiped) as reader:
            cluster.start(wiped, wait=False)
            eventually(lambda: reader.answers[200] > 30, "it shows its own state again", READY_S)
            load.more(50)
            assert reader.answers[503] > 0
        assert reader.wrong == []
    print(dict(reader.answers))
    cluster.converged()
    check_all(cluster, wiped, load.acknowledged | KEYS, f"?{SERIALIZABLE}")
