"""The change feed: every event once, in order, whole; whatever watchers, rings and snapshots do."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kvstore.commands.commands import Compact, Delete, Grant, Put, Revoke
from kvstore.commands.operations import Transaction, TxnDelete, TxnPut, only
from kvstore.errors import Overloaded, RevisionCompacted, Stopping
from kvstore.replica import feed as watch
from kvstore.replica.feed import Feed, Watcher
from kvstore.replica.interest import Interest, RevisionEvents
from tests.support.driven_state import Driven
from tests.support.replicas import run


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring of three revisions, and history two at a time."""
    monkeypatch.setattr(watch, "RECENT_REVISIONS_MAX", 3)
    monkeypatch.setattr(watch, "HISTORY_REVISIONS_MAX", 2)


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


ALL = Interest(b"", None)


def put(driven: Driven, *keys: bytes) -> None:
    for key in keys:
        driven.apply(Put(key, b"v"))


async def waiting(watcher: Watcher) -> "asyncio.Task[list[RevisionEvents]]":
    task = asyncio.create_task(watcher.next())
    await turns()
    assert not task.done()
    return task


def revisions(changes: list[RevisionEvents]) -> list[int]:
    return [change.revision for change in changes]


def test_from_now_from_the_past_and_from_the_future(driven: Driven) -> None:
    async def test() -> None:
        feed = Feed(driven.state)
        put(driven, b"a", b"b", b"c")
        past, now, future = feed.watch(ALL, 3), feed.watch(ALL), feed.watch(ALL, 7)
        assert revisions(await past.next()) == [3, 4]
        at_now, at_future = await waiting(now), await waiting(future)
        assert (past.seen_revision, now.seen_revision, future.seen_revision) == (4, 4, 4)
        put(driven, b"a", b"b")
        assert revisions(await at_now) == [5, 6]
        await turns()
        assert not at_future.done() and future.seen_revision == 6
        put(driven, b"a")
        assert revisions(await at_future) == [7]
        assert revisions(await past.next()) == [5, 6, 7]

    run(test())


@pytest.mark.parametrize("count", [1, 2])
def test_from_the_first_revision_of_all(driven: Driven, count: int) -> None:
    async def test() -> None:
        feed = Feed(driven.state)
        watcher = feed.watch(ALL, 1)
        task = await waiting(watcher)
        assert watcher.seen_revision == 1
        put(driven, b"k", b"k")
        assert revisions(await task) == [2, 3]
        late = Feed(driven.state).watch(ALL, 1)
        assert revisions(await late.next(count)) == [2]

    run(test())


def test_a_transaction_and_the_end_of_a_lease_are_one_change(driven: Driven) -> None:
    async def test() -> None:
        feed = Feed(driven.state)
        live = feed.watch(ALL)
        driven.apply(Grant(7, 60), Put(b"x", b"0"))
        driven.apply(
            Transaction(
                (),
                (TxnPut(b"b", b"1", 7), TxnDelete(b"x", b"y"), TxnPut(b"a", b"2", 7)),
            ),
            Revoke(7),
        )
        for watcher in (live, feed.watch(ALL, 2)):
            changes = await watcher.next()
            assert [[(e.item.key, e.deleted) for e in c.events] for c in changes] == [
                [(b"x", False)],
                [(b"b", False), (b"x", True), (b"a", False)],
                [(b"a", True), (b"b", True)],
            ]
            assert [e.previous and e.previous.value for e in changes[2].events] == [b"2", b"1"]
        part = feed.watch(Interest(b"b", None, deletes=False), 2)
        changes = await part.next()
        assert [[e.item.key for e in c.events] for c in changes] == [[b"x"], [b"b"]]

    run(test())


def test_only_who_wants_it_is_woken(driven: Driven) -> None:
    async def test() -> None:
        feed = Feed(driven.state)
        wanted = {
            name: feed.watch(interest)
            for name, interest in {
                "key": Interest(b"ab", only(b"ab")),
                "other key": Interest(b"a", only(b"a")),
                "prefix": Interest(b"a", b"b"),
                "other prefix": Interest(b"b", b"c"),
                "longer prefix": Interest(b"abc", b"abd"),
                "high prefix": Interest(b"\xff", None),
                "all": Interest(b"", None),
                "all but empty": Interest(b"\0", None),
                "range": Interest(b"aa", b"ac"),
                "other range": Interest(b"ac", None),
                "deletes": Interest(b"a", b"b", puts=False),
                "empty": Interest(b"b", b"a"),
            }.items()
        }
        tasks = {name: await waiting(watcher) for name, watcher in wanted.items()}
        waits = {name: watcher.woken for name, watcher in wanted.items()}
        put(driven, b"ab")
        await turns()
        assert {name for name, wait in waits.items() if wait is None or wait.done()} == {
            "key",
            "prefix",
            "all",
            "all but empty",
            "range",
        }
        woken = {name for name, task in tasks.items() if task.done()}
        assert woken == {"key", "prefix", "all", "all but empty", "range"}
        assert {w.seen_revision for w in wanted.values()} == {2}
        driven.apply(Delete(b"ab"), Put(b"\xff\xff", b"v"))
        await turns()
        woken = {name for name, task in tasks.items() if task.done()} - woken
        assert woken == {"deletes", "high prefix", "other range"}
        for watcher in wanted.values():
            watcher.close()
        with pytest.raises(Stopping):
            await tasks["empty"]
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert not feed._waiting._by_key and not feed._waiting._by_prefix
        assert not feed._waiting._prefix_lengths and not feed._waiting._others

    run(test())


