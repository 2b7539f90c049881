"""The change feed against the naive list of changes, under any interleaving."""

import asyncio
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.commands.operations import Transaction, only
from kvstore.errors import DuplicateKey, RevisionCompacted, Stopping
from kvstore.replica import feed as watch
from kvstore.replica.feed import Feed
from kvstore.replica.interest import Interest, RevisionEvents
from kvstore.state.transactions import check
from tests.support.driven_state import Driven
from tests.support.examples import TIMES
from tests.support.naive_store import COMMANDS, KEYS, NaiveStore, within
from tests.support.replicas import run


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


INTERESTS = st.builds(
    Interest,
    st.just(b"") | st.just(b"\0") | KEYS,
    st.none() | KEYS | KEYS.map(only) | st.just(b"b\0"),
    st.booleans(),
    st.booleans(),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("apply"), COMMANDS),
        st.tuples(st.just("apply"), COMMANDS),
        st.tuples(st.just("follow"), st.integers(1, 5)),
        st.tuples(st.just("follow"), st.integers(1, 5)),
        st.tuples(st.just("watch"), INTERESTS, st.integers(0, 12)),
        st.tuples(st.just("next"), st.integers(0, 3), st.integers(1, 4)),
        st.tuples(st.just("next"), st.integers(0, 3), st.integers(1, 4)),
        st.tuples(st.just("cancel"), st.integers(0, 3)),
        st.tuples(st.just("close"), st.integers(0, 3)),
        st.tuples(st.just("turn")),
        st.tuples(st.just("checkpoint")),
        st.tuples(st.just("install")),
    ),
    max_size=40,
)


class Watching:
    """One watcher, what it got, and what it must get."""

    def __init__(self, feed: Feed, interest: Interest, first: int) -> None:
        self.feed, self.interest = feed, interest
        self.watcher = feed.watch(interest, first)
        self.first = first or feed.revision + 1
        self.got: list[RevisionEvents] = []
        self.task: asyncio.Task[list[RevisionEvents]] | None = None
        self.cut_off = self.closed = False

    def collect(self) -> None:
        task = self.task
        if task is None or not task.done():
            return
        self.task = None
        if task.cancelled():
            return
        try:
            got = task.result()
        except RevisionCompacted:
            self.cut_off = True
        except Stopping:
            assert self.closed
        else:
            assert got
            self.got += got

    def verify(self, twin: NaiveStore, through: int) -> None:
        wanted = []
        for revision, events in twin.changes.items():
            kept = tuple(
                event
                for event in events
                if within(event.item.key, self.interest.start, self.interest.end)
                and (self.interest.deletes if event.deleted else self.interest.puts)
            )
            if kept and self.first <= revision <= through:
                wanted.append((revision, kept))
        got = [(change.revision, change.events) for change in self.got]
        assert [r for r, _ in got] == [r for r, _ in wanted[: len(got)]]
        for (_, mine), (_, whole) in zip(got, wanted, strict=False):
            # What was there before the compacted revision may be gone.
            assert [(e.item, e.deleted) for e in mine] == [(e.item, e.deleted) for e in whole]
            assert all(m == w or m.previous is None for m, w in zip(mine, whole, strict=True))
        if self.task is None and not self.cut_off:
            seen = self.watcher.seen_revision
            assert len([r for r, _ in wanted if r <= seen]) == len(got)


async def interleave(steps: list[Any], directory: Path, stack: ExitStack) -> None:
    leader, twin = Driven(directory / "leader.mdb"), NaiveStore()
    follower = Driven(directory / "follower.mdb", leader.log)
    stack.callback(leader.store.close)
    stack.callback(follower.store.close)
    feed, watchings = Feed(follower.state), list[Watching]()
    for step in steps:
        match step:
            case "apply", command:
                if isinstance(command, Transaction):
                    try:
                        check(command)
                    except DuplicateKey:
                        continue
                assert leader.apply(command) == [twin.apply(command)]
            case "follow", slots:
                follower.catch_up(min(len(leader.log), follower.state.applied_through + slots))
            case "watch", interest, first if len(watchings) < 4:
                with suppress(RevisionCompacted):
                    watchings.append(Watching(feed, interest, first))
            case "next", at, count if at < len(watchings):
                chosen = watchings[at]
                if chosen.task is None:
                    chosen.task = asyncio.create_task(chosen.watcher.next(count))
            case "cancel", at if at < len(watchings):
                task = watchings[at].task
                if task is not None:
                    task.cancel()
            case "close", at if at < len(watchings):
                watchings[at].watcher.close()
                watchings[at].closed = True
            case "turn":
                await turns(1)
            case "checkpoint":
                leader.checkpoint()
                follower.checkpoint()
            case "install":
                if leader.state.checkpointed_through > follower.state.applied_through:
                    follower.install_from(leader)
                    feed.reset()
        for each in watchings:
            each.collect()
            each.verify(twin, follower.state.revision)
    follower.catch_up()
    await finish(watchings, twin)
    assert feed.watchers == 0 and not feed._waiting.all() and not feed._recent


async def finish(watchings: list[Watching], twin: NaiveStore) -> None:
    """Everybody catches up; nothing is missing then."""
    for each in watchings:
        while not (each.closed or each.cut_off):
            each.task = each.task or asyncio.create_task(each.watcher.next())
            for _ in range(200):
                if each.task.done() or each.watcher.woken is not None:
                    break
                await turns(1)
            if not each.task.done():
                break
            each.collect()
        if each.task is not None:
            assert each.closed or each.watcher.seen_revision == twin.revision
            each.task.cancel()
            with suppress(asyncio.CancelledError, Stopping, RevisionCompacted):
                each.got += await each.task
            each.task = None
        each.verify(twin, twin.revision)
        each.watcher.close()


@given(STEPS)
@settings(max_examples=30 * TIMES)
def test_any_interleaving_delivers_the_naive_list(steps: list[Any]) -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as directory,
        ExitStack() as stack,
    ):
        patch.setattr(watch, "RECENT_REVISIONS_MAX", 3)
        patch.setattr(watch, "HISTORY_REVISIONS_MAX", 2)
        run(interleave(steps, Path(directory), stack))
