"""The whole key space against a naive twin that keeps a snapshot of every revision."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from kvstore.commands import commands as c
from kvstore.commands.operations import Select, Transaction, TxnDelete, TxnPut, only
from kvstore.errors import (
    DuplicateKey,
    RevisionCompacted,
    RevisionInFuture,
    TooManyOperations,
)
from kvstore.state.transactions import check
from paxos.ballot import Ballot
from tests.support.driven_state import Driven
from tests.support.examples import TIMES
from tests.support.naive_store import (
    COMMANDS,
    KEYS,
    LEASES,
    NaiveStore,
    naive_select,
    selects,
)


class KeyspaceAgainstTwin(RuleBasedStateMachine):
    """One replica is fed commands; another follows by log or snapshot whenever it likes."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.one = Driven(self.directory / "one.mdb")
        self.other = Driven(self.directory / "other.mdb", self.one.log)
        self.twin = NaiveStore()
        self.digests = {0: b""}

    @rule(command=COMMANDS)
    def apply(self, command: c.StoreCommand) -> None:
        if isinstance(command, Transaction):
            try:
                check(command)
            except DuplicateKey:
                return
        assert self.one.apply(command) == [self.twin.apply(command)]

    @rule(leases=st.lists(LEASES, max_size=3).map(tuple))
    def expire(self, leases: tuple[int, ...]) -> None:
        self.one.apply(expired=leases, ballot=self.one.state.leader_ballot)
        self.twin.expire(leases)

    @rule(leases=st.lists(LEASES, max_size=2).map(tuple), round=st.integers(0, 3))
    def lead(self, leases: tuple[int, ...], round: int) -> None:
        """A batch of some leader: an outdated one's word on leases counts for nothing."""
        if (round, 1) >= self.one.state.leader_ballot:
            self.twin.expire(leases)
        self.one.apply(expired=leases, ballot=Ballot(round, 1))

    @rule()
    def freeze(self) -> None:
        self.one.state.freeze()

    @rule(fails=st.booleans())
    def checkpoint(self, fails: bool) -> None:
        self.one.checkpoint(fails)

    @rule(back=st.integers(0, 3), fails=st.booleans())
    def compact(self, back: int, fails: bool) -> None:
        self.apply(c.Compact(self.twin.revision - back))
        self.checkpoint(fails)

    @rule()
    def crash(self) -> None:
        self.one.reopen()

    @rule(through=st.integers(0, 100), checkpoint=st.booleans())
    def follow(self, through: int, checkpoint: bool) -> None:
        self.other.catch_up(min(through, len(self.one.log)))
        if checkpoint:
            self.other.checkpoint()

    @rule()
    def install(self) -> None:
        if self.one.state.checkpointed_through > self.other.state.applied_through:
            self.other.install_from(self.one)
            assert self.other.state.applied_through == self.one.state.checkpointed_through

    @rule(wanted=selects())
    def select(self, wanted: Select) -> None:
        state, twin = self.one.state, self.twin
        revision = max(0, wanted.revision)
        if revision > twin.revision:
            with pytest.raises(RevisionInFuture):
                state.select(wanted)
        elif 0 < revision < twin.compacted:
            with pytest.raises(RevisionCompacted):
                state.select(wanted)
        else:
            snapshot = twin.past.get(revision or twin.revision, {})
            assert state.select(wanted) == naive_select(snapshot, wanted, twin.revision)

    @invariant()
    def all_revisions_agree(self) -> None:
        state, twin = self.one.state, self.twin
        assert (state.revision, state.compacted_revision) == (twin.revision, twin.compacted)
        for revision in range(max(1, twin.compacted), twin.revision + 1):
            snapshot = twin.past[revision]
            page = state.range(b"", None, revision=revision, limit=99)
            assert {item.key: item for item in page.items} == snapshot
            assert [item.key for item in page.items] == sorted(snapshot)
            assert state.get(b"a", revision) == snapshot.get(b"a")

    @invariant()
    def history_is_the_difference_of_snapshots(self) -> None:
        state, twin = self.one.state, self.twin
        first = max(2, twin.compacted)
        found = dict(state.changes(first, 1000))
        assert list(found) == list(range(first, twin.revision + 1))
        for revision, events in found.items():
            wanted = twin.changes[revision]
            if revision == twin.compacted:
                # What was there before it may be gone.
                events = [e if e.previous else replace(e, previous=None) for e in events]
                gone = [e.previous is None for e in events]
                wanted = [
                    replace(w, previous=None) if g else w for w, g in zip(wanted, gone, strict=True)
                ]
            assert events == wanted
        if twin.compacted > 1:
            with pytest.raises(RevisionCompacted):
                state.changes(twin.compacted - 1, 1)

    @invariant()
    def leases_agree(self) -> None:
        state, twin = self.one.state, self.twin
        assert dict(state.leases.all()) == twin.leases
        held = twin.past[twin.revision].items()
        for lease, ttl_s in twin.leases.items():
            assert state.leases.ttl_s(lease) == ttl_s
            keys = sorted(key for key, item in held if item.lease == lease)
            assert state.leases.keys(lease) == keys

    @invariant()
    def replicas_agree(self) -> None:
        for state in (self.one.state, self.other.state):
            digest = self.digests.setdefault(state.applied_through, state.digest)
            assert state.digest == digest

    def teardown(self) -> None:
        if hasattr(self, "other"):
            self.other.catch_up()
            self.replicas_agree()
            self.one.store.close()
            self.other.store.close()
            shutil.rmtree(self.directory)


TestKeyspace = KeyspaceAgainstTwin.TestCase
TestKeyspace.settings = settings(max_examples=20 * TIMES, stateful_step_count=30)


@given(st.lists(st.tuples(KEYS, st.binary(max_size=2)), min_size=1, max_size=20))
@settings(max_examples=20)
def test_unchecked_transactions_stop_nobody(pairs: list[tuple[bytes, bytes]]) -> None:
    """One that writes a key twice is refused before it is proposed; if it were not, replicas
    would still go on, and agree."""
    operations = tuple(
        TxnPut(key, value or None) if len(value) < 2 else TxnDelete(key, only(key))
        for key, value in pairs
    )
    with tempfile.TemporaryDirectory() as directory:
        one = Driven(Path(directory) / "one.mdb")
        for key, _ in pairs:
            one.apply(c.Put(key, b"old"))
        one.apply(Transaction((), operations))
        one.apply(c.Put(b"a", b"on"))
        other = Driven(Path(directory) / "other.mdb", one.log)
        other.catch_up()
        assert one.state.digest == other.state.digest
        one.store.close()
        other.store.close()


def test_too_much_is_refused_before_it_is_proposed() -> None:
    with pytest.raises(TooManyOperations):
        check(Transaction((), (Select(b"a", None),) * 129))