def test_a_cancelled_wait_loses_nothing(driven: Driven) -> None:
    async def test() -> None:
        feed = Feed(driven.state)
        watcher = feed.watch(Interest(b"k", only(b"k")))
        task = await waiting(watcher)
        put(driven, b"other", b"other", b"k")
        task.cancel()  # woken already, and not yet running
        with pytest.raises(asyncio.CancelledError):
            await task
        assert watcher.seen_revision == 3
        assert revisions(await watcher.next()) == [4]
        task = await waiting(watcher)
        put(driven, b"other")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # What passed while it waited need not be looked at again.
        assert (watcher.seen_revision, watcher.next_revision) == (5, 6)
        put(driven, b"k")
        assert revisions(await watcher.next()) == [6]

    run(test())


def test_the_ring_is_bounded_and_history_takes_over(driven: Driven, small: None) -> None:
    async def test() -> None:
        feed = Feed(driven.state)
        slow, fast = feed.watch(ALL), feed.watch(ALL)
        got: list[RevisionEvents] = []
        for number in range(20):
            put(driven, b"k%d" % (number % 4))
            got += await fast.next()
            assert len(feed._recent) <= 3
        assert revisions(got) == list(range(2, 22))
        late: list[RevisionEvents] = []
        while len(late) < 20:
            late += await slow.next()
        assert late == got

    run(test())


def test_the_ring_is_bounded_in_bytes(driven: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "RECENT_BYTES_MAX", 10_000)

    async def test() -> None:
        feed = Feed(driven.state)
        watcher = feed.watch(ALL)
        for _ in range(9):
            driven.apply(Put(b"k", bytes(3000)))
        assert len(feed._recent) == 1
        driven.apply(Put(b"k", bytes(30_000)))
        assert len(feed._recent) == 1
        put(driven, b"a", b"b")
        assert len(feed._recent) == 2 and feed._recent_bytes < 10_000
        got: list[RevisionEvents] = []
        while len(got) < 12:
            got += await watcher.next()
        assert revisions(got) == list(range(2, 14))

    run(test())


def test_one_that_compaction_overtakes_is_cut_off(driven: Driven, small: None) -> None:
    async def test() -> None:
        feed = Feed(driven.state)
        slow, idle = feed.watch(ALL), feed.watch(Interest(b"idle", only(b"idle")))
        task = await waiting(idle)
        put(driven, *[b"k"] * 9)
        driven.apply(Compact(6))
        driven.checkpoint()
        with pytest.raises(RevisionCompacted) as cut:
            await slow.next()
        assert (slow.next_revision, cut.value.compacted_revision) == (2, 6)
        with pytest.raises(RevisionCompacted):
            feed.watch(ALL, 5)
        with pytest.raises(RevisionCompacted):
            feed.watch(ALL, -1)
        assert revisions(await feed.watch(ALL, 6).next(1)) == [6]
        # One that waits has seen everything.
        put(driven, b"idle")
        assert revisions(await task) == [11]

    run(test())


def test_a_snapshot_does_not_cut_off_who_waited(driven: Driven, tmp_path: Path) -> None:
    async def test() -> None:
        follower = Driven(tmp_path / "follower.mdb", driven.log)
        feed = Feed(follower.state)
        idle, busy = feed.watch(Interest(b"idle", only(b"idle"))), feed.watch(ALL)
        put(driven, *[b"k"] * 9)
        task = await waiting(idle)
        follower.catch_up()
        assert len(await busy.next()) == 9
        put(driven, b"k", b"idle", b"k")
        driven.apply(Compact(8))
        driven.checkpoint()
        follower.install_from(driven)
        feed.reset()
        assert revisions(await task) == [12]
        assert revisions(await busy.next()) == [11, 12, 13]
        task = await waiting(idle)
        put(driven, b"idle")
        follower.catch_up()
        assert revisions(await task) == revisions(await busy.next()) == [14]
        follower.store.close()

    run(test())


def test_many_that_catch_up_leave_the_loop_its_turns(driven: Driven, small: None) -> None:
    async def test() -> None:
        put(driven, *[b"k"] * 60)
        feed = Feed(driven.state)
        reads: list[int] = []
        changes, turn = driven.state.changes, 0

        def counted(first: int, count: int) -> Any:
            reads.append(turn)
            return changes(first, count)

        driven.state.changes = counted  # type: ignore
        nothing = Interest(b"nothing", None)
        tasks = [asyncio.create_task(feed.watch(nothing, 2).next()) for _ in range(5)]
        while len(reads) < 5 * 30:
            turn += 1
            await asyncio.sleep(0)
        assert max(reads.count(each) for each in set(reads)) == 1
        await turns()
        assert all(not task.done() for task in tasks) and len(feed._waiting.all()) == 5
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(test())


