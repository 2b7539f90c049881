"""etcd's locks and elections."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from http_api.etcd import queueing
from kvstore.commands.operations import KeyValue
from tests.support.etcd_node import EtcdNode, b64, encoded, error_of, etcd_node, on_node, revision
from tests.support.etcd_stream import Stream, stream, until
from tests.support.raw_http import Connection, connect


def held(node: EtcdNode, key: bytes) -> KeyValue | None:
    return node.replica.state.get(key)


async def leases(node: EtcdNode, *ids: int, ttl: int = 60) -> None:
    for id in ids:
        await node.ok("lease/grant", TTL=ttl, ID=id)


class Call:
    """A call on a connection of its own, to be waited for or given up."""

    def __init__(self, node: EtcdNode, path: str, **fields: Any) -> None:
        self.connection: Connection | None = None
        self.task = asyncio.create_task(self._run(node, path, fields))

    async def _run(self, node: EtcdNode, path: str, fields: dict[str, Any]) -> Any:
        async with connect(node.address) as self.connection:
            body = json.dumps(encoded(fields)).encode()
            reply = await self.connection.call("POST", f"/v3/{path}", None, body)
            return reply.json() if reply.status == 200 else error_of(reply)

    async def waits(self, node: EtcdNode, key: bytes) -> None:
        """Until it is in the queue, behind somebody."""
        await until(lambda: held(node, key) is not None and node.replica.feed.watchers > 0)
        assert not self.task.done()

    def hang_up(self) -> None:
        assert self.connection is not None
        self.connection._writer.transport.abort()


# -- locks ----------------------------------------------------------------------------------


def test_a_lock_and_its_key(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await leases(node, 777)
        for shown in (2, 2):  # a lease that has it gets it again
            locked = await node.ok("lock/lock", name=b"L", lease="777")
            assert locked["key"] == b64(b"L/309") and revision(locked) == shown
        item = held(node, b"L/309")
        assert item is not None and (item.value, item.lease) == (b"", 777)
        for shown in (3, 3):  # as does one that leaves
            unlocked = await node.ok("lock/unlock", key=b"L/309")
            assert unlocked.keys() == {"header"} and revision(unlocked) == shown
        assert held(node, b"L/309") is None

    on_node(tmp_path, test)


def test_a_lock_without_lease_or_name(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        locked = await node.ok("lock/lock", name=b"L")
        ((lease, ttl_s),) = node.replica.state.leases.all()
        assert ttl_s == 60
        assert locked["key"] == b64(b"L/%s" % f"{lease:x}".encode())
        await leases(node, 777, -5)
        assert (await node.ok("lock/lock", lease=777))["key"] == b64(b"/309")
        assert (await node.ok("lock/lock", name=b"M", lease="-5"))["key"] == b64(b"M/-5")

    on_node(tmp_path, test)


def test_refusals_of_locks(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        no_lease = "etcdserver: requested lease not found"
        assert await node.refused("lock/lock", name=b"L", lease=12) == (500, 2, no_lease)
        no_key = "etcdserver: key is not provided"
        assert await node.refused("lock/unlock") == (500, 2, no_key)
        assert (await node.refused("lock/lock", name=b"L" * 5000, lease=1))[:2] == (500, 2)
        assert error_of(await node.raw("/v3/lock/lock", b"garbage"))[:2] == (400, 3)
        assert node.replica.state.revision == 1

    on_node(tmp_path, test)


def test_locks_are_had_in_the_order_in_which_they_were_asked_for(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        # Not in the order of keys, and a queue whose name begins alike is another.
        await leases(node, 1, 5, 3, 4)
        await node.ok("lock/lock", name=b"L0", lease=1)
        await node.ok("lock/lock", name=b"L", lease=1)
        calls = {}
        for lease in (5, 3, 4):
            calls[lease] = Call(node, "lock/lock", name=b"L", lease=lease)
            await calls[lease].waits(node, b"L/%d" % lease)
        for before, lease in ((1, 5), (5, 3), (3, 4)):
            assert not calls[lease].task.done()
            gone = await node.ok("lock/unlock", key=b"L/%d" % before)
            locked = await calls[lease].task
            assert locked["key"] == b64(b"L/%d" % lease)
            assert revision(locked) >= revision(gone)
        assert node.replica.feed.watchers == 0

    on_node(tmp_path, test)


def test_keys_below_a_name_hold_up_nobody(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await leases(node, 1, 5, 6)
        for key, lease in ((b"L/2", 0), (b"L/x", 1), (b"L/M/5", 5), (b"L/0a", 1)):
            await node.ok("kv/put", key=key, value=b"v", lease=lease)
        no_leader = "election: no leader"
        assert await node.refused("election/leader", name=b"L") == (500, 2, no_leader)
        async with stream(node.address, "election/observe", {"name": b"L"}) as observed:
            await observed.end_body()
            await until(lambda: node.replica.feed.watchers == 1)
            await node.ok("kv/put", key=b"L/3", value=b"no place")
            await node.ok("kv/put", key=b"L/y", value=b"no place", lease=1)
            won = await node.ok("election/campaign", name=b"L", lease=6, value=b"me")
            assert won["leader"]["key"] == b64(b"L/6")
            assert (await observed.result())["kv"]["value"] == b64(b"me")
            assert (await node.ok("election/leader", name=b"L"))["kv"]["key"] == b64(b"L/6")

    on_node(tmp_path, test)


def test_a_place_overwritten_without_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder is not alone otherwise; once its lease has ended nobody waits for what is left."""
    monkeypatch.setattr(queueing, "LOOK_AGAIN_S", 0.02)

    async def test(node: EtcdNode) -> None:
        await leases(node, 1, 2)
        await node.ok("lock/lock", name=b"L", lease=1)
        await node.ok("kv/put", key=b"L/1", value=b"by hand")
        waiting = Call(node, "lock/lock", name=b"L", lease=2)
        await waiting.waits(node, b"L/2")
        await node.ok("lease/revoke", ID=1)
        assert (await waiting.task)["key"] == b64(b"L/2")
        assert held(node, b"L/1") is not None

    on_node(tmp_path, test)


