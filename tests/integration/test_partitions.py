"""A leader that is cut off acknowledges nothing and serves nothing stale; then all agree again."""

import threading

import pytest

from tests.support.real_cluster import Answer, Client, check_all, eventually

pytestmark = pytest.mark.integration


class Askers:
    """Clients at one node that write and read all the time, and note every 200."""

    def __init__(self, cluster, number):
        self.acknowledged: list[str] = []
        self.reads: list[Answer] = []
        self.calls = 0
        self._stop = threading.Event()
        port = cluster.nodes[number].client_port
        self._threads = [
            threading.Thread(target=self._write, args=(port,), daemon=True),
            threading.Thread(target=self._read, args=(port,), daemon=True),
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def _write(self, port):
        client = Client(port)
        while not self._stop.wait(0.02):
            key = f"minority-{self.calls}"
            if client.call("PUT", f"/v1/kv/{key}?timeout=0.3", b"x").status == 200:
                self.acknowledged.append(key)
            self.calls += 1
        client.close()

    def _read(self, port):
        client = Client(port)
        while not self._stop.wait(0.01):
            answer = client.call("GET", "/v1/kv/key?timeout=0.3")
            if answer.status == 200:
                self.reads.append(answer)
        client.close()


@pytest.mark.parametrize(
    "silent",
    [
        pytest.param(True, id="silent"),
        pytest.param(False, id="reset", marks=pytest.mark.proof),
    ],
)
def test_partitioned_leader(new_cluster, silent):
    """From the cut on: no acknowledgement and no old value at it; the others elect and go on."""
    cluster = new_cluster(proxied=True)
    old = cluster.leader()
    majority = [n for n in cluster.numbers if n != old]
    cluster.must_put(old, "key", b"old")
    cluster.isolate(old, silent)
    with Askers(cluster, old) as askers:
        new = cluster.leader(among=majority)
        wrote = {"key": b"new"}
        cluster.must_put(new, "key", b"new")
        seen = len(askers.reads)
        for count in range(20):
            wrote[f"majority-{count}"] = b"%d" % count
            cluster.must_put(majority[count % 2], f"majority-{count}", b"%d" % count)
        calls = askers.calls
        eventually(lambda: askers.calls >= calls + 3, "the cut off node answers its clients")
        assert cluster.get(old, "key", "?consistency=serializable").body == b"old"
    assert askers.acknowledged == []
    assert not any(answer.body == b"old" for answer in askers.reads[seen + 1 :])
    if silent:
        assert cluster.proxies.swallowed_bytes() > 0
    assert not cluster.ready(old)
    cluster.heal()
    cluster.wait_ready()
    cluster.converged()
    for number in cluster.numbers:
        check_all(cluster, number, wrote)


@pytest.mark.proof
def test_partial_partition(new_cluster):
    """Only the link between the leader and one follower is cut: writes at the third go on."""
    cluster = new_cluster(proxied=True)
    leader, (one, other) = cluster.leader(), cluster.followers()
    cluster.proxies.cut(cluster.pairs([leader], [one]), True)
    for count in range(10):
        cluster.must_put(other, f"key-{count}", b"%d" % count)
    cluster.heal()
    cluster.wait_ready()
    cluster.converged()
    assert cluster.get(one, "key-9").body == b"9"