def test_large_values_come_in_pieces(driven: Driven) -> None:
    async def test() -> None:
        for _ in range(12):
            driven.apply(Put(b"k", bytes(1 << 20)))
        watcher = Feed(driven.state).watch(ALL, 2)
        sizes = []
        while watcher.next_revision <= 13:
            changes = await watcher.next()
            sizes.append(len(changes))
        assert sum(sizes) == 12 and max(sizes) <= 4

    run(test())


def test_bounds_closing_and_the_end_of_the_node(
    driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "WATCHERS_MAX", 2)

    async def test() -> None:
        feed = Feed(driven.state)
        one, two = feed.watch(ALL), feed.watch(ALL)
        with pytest.raises(Overloaded):
            feed.watch(ALL)
        task = await waiting(one)
        one.close()
        one.close()
        with pytest.raises(Stopping):
            await task
        assert feed.watchers == 1
        put(driven, b"k")
        with pytest.raises(Stopping):
            await one.next()
        task = asyncio.create_task(two.next())
        assert revisions(await task) == [2]
        task = await waiting(two)
        feed.fail(Stopping("down"))
        with pytest.raises(Stopping):
            await task
        with pytest.raises(Stopping):
            feed.watch(ALL)
        two.close()
        assert not feed._recent

    run(test())


def test_revisions_with_many_events_end_a_read(driven: Driven) -> None:
    """Of the history as of the ring: no read looks at many more events than it may."""
    for some in range(60):
        driven.apply(Transaction((), tuple(TxnPut(b"t%d" % at, b"%d" % some) for at in range(100))))
    enough = watch.EVENTS_PER_READ + 1000

    async def test() -> None:
        feed = Feed(driven.state)
        late = feed.watch(ALL, 2)
        assert sum(len(c.events) for c in feed.read(late, 1000)) <= enough
        live = feed.watch(ALL)
        for _ in range(60):
            puts = tuple(TxnPut(b"t%d" % at, b"") for at in range(100))
            driven.apply(Transaction((), puts))
        seen: list[RevisionEvents] = []
        while live.next_revision <= driven.state.revision:
            read = feed.read(live, 1000)
            assert 0 < sum(len(change.events) for change in read) <= enough
            seen += read
        assert revisions(seen) == list(range(62, 122))

    run(test())


@pytest.mark.parametrize("count", [3, 40])
def test_who_wants_what_of_a_change(driven: Driven, count: int) -> None:
    """However a change is searched, it is as if each watcher looked at each event."""
    keys = [b"%c%d" % (at % 3 + 97, at) for at in range(count)]
    put(driven, *keys[::2])
    parts = [TxnDelete(key, only(key)) if at % 2 == 0 else TxnPut(key, b"") for at, key in
             enumerate(reversed(keys))]  # fmt: skip
    bounds = [
        (b"", None),
        (b"a", b"b"),
        (b"c", None),
        (b"b1", b"c2"),
        (b"x", None),
        (b"a0", only(b"a0")),
    ]
    interests = [
        Interest(*bound, puts, deletes)
        for bound in bounds
        for puts, deletes in ((True, True), (False, True), (True, False))
    ]

    async def test() -> None:
        feed = Feed(driven.state)
        watchers = [feed.watch(interest) for interest in interests]
        tasks = [asyncio.create_task(watcher.next()) for watcher in watchers]
        await turns()
        seen = feed.watch(ALL)
        driven.apply(Transaction((), tuple(parts)))
        ((change,),) = [feed.read(seen)]
        await turns()
        for interest, task in zip(interests, tasks, strict=True):
            expected = [
                event
                for event in change.events
                if interest.start <= event.item.key
                and (interest.end is None or event.item.key < interest.end)
                and (interest.deletes if event.deleted else interest.puts)
            ]
            assert task.done() == bool(expected)
            if expected:
                assert [list(found.events) for found in task.result()] == [expected]
            task.cancel()

    run(test())


def test_so_many_go_on_in_one_turn(driven: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "WAKES_PER_TURN", 10)

    async def test() -> None:
        feed = Feed(driven.state)
        tasks = [asyncio.create_task(feed.watch(ALL).next()) for _ in range(95)]
        await turns()
        put(driven, b"a")
        put(driven, b"a")
        tasks[94].cancel()
        most = done = 0
        while done < len(tasks):
            await asyncio.sleep(0)
            before, done = done, sum(task.done() for task in tasks)
            most = max(most, done - before)
        assert most <= 11  # and the one that was cancelled
        assert all(revisions(task.result()) == [2, 3] for task in tasks[:94])

    run(test())
