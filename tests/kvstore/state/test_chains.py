"""The chain of a key: short cuts lead to every change in few steps, and compaction may cut it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.commands.commands import Compact, Delete, Put
from kvstore.commands.operations import TxnDelete, TxnPut, only
from kvstore.state.chains import (
    FIRST,
    INLINE_BYTES_MAX,
    NOWHERE,
    ChainEntry,
    ChainHead,
    Place,
    change_of,
    head_of,
    head_of_deleted,
    last_place,
    place_of,
    record_of,
    revision_at,
)
from tests.support.driven_state import Driven, then

HEADS = st.builds(
    ChainHead,
    st.builds(place_of, st.integers(0, 2**63), st.integers(0, 2**32 - 1)),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=8).map(lambda data: data * 12),
)


def chain(length: int) -> tuple[dict[Place, ChainEntry], ChainHead]:
    changes: dict[Place, ChainEntry] = {}
    head = FIRST
    for number in range(1, length + 1):
        following = head.next(place_of(number, 0))
        record = b"%d" % (number - 1) if number > 1 else b""
        entry = ChainEntry(False, b"key", head.place, record, b"x", following.shortcuts).entry
        changes[following.place] = change_of(entry)
        head = following
    return changes, head


def test_every_change_is_found_in_few_steps() -> None:
    length = 20_000
    changes, head = chain(length)
    longest = 0
    for wanted in (*range(0, length, 7), 1, 2, length - 1):
        steps, at = 1, head.place
        while (following := changes[at].towards(last_place(wanted))) is not None:
            steps, at = steps + 1, following
        assert revision_at(at) == wanted + 1
        longest = max(longest, steps)
    assert 10 < longest <= 3 * 8 + 8, "three a level, and one from each level to the next"
    assert max(len(change.shortcuts) for change in changes.values()) == 7 * 12


@given(HEADS, st.binary(max_size=40))
def test_what_the_tables_hold_is_read_back(head: ChainHead, record: bytes) -> None:
    stored = head.with_record(record)
    assert record_of(stored) == record
    assert head_of(stored, revision_at(head.place)) == head
    assert head_of_deleted(head.of_deleted) == head


@given(
    st.booleans(),
    st.binary(max_size=960),
    st.binary(max_size=60),
    st.integers(0, INLINE_BYTES_MAX + 9),
    st.integers(0, 9),
)
def test_an_entry_is_read_back(
    deletion: bool, key: bytes, before: bytes, after_bytes: int, cuts: int
) -> None:
    change = ChainEntry(deletion, key, place_of(7, 8), before, bytes(after_bytes), bytes(12 * cuts))
    inline = change.after if after_bytes <= INLINE_BYTES_MAX else b""
    assert change_of(change.entry) == change._replace(after=inline)


def test_short_cuts_behind_a_place_are_left_out() -> None:
    _, head = chain(100)
    assert len(head.shortcuts) == 3 * 12
    assert len(head.without(last_place(70)).shortcuts) == 2 * 12
    assert head.without(NOWHERE) is head
    assert head.without(head.place).shortcuts == b""


@pytest.fixture
def driven(tmp_path: Path) -> Driven:
    return Driven(tmp_path / "state.mdb")


def test_a_large_value_put_and_deleted_in_the_compacted_revision_is_in_the_feed(
    driven: Driven,
) -> None:
    large = bytes(INLINE_BYTES_MAX + 1)
    driven.apply(Put(b"k", b"old"))
    driven.transact(then(then(TxnPut(b"k", large)), then(TxnDelete(b"k", only(b"k")))))
    driven.apply(Compact(3), Put(b"k", b"new"), Put(b"k", b"newer"))
    for _ in range(2):
        driven.checkpoint()
        ((_, (put, deleted)),) = driven.state.changes(3, 1)
        assert put.item.value == large and deleted.deleted and deleted.previous == put.item
    assert [event.item.value for event in driven.state.history(b"k", 9).events] == [
        b"newer",
        b"new",
    ]


@pytest.mark.parametrize("checkpoints", [False, True])
def test_a_chain_goes_on_over_deletions_and_ends_at_compaction(
    driven: Driven, checkpoints: bool
) -> None:
    for number in range(40):
        driven.apply(Delete(b"k") if number % 3 == 2 else Put(b"k", b"%d" % number))
        if checkpoints and number % 5 == 0:
            driven.checkpoint()
    first = driven.state.revision - 10
    driven.apply(Compact(first))
    if checkpoints:
        driven.checkpoint()
    for revision in range(first, driven.state.revision + 1):
        number = revision - 2
        found = driven.state.get(b"k", revision)
        assert (found is None) if number % 3 == 2 else found and found.value == b"%d" % number
    driven.apply(Compact(driven.state.revision))
    driven.apply(Put(b"k", b"after"), Delete(b"k"), Put(b"other", b""))
    for _ in range(3):  # blocks are dropped whole
        driven.apply(Compact(driven.state.revision))
        driven.checkpoint()
        driven.apply(Put(b"other", b""))
    assert driven.state.get(b"k", driven.state.revision) is None
    assert not list(driven.store.tables["deleted"].scan(b"", None))
