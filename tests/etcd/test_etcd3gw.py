"""The PyPI client etcd3gw, through its whole surface, on three nodes of ours.

Then the same while the leader is killed with SIGKILL in the middle. ETCD3GW_AGAINST=etcd runs the
first part against a real etcd: it must pass there, or the expectations are wrong.
"""

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from tests.etcd.servers import Etcd
from tests.support.real_cluster import Cluster, eventually

etcd3gw = pytest.importorskip("etcd3gw", reason="pip install etcd3gw (part of the dev extra)")
from etcd3gw import exceptions  # noqa: E402

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

T = TypeVar("T")
WATCH_S = 10.0


@pytest.fixture(params=["leader", "follower"])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A client of one node."""
    if os.environ.get("ETCD3GW_AGAINST") == "etcd":
        etcd = Etcd()
        yield etcd3gw.client(port=etcd.port, timeout=10)
        etcd.stop()
    else:
        cluster = request.getfixturevalue("cluster")
        number = cluster.leader() if request.param == "leader" else cluster.followers()[0]
        yield etcd3gw.client(port=cluster.nodes[number].client_port, timeout=10)


@pytest.fixture
def name() -> str:
    """A prefix that no other test uses."""
    return f"{uuid.uuid4().hex}/"


def patiently(attempt: Callable[[], T]) -> T:
    """Repeat while the cluster is without a leader: 503 and 504, and nothing else."""
    end = time.monotonic() + 20
    while True:
        try:
            return attempt()
        except (exceptions.ConnectionFailedError, exceptions.ConnectionTimeoutError):
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


# -- the surface -----------------------------------------------------------------------------------


def test_status_and_members(client: Any) -> None:
    status, members = client.status(), client.members()
    assert status["version"].startswith("3.5") and int(status["header"]["raft_term"]) > 0
    assert status["leader"] in {member["ID"] for member in members}
    assert status["header"]["member_id"] in {member["ID"] for member in members}
    urls = {url for member in members for url in member["clientURLs"]}
    assert client.base_url.replace("localhost", "127.0.0.1") in urls


def test_put_get_and_delete(client: Any, name: str) -> None:
    assert client.get(name + "a") == []
    assert client.put(name + "a", "1") is True
    assert client.get(name + "a") == [b"1"]
    assert client.put(name + "a", b"\xff\x00") is True
    assert client.get(name + "a") == [b"\xff\x00"]
    client.put(name + "a", "")
    assert client.get(name + "a") == [b""]
    ((value, metadata),) = client.get(name + "a", metadata=True)
    assert (value, metadata["version"], metadata["key"]) == (b"", "3", (name + "a").encode())
    assert client.delete(name + "a") is True
    assert client.delete(name + "a") is False
    assert client.get(name + "a") == []


def test_get_with_every_option(client: Any, name: str) -> None:
    for key, value in (("b", "2"), ("a", "3"), ("c", "1"), ("a", "4")):
        client.put(name + key, value)
    revision = int(client.get(name + "a", metadata=True)[0][1]["mod_revision"])
    end = name[:-1] + "0"

    def get(**options: Any) -> list[bytes]:
        return client.get(name, range_end=end, **options)

    assert get() == [b"4", b"2", b"1"]
    assert get(sort_order="descend", sort_target="key") == [b"1", b"2", b"4"]
    assert get(sort_order="ascend", sort_target="value") == [b"1", b"2", b"4"]
    assert get(sort_order="descend", sort_target="version") == [b"4", b"2", b"1"]
    assert get(sort_order="ascend", sort_target="create") == [b"2", b"4", b"1"]
    assert get(sort_order="descend", sort_target="mod") == [b"4", b"1", b"2"]
    assert get(limit=2) == [b"4", b"2"]
    assert get(revision=revision - 1) == [b"3", b"2", b"1"]
    assert get(keys_only=True) == [b"", b"", b""]
    assert get(count_only=True) == []
    assert get(min_mod_revision=revision) == [b"4"]
    assert get(max_mod_revision=revision - 1) == [b"2", b"1"]
    assert get(min_create_revision=revision - 1) == [b"1"]
    assert get(max_create_revision=revision - 3) == [b"2"]
    assert sorted(get(serializable=True)) in ([b"1", b"2", b"3"], [b"1", b"2", b"4"])


def test_prefixes_and_everything(client: Any, name: str) -> None:
    for key in ("p/1", "p/2", "q"):
        client.put(name + key, key)
    assert [value for value, _ in client.get_prefix(name + "p/")] == [b"p/1", b"p/2"]
    found = client.get_prefix(name, sort_order="descend", sort_target="key")
    assert [metadata["key"] for _, metadata in found] == [
        (name + key).encode() for key in ("q", "p/2", "p/1")
    ]
    keys = {metadata["key"] for _, metadata in client.get_all()}
    assert keys >= {(name + "p/1").encode(), (name + "q").encode()}
    assert client.delete_prefix(name + "p/") is True
    assert client.delete_prefix(name + "p/") is False
    assert [value for value, _ in client.get_prefix(name)] == [b"q"]
    assert client.delete(name, range_end=name + "z", prev_kv=True) is True


def test_create_replace_and_transaction(client: Any, name: str) -> None:
    assert client.create(name + "a", "1") is True
    assert client.create(name + "a", "2") is False
    assert client.replace(name + "a", "1", "2") is True
    assert client.replace(name + "a", "1", "3") is False
    assert client.replace(name + "missing", "1", "3") is False
    assert client.get(name + "a") == [b"2"]
    from etcd3gw.utils import _encode

    key = _encode(name + "a")
    answer = client.transaction({
        "compare": [{"key": key, "result": "EQUAL", "target": "VERSION", "version": 2}],
        "success": [{"request_range": {"key": key}}, {"request_delete_range": {"key": key}}],
        "failure": [],
    })  # fmt: skip
    assert answer["succeeded"] is True
    first, second = answer["responses"]
    assert first["response_range"]["kvs"][0]["value"] == _encode("2")
    assert second["response_delete_range"]["deleted"] == "1"
    with pytest.raises(exceptions.Etcd3Exception, match="Bad Request"):
        client.transaction({"success": [{"request_put": {"key": key}}] * 2})


def test_leases(client: Any, name: str) -> None:
    lease = client.lease(ttl=60)
    assert lease.keys() == []
    client.put(name + "a", "1", lease)
    assert client.create(name + "b", "1", lease=lease) is True
    assert sorted(lease.keys()) == [(name + "a").encode(), (name + "b").encode()]
    assert 55 <= lease.ttl() <= 60
    assert lease.refresh() == 60
    assert lease.revoke() is True
    assert client.get_prefix(name) == []
    assert (lease.ttl(), lease.refresh(), lease.keys()) == (-1, -1, [])
    with pytest.raises(exceptions.Etcd3Exception):
        lease.revoke()


def test_a_lease_expires(client: Any, name: str) -> None:
    lease = client.lease(ttl=2)
    begin = time.monotonic()
    client.put(name + "a", "1", lease)
    eventually(lambda: client.get(name + "a") == [], "the key is gone")
    assert 1.9 <= time.monotonic() - begin <= 4.0
    assert lease.refresh() == -1


def test_locks(client: Any, name: str) -> None:
    mine, other = client.lock(name, ttl=60), client.lock(name, ttl=60)
    assert mine.acquire() is True
    assert (mine.is_acquired(), other.is_acquired()) == (True, False)
    assert other.acquire() is False
    assert mine.refresh() == 60
    assert other.release() is False
    assert mine.release() is True
    assert mine.is_acquired() is False
    with other:
        assert other.is_acquired()
    assert not other.is_acquired()
    with client.lock() as anonymous:
        assert anonymous.is_acquired()


def test_a_lock_falls_with_its_lease(client: Any, name: str) -> None:
    mine, other = client.lock(name, ttl=2), client.lock(name, ttl=60)
    assert mine.acquire() is True
    eventually(other.acquire, "the lock is free")
    assert not mine.is_acquired()


@contextmanager
def again_and_again(action: Callable[[], Any]) -> Iterator[None]:
    """Do it from another thread until the block ends: nobody says when the block's watch has
    begun, and what was done before that is not seen by it."""
    done = threading.Event()

    def act() -> None:
        while not done.wait(0.1):
            action()

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_watch(client: Any, name: str) -> None:
    events, cancel = client.watch(name + "a")
    for value in ("1", "2"):
        client.put(name + "a", value)
    client.put(name + "b", "other")
    client.delete(name + "a")
    first, second, third = (next(events) for _ in range(3))
    cancel()
    assert (first["kv"]["value"], second["kv"]["value"]) == (b"1", b"2")
    assert second["kv"]["key"] == (name + "a").encode() and second["kv"]["version"] == "2"
    assert third["type"] == "DELETE" and "type" not in first


def test_watch_with_every_option(client: Any, name: str) -> None:
    client.put(name + "a", "1")
    revision = int(client.get(name + "a", metadata=True)[0][1]["mod_revision"])
    client.delete(name + "a")
    client.put(name + "a", "2")
    events, cancel = client.watch(
        name + "a", start_revision=revision, filters=["NODELETE"], prev_kv=True,
        progress_notify=True, range_end=name + "b", fragment=True,
    )  # fmt: skip
    assert [next(events)["kv"]["value"] for _ in range(2)] == [b"1", b"2"]
    client.put(name + "aa", "3")
    client.put(name + "aa", "4")
    assert next(events)["kv"]["key"] == (name + "aa").encode()
    assert "prev_kv" in next(events)
    cancel()


def test_watch_prefix(client: Any, name: str) -> None:
    events, cancel = client.watch_prefix(name)
    for key in ("a", "b"):
        client.put(name + key, key)
    assert [next(events)["kv"]["key"] for _ in range(2)] == [
        (name + "a").encode(), (name + "b").encode(),
    ]  # fmt: skip
    cancel()


def test_watch_once(client: Any, name: str) -> None:
    with again_and_again(lambda: client.put(name + "a", "1")):
        assert client.watch_once(name + "a", timeout=WATCH_S)["kv"]["value"] == b"1"
    with pytest.raises(exceptions.WatchTimedOut):
        client.watch_once(name + "a", timeout=0.2)


def test_watch_prefix_once(client: Any) -> None:
    # The client encodes range_end twice: the interval ends at base64 text ("cQ==" for "q"), so
    # only a prefix that sorts before that text can be watched.
    prefix = f"@{uuid.uuid4().hex}"
    with again_and_again(lambda: client.put(prefix + "a", "1")):
        found = client.watch_prefix_once(prefix, timeout=WATCH_S)
    assert found["kv"]["value"] == b"1"
    with pytest.raises(exceptions.WatchTimedOut):
        client.watch_prefix_once("~" + prefix, timeout=0.2)


# -- a node is killed in the middle ----------------------------------------------------------------


def test_everything_goes_on_when_the_leader_is_killed(cluster: Cluster, name: str) -> None:
    leader = cluster.leader()
    port = cluster.nodes[cluster.followers()[0]].client_port
    client = etcd3gw.client(port=port, timeout=10)
    events, cancel = client.watch_prefix(name + "load/")
    seen: list[dict[str, Any]] = []
    watching = threading.Thread(
        target=lambda: seen.extend(event["kv"] for event in events), daemon=True
    )
    watching.start()
    lock, lease = client.lock(name + "lock", ttl=60), client.lease(ttl=60)
    assert lock.acquire()
    client.put(name + "leased", "1", lease)
    written = _write_through_a_kill(client, name, lambda: cluster.kill9(leader))
    eventually(lambda: [kv["value"].decode() for kv in seen][-1:] == written[-1:],
               "the watch sees the last write")  # fmt: skip
    cancel()
    watching.join(WATCH_S)
    # A repeated write may have been applied twice; the watch shows each revision once.
    assert list(dict.fromkeys(kv["value"].decode() for kv in seen)) == written
    revisions = [int(kv["mod_revision"]) for kv in seen]
    assert revisions == sorted(set(revisions))
    assert patiently(lock.is_acquired) and patiently(lock.refresh) == 60
    assert patiently(lease.keys) == [(name + "leased").encode()] and 0 < lease.ttl() <= 60
    assert not client.lock(name + "lock", ttl=60).acquire()
    for test in SURFACE:
        test(client, f"{name}{test.__name__}/")
    assert lock.release() is True and lease.revoke() is True
    cluster.start(leader)
    back = etcd3gw.client(port=cluster.nodes[leader].client_port, timeout=10)
    eventually(lambda: back.get(name + "load/last") == [written[-1].encode()], "it caught up")


SURFACE = (
    test_put_get_and_delete, test_get_with_every_option, test_prefixes_and_everything,
    test_create_replace_and_transaction, test_leases, test_a_lease_expires, test_locks,
    test_a_lock_falls_with_its_lease, test_watch, test_watch_with_every_option, test_watch_prefix,
    test_watch_once,
)  # fmt: skip


def _write_through_a_kill(client: Any, name: str, kill: Callable[[], None]) -> list[str]:
    """100 writes, one after the other, with the kill after 30; the values in order."""
    written = []
    for number in range(100):
        if number == 30:
            kill()
        value = str(number)
        patiently(lambda value=value: client.put(name + "load/last", value))
        written.append(value)
    return written
