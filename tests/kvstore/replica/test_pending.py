"""Waiting requests: bounds, expiry and floors."""

import asyncio

import pytest

from kvstore.commands.accounts import AddUser, GrantPermission, Permission, Right
from kvstore.commands.binary import decode_bundle, encode
from kvstore.commands.commands import (
    Administer,
    AsUser,
    Command,
    Compact,
    Delete,
    Grant,
    Once,
    Put,
    Revoke,
)
from kvstore.commands.operations import Transaction, TxnPut
from kvstore.commands.results import Deleted
from kvstore.errors import NoQuorum, OutcomeUnknown, Overloaded
from kvstore.replica.pending import (
    COMMAND_BYTES,
    PendingReads,
    PendingWrites,
    command_bytes,
)
from kvstore.replica.stages import Stages
from paxos.ballot import Ballot


def test_writes() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        writes = PendingWrites(
            1, 1, requests_max=3, bytes_max=9999, bundle_bytes_max=1, stages=Stages(lambda: 0.0)
        )
        futures = [loop.create_future() for _ in range(3)]
        for at, future in enumerate(futures):
            writes.add(Put(b"k", b"v"), future, at + 1.0)
        with pytest.raises(Overloaded):
            writes.add(Put(b"k", b"v"), loop.create_future(), 9)
        first, second = writes.seal(), writes.seal()
        assert first is not None and second is not None
        assert decode_bundle(second.encoded).floor == 1
        first.sent_in = Ballot(1, 1)
        writes.expire(1.0)
        assert isinstance(futures[0].exception(), OutcomeUnknown)
        writes.expire(3.0)
        assert isinstance(futures[1].exception(), NoQuorum)
        assert isinstance(futures[2].exception(), NoQuorum)
        assert (writes.requests, writes.bytes) == (0, 0)
        last = loop.create_future()
        writes.add(Put(b"k", b"v"), last, 9)
        sealed = writes.seal()
        assert sealed is not None and decode_bundle(sealed.encoded).floor == 3
        writes.resolve(3, [Deleted(1, 0)])
        assert last.result() == Deleted(1, 0)

    asyncio.run(run())


def test_a_group_is_answered_together() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        writes = PendingWrites(
            1, 1, requests_max=4, bytes_max=9999, bundle_bytes_max=9999, stages=Stages(lambda: 0.0)
        )
        puts = [Put(b"%d" % number, b"v") for number in range(3)]
        group, one = loop.create_future(), loop.create_future()
        writes.add_group(puts, group, 1.0, 6)
        with pytest.raises(Overloaded):
            writes.add_group(puts, loop.create_future(), 9.0, 6)
        assert writes.requests == 3
        writes.add(Delete(b"k"), one, 2.0)
        sealed = writes.seal()
        assert sealed is not None
        assert decode_bundle(sealed.encoded).commands == (*puts, Delete(b"k"))
        assert sealed.work == 7
        writes.resolve(1, [Deleted(number, 0) for number in range(4)])
        assert group.result() == [Deleted(number, 0) for number in range(3)]
        assert one.result() == Deleted(3, 0)
        late = loop.create_future()
        writes.add_group(puts, late, 1.0, 6)
        writes.expire(1.0)
        assert isinstance(late.exception(), NoQuorum)
        assert (writes.requests, writes.bytes) == (0, 0)

    asyncio.run(run())


def test_reads_that_come_together_count_each() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        reads = PendingReads(5)
        served, late = loop.create_future(), loop.create_future()
        reads.add(served, 5, 3)
        with pytest.raises(Overloaded):
            reads.add(loop.create_future(), 5, 3)
        token = reads.take_token()
        assert token is not None
        reads.add(late, 1, 2)
        reads.ready(token, 1, 1)
        assert served.done() and reads.reads == 2
        reads.expire(2)
        assert isinstance(late.exception(), NoQuorum) and reads.reads == 0

    asyncio.run(run())


def test_reads_share_a_token_and_expire() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        reads = PendingReads(2)
        served, late = loop.create_future(), loop.create_future()
        reads.add(served, 5)
        reads.add(late, 1)
        with pytest.raises(Overloaded):
            reads.add(loop.create_future(), 5)
        token = reads.take_token()
        assert token is not None and reads.take_token() is None
        reads.ready(token, 7, 6)
        assert reads.expire(1.0) == set()
        assert isinstance(late.exception(), NoQuorum)
        reads.applied(7)
        assert served.done() and reads.reads == 0

    asyncio.run(run())


NAMED = AddUser("u" * 200, b"p" * 100)
RANGE = GrantPermission("r", Permission(Right.READ, b"k" * 900_000, b"l" * 900_000))
COMMANDS: list[Command] = [
    Put(b"k" * 900, b"v" * 5000),
    Delete(b"k" * 900),
    Compact(1 << 60),
    Grant(1 << 62, 60),
    Revoke(1 << 62),
    Transaction((), (TxnPut(b"k" * 900, b"v" * 5000),)),
    Administer(NAMED),
    Administer(RANGE),
    Once(b"i" * 128, Delete(b"k" * 900)),
    AsUser("u" * 256, 1 << 60, Once(b"i" * 128, Put(b"k" * 900, b"v"))),
    AsUser("ü" * 200, 1, Administer(RANGE)),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_whatever_a_command_carries_counts(command: Command) -> None:
    encoded = len(encode(command))
    assert encoded <= command_bytes(command) <= encoded + COMMAND_BYTES + 64
