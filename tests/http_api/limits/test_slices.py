"""Long reads: in slices, at one revision, whatever is written between two of them."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from http_api.callers.caller_sessions import CallerSessions
from http_api.core.session import Session
from http_api.limits import slices
from kvstore.commands.commands import Compact, Delete, Put
from kvstore.commands.operations import (
    Comparison,
    Field,
    KeyValue,
    Order,
    Relation,
    Select,
    Transaction,
    TransactionDone,
    TxnPut,
)
from kvstore.commands.results import BadRevision
from kvstore.errors import RevisionCompacted, WorkTooLarge
from kvstore.state import selection as selection_module
from kvstore.state.mvcc import PAGE_BYTES_MAX
from tests.support.memory_replica import MemoryReplica

KEYS = 1_000


@pytest.fixture
def replica() -> Iterator[MemoryReplica]:
    with closing(MemoryReplica()) as found:
        found.apply(*(Put(b"k%04d" % at, b"%d" % (at % 7)) for at in range(KEYS)))
        yield found


@pytest.fixture
def session(replica: MemoryReplica, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Its slices are as small as can be."""
    monkeypatch.setattr(slices, "SLICE_S", 0.0)
    monkeypatch.setattr(slices, "STEP_ENTRIES", 10)
    return CallerSessions(replica).anonymous


ORDERS = [
    Select(b"", None),
    Select(b"k01", b"k05", limit=150),
    Select(b"", None, order=Order.DESCEND, limit=30),
    Select(b"", None, sort_by=Field.VALUE, order=Order.DESCEND),
    Select(b"", None, sort_by=Field.VALUE, limit=20, keys_only=True),
    Select(b"", None, sort_by=Field.MOD, order=Order.DESCEND, limit=300),
    Select(b"", None, min_mod_revision=500, max_create_revision=800, limit=99),
    Select(b"", None, count_only=True),
    Select(b"", None, revision=600, keys_only=True),
    Select(b"x", b"y", sort_by=Field.VERSION),
]


@pytest.mark.parametrize("wanted", ORDERS)
def test_slices_show_one_revision(replica: MemoryReplica, session: Session, wanted: Select) -> None:
    async def run() -> None:
        expected = session.select(wanted)
        selection = session.selection(wanted)
        items: list[KeyValue] = []
        pieces = 0
        async for piece in selection.pieces():
            items += piece
            pieces += 1
            key = b"k%04d" % (37 * pieces % KEYS)
            replica.apply(Put(key, b"new"), Delete(b"k%04d" % (KEYS - pieces)), Put(b"a", b""))
        assert (tuple(items), selection.count, selection.more, selection.revision) == (
            expected.items,
            expected.count,
            expected.more,
            expected.revision,
        )
        assert pieces > 20 or wanted.start != b""

    asyncio.run(run())


def test_a_transaction_that_only_reads_is_no_entry_of_the_log(
    replica: MemoryReplica, session: Session
) -> None:
    exists = Comparison(Field.VERSION, Relation.GREATER, b"k", None, 0)
    counts = tuple(Select(b"", None, count_only=True) for _ in range(32))
    inner = Transaction((exists,), (Select(b"k0001", b"k0003"),))
    transaction = Transaction((exists,), (*counts, inner), (TxnPut(b"never", b""),))
    both = Transaction(transaction.compares, transaction.success)

    async def run() -> None:
        slot = replica.state.applied_through

        async def write() -> None:
            while True:
                replica.apply(Delete(b"k0900"), Put(b"a", b""))
                await asyncio.sleep(0)

        writer = asyncio.create_task(write())
        done = await session.execute(both, 60)
        writer.cancel()
        assert isinstance(done, TransactionDone) and done.succeeded
        assert {result.count for result in done.results[:-1]} == {KEYS}  # type: ignore[union-attr]
        assert replica.state.applied_through > slot + 32
        slot = replica.state.applied_through
        failed = Comparison(Field.VERSION, Relation.EQUAL, b"k", None, 9)
        done = await session.execute(Transaction((failed,), (), counts[:1]), 5)
        assert isinstance(done, TransactionDone) and not done.succeeded
        future = await session.execute(Transaction((), (Select(b"a", None, 10**6),)), 5)
        assert isinstance(future, BadRevision)
        assert replica.state.applied_through == slot
        await session.execute(transaction, 5)
        assert replica.state.applied_through == slot + 1

    asyncio.run(run())


def test_reads_that_cannot_be_finished(
    replica: MemoryReplica, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(wanted: Select, compact: bool = False) -> None:
        async for _ in session.selection(wanted).pieces():
            replica.apply(Put(b"a", b""))
            if compact:
                replica.apply(Compact(replica.state.revision))

    async def run() -> None:
        with pytest.raises(RevisionCompacted):
            await read(Select(b"", None), compact=True)
        monkeypatch.setattr(selection_module, "SORTED_BYTES_MAX", 50_000)
        with pytest.raises(WorkTooLarge, match="must be sorted"):
            await read(Select(b"", None, sort_by=Field.MOD))
        many = (Select(b"k", b"l"),) * 5  # 5,000 small items, which take long to encode
        with pytest.raises(WorkTooLarge, match="the answer to a transaction"):
            await session.execute(Transaction((), many), 5)
        replica.apply(*(Put(b"m%d" % at, b"v" * (1 << 20)) for at in range(5)))
        with pytest.raises(WorkTooLarge, match="the answer to a transaction"):
            await session.execute(Transaction((), (Select(b"m", b"n"),)), 5)

    asyncio.run(run())


def test_pages(replica: MemoryReplica, session: Session) -> None:
    async def run() -> None:
        page = await session.selection(Select(b"", None)).page(25)
        assert ([len(page.items), page.more], page.items[-1].key) == ([25, True], b"k0024")
        page = await session.selection(Select(b"k0990", None)).page(10)
        assert [len(page.items), page.more] == [10, False]
        page = await session.selection(Select(b"k0990", None)).page(9)
        assert [len(page.items), page.more] == [9, True]
        replica.apply(*(Put(b"m%d" % at, b"v" * (PAGE_BYTES_MAX // 2)) for at in range(5)))
        page = await session.selection(Select(b"m", None)).page(9)
        assert [len(page.items), page.more] == [2, True]

    asyncio.run(run())


def test_many_long_reads_take_turns(replica: MemoryReplica) -> None:
    """Nobody waits for more than a slice, however many read."""
    for some in range(0, 40_000, 1000):
        replica.apply(*(Put(b"n%06d" % at, b"v" * 50) for at in range(some, some + 1000)))
    sessions = CallerSessions(replica)

    async def read() -> int:
        selection = sessions.anonymous.selection(Select(b"", None))
        async for _ in selection.pieces():
            pass
        return selection.count

    async def run() -> None:
        readers = [asyncio.create_task(read()) for _ in range(20)]
        await asyncio.sleep(0)
        turns: list[float] = []
        while not all(reader.done() for reader in readers):
            began_s = time.thread_time()
            await asyncio.sleep(0)
            turns.append(time.thread_time() - began_s)
        assert {reader.result() for reader in readers} == {41_000}
        # CPU time, so that a busy machine does not count; all at once took 20 slices in a turn.
        assert sorted(turns)[len(turns) * 99 // 100] < 0.015

    asyncio.run(run())