def test_one_that_waits_in_the_middle_leaves(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await leases(node, 1, 2, 3)
        await node.ok("lock/lock", name=b"L", lease=1)
        second = Call(node, "lock/lock", name=b"L", lease=2)
        await second.waits(node, b"L/2")
        third = Call(node, "lock/lock", name=b"L", lease=3)
        await third.waits(node, b"L/3")
        await until(lambda: node.replica.feed.watchers == 4)
        await node.ok("lease/revoke", ID=2)
        # The second hears of its loss at once, and the third now waits for the first.
        assert await second.task == (500, 2, "mutex: session is expired")
        assert not third.task.done()
        await node.ok("lock/unlock", key=b"L/1")
        assert (await third.task)["key"] == b64(b"L/3")

    on_node(tmp_path, test)


@pytest.mark.parametrize("ended_by", ["revoke", "delete", "recreate"])
@pytest.mark.parametrize(
    ("path", "lost"),
    [
        ("lock/lock", "mutex: session is expired"),
        ("election/campaign", "election: session is expired"),
    ],
)
def test_a_waiter_whose_own_key_is_gone_hears_it_at_once(
    tmp_path: Path, path: str, lost: str, ended_by: str
) -> None:
    """It must not win when its turn would come, nor wait until then, which may be for ever."""

    async def test(node: EtcdNode) -> None:
        await leases(node, 1, 2)
        await node.ok(path, name=b"L", lease=1)
        waiting = Call(node, path, name=b"L", lease=2)
        await waiting.waits(node, b"L/2")
        if ended_by == "revoke":
            await node.ok("lease/revoke", ID=2)
        else:
            await node.ok("kv/deleterange", key=b"L/2")
        if ended_by == "recreate":
            await node.ok("kv/put", key=b"L/2", value=b"another's")
        async with asyncio.timeout(5):
            assert await waiting.task == (500, 2, lost)
        assert held(node, b"L/1") is not None
        await until(lambda: node.replica.feed.watchers == 0)

    on_node(tmp_path, test)


def test_one_that_hangs_up_leaves_the_queue(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await leases(node, 1, 2)
        await node.ok("lock/lock", name=b"L", lease=1)
        call = Call(node, "lock/lock", name=b"L", lease=2)
        await call.waits(node, b"L/2")
        call.hang_up()
        await until(lambda: held(node, b"L/2") is None and node.replica.feed.watchers == 0)
        await asyncio.gather(call.task, return_exceptions=True)
        assert held(node, b"L/1") is not None

    on_node(tmp_path, test)


def test_the_lease_of_one_that_waits_is_kept_alive(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await leases(node, 1)
        await leases(node, 2, 3, ttl=2)
        await node.ok("lock/lock", name=b"L", lease=1)
        call = Call(node, "lock/lock", name=b"L", lease=2)
        await call.waits(node, b"L/2")
        # Lease 3 is as short, and nobody keeps it.
        await until(lambda: node.replica.state.leases.ttl_s(3) is None)
        await node.ok("lock/unlock", key=b"L/1")
        assert (await call.task)["key"] == b64(b"L/2")
        # Nobody does from here on.
        await until(lambda: held(node, b"L/2") is None)

    on_node(tmp_path, test)


def test_a_lock_whose_lease_ends_goes_to_the_next(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await leases(node, 1, ttl=2)
        await leases(node, 2)
        await node.ok("lock/lock", name=b"L", lease=1)
        call = Call(node, "lock/lock", name=b"L", lease=2)
        assert (await call.task)["key"] == b64(b"L/2")
        assert held(node, b"L/1") is None

    on_node(tmp_path, test)


# -- elections ------------------------------------------------------------------------------


def leader_key(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["leader"]
    return found


def test_an_election(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        no_leader = (500, 2, "election: no leader")
        assert await node.refused("election/leader", name=b"E") == no_leader
        await leases(node, 777)
        won = await node.ok("election/campaign", name=b"E", lease=777, value=b"v1")
        key = {"name": b64(b"E"), "key": b64(b"E/309"), "rev": "2", "lease": "777"}
        assert leader_key(won) == key and revision(won) == 2
        # Once more, with another value: the first transaction's revision is shown.
        again = await node.ok("election/campaign", name=b"E", lease=777, value=b"v2")
        assert leader_key(again) == key and revision(again) == 2
        led = await node.ok("election/leader", name=b"E")
        assert revision(led) == 3
        assert led["kv"] == {
            "key": b64(b"E/309"),
            "create_revision": "2",
            "mod_revision": "3",
            "version": "2",
            "value": b64(b"v2"),
            "lease": "777",
        }
        assert revision(await node.ok("election/proclaim", leader=key, value=b"v3")) == 4
        assert (await node.ok("election/leader", name=b"E"))["kv"]["value"] == b64(b"v3")
        stale = {**key, "rev": "1"}
        assert revision(await node.ok("election/resign", leader=stale)) == 4
        resigned = await node.ok("election/resign", leader=key)
        assert resigned.keys() == {"header"} and revision(resigned) == 5
        assert revision(await node.ok("election/resign", leader=key)) == 5
        assert await node.refused("election/leader", name=b"E") == no_leader

    on_node(tmp_path, test)


def test_refusals_of_elections(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await leases(node, 777)
        won = await node.ok("election/campaign", name=b"E", lease=777, value=b"v1")
        key = leader_key(won)
        no_lease = (500, 2, "etcdserver: requested lease not found")
        missing = (500, 2, '"leader" field must be provided')
        assert await node.refused("election/campaign", name=b"E", lease=12) == no_lease
        for leader, refusal in (
            ({**key, "lease": 12}, no_lease),
            ({**key, "rev": "1"}, (500, 2, "election: not leader")),
            ({**key, "key": b"E/1"}, (500, 2, "election: not leader")),
            ({}, (500, 2, "etcdserver: key is not provided")),
            (None, missing),
        ):
            assert await node.refused("election/proclaim", leader=leader, value=b"v") == refusal
        assert await node.refused("election/resign") == missing
        assert await node.refused("election/leader") == (500, 2, "election: no leader")
        assert node.replica.state.revision == 2

    on_node(tmp_path, test)


def test_a_campaign_without_lease(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        won = leader_key(await node.ok("election/campaign", name=b"E", value=b"v"))
        assert dict(node.replica.state.leases.all()) == {int(won["lease"]): 60}
        assert won["key"] == b64(b"E/%x" % int(won["lease"]))

    on_node(tmp_path, test)


def test_campaigns_are_won_in_order_and_given_up(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await leases(node, 1, 2, 3)
        first = leader_key(await node.ok("election/campaign", name=b"E", lease=1, value=b"one"))
        second = Call(node, "election/campaign", name=b"E", lease=2, value=b"two")
        await second.waits(node, b"E/2")
        third = Call(node, "election/campaign", name=b"E", lease=3, value=b"three")
        await until(lambda: node.replica.feed.watchers == 4)
        second.hang_up()
        await until(lambda: held(node, b"E/2") is None)
        await asyncio.gather(second.task, return_exceptions=True)
        await node.ok("election/resign", leader=first)
        won = await third.task
        assert leader_key(won)["lease"] == "3"
        assert (await node.ok("election/leader", name=b"E"))["kv"]["value"] == b64(b"three")

    on_node(tmp_path, test)


async def observed(opened: Stream) -> tuple[str, str, int]:
    message = await opened.message()
    assert message.keys() == {"header", "kv"}
    item = message["kv"]
    return item["key"], item["value"], revision(message)


def test_observe(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await leases(node, 1, 2)
        async with stream(node.address, "election/observe", {"name": b"E"}) as opened:
            await opened.end_body()
            await until(lambda: node.replica.feed.watchers == 1)
            await opened.nothing_yet()
            one = leader_key(await node.ok("election/campaign", name=b"E", lease=1, value=b"a"))
            assert await observed(opened) == (b64(b"E/1"), b64(b"a"), 2)
            await node.ok("election/proclaim", leader=one, value=b"b")
            assert await observed(opened) == (b64(b"E/1"), b64(b"b"), 3)
            waiting = Call(node, "election/campaign", name=b"E", lease=2, value=b"c")
            await until(lambda: node.replica.feed.watchers == 3)
            assert held(node, b"E/2") is not None  # which is not to be seen
            await node.ok("election/resign", leader=one)
            assert await observed(opened) == (b64(b"E/2"), b64(b"c"), 5)
            two = leader_key(await waiting.task)
            await node.ok("election/resign", leader=two)
            await until(lambda: node.replica.feed.watchers == 1)
            await node.ok("election/campaign", name=b"E", lease=1, value=b"d")
            assert await observed(opened) == (b64(b"E/1"), b64(b"d"), 7)
            opened.hang_up()
        await until(lambda: node.replica.feed.watchers == 0)
        async with stream(node.address, "election/observe", {"name": b"E"}) as opened:
            await opened.end_body()
            assert await observed(opened) == (b64(b"E/1"), b64(b"d"), 7)

    on_node(tmp_path, test)


def test_observe_of_garbage(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        reply = await node.raw("/v3/election/observe", b"garbage")
        assert error_of(reply)[:2] == (400, 3)

    on_node(tmp_path, test)


def test_a_server_that_stops_lets_nobody_wait(tmp_path: Path) -> None:
    async def run() -> None:
        async with etcd_node(tmp_path) as node:
            await leases(node, 1, 2)
            await node.ok("lock/lock", name=b"L", lease=1)
            call = Call(node, "lock/lock", name=b"L", lease=2)
            await call.waits(node, b"L/2")
        assert await call.task == (503, 14, "etcdserver: server stopped")

    asyncio.run(run())
