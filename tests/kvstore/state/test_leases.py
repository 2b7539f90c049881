"""Leases in the state machine: what they hold, and what happens when they end."""

from pathlib import Path

import pytest

from kvstore.commands.commands import ABSENT, Command, Delete, Grant, Once, Put, Revoke
from kvstore.commands.operations import Transaction, TxnPut
from kvstore.commands.results import (
    Deleted,
    Granted,
    LeaseTaken,
    NoLease,
    NotHeld,
    Revoked,
    Written,
)
from paxos.ballot import ZERO, Ballot
from tests.support.driven_state import Driven


def test_a_grant_takes_no_revision(driven: Driven) -> None:
    for lease in (1, -5, (1 << 63) - 1, -(1 << 63)):
        assert driven.apply(Grant(lease, 60)) == [Granted(1, lease, 60)]
        assert driven.apply(Grant(lease, 61)) == [LeaseTaken(lease)]
        assert driven.state.leases.ttl_s(lease) == 60
    assert sorted(driven.state.leases.all()) == [
        (-(1 << 63), 60),
        (-5, 60),
        (1, 60),
        ((1 << 63) - 1, 60),
    ]
    assert driven.apply(Revoke(1), Revoke(1), Grant(1, 5)) == [
        Revoked(1, 0),
        NoLease(1),
        Granted(1, 1, 5),
    ]


def test_a_key_belongs_to_one_lease_at_most(driven: Driven) -> None:
    leases = driven.state.leases
    driven.apply(Grant(7, 60), Grant(8, 60))
    assert driven.apply(Put(b"k", b"v", None, 9)) == [NoLease(9)]
    assert driven.state.revision == 1
    driven.apply(Put(b"k", b"1", None, 7), Put(b"l", b"1", None, 7))
    driven.checkpoint()
    assert (leases.keys(7), leases.keys(8)) == ([b"k", b"l"], [])
    driven.apply(Put(b"k", b"2", None, 8))
    assert (leases.keys(7), leases.keys(8)) == ([b"l"], [b"k"])
    driven.apply(Put(b"k", b"3", None, 8))
    assert leases.keys(8) == [b"k"]
    driven.apply(Put(b"k", b"4"), Delete(b"l"))
    assert (leases.keys(7), leases.keys(8)) == ([], [])
    assert driven.apply(Revoke(7), Revoke(8)) == [Revoked(7, 0), Revoked(7, 0)]
    assert driven.state.get(b"k") is not None


@pytest.mark.parametrize("by_leader", [False, True])
def test_its_end_deletes_its_keys_in_one_revision(driven: Driven, by_leader: bool) -> None:
    driven.apply(Grant(7, 60), Grant(-7, 60))
    keys = [b"\xff" * 960, b"b", b"a", b"a\0"]
    for key in keys:
        driven.apply(Put(key, b"v", None, 7))
    driven.apply(Put(b"stays", b"v"), Put(b"its", b"v", None, -7))
    driven.checkpoint()
    driven.state.freeze()
    if by_leader:
        driven.apply(expired=(7, 99))
    else:
        assert driven.apply(Revoke(7)) == [Revoked(8, 4)]
    ((revision, events),) = driven.state.changes(8, 9)
    assert revision == driven.state.revision == 8
    assert [(event.item.key, event.deleted) for event in events] == [
        (key, True) for key in sorted(keys)
    ]
    assert driven.state.leases.keys(7) == [] and driven.state.leases.keys(-7) == [b"its"]
    # One of the same id that comes later holds nothing of it.
    driven.apply(Grant(7, 60))
    assert driven.state.leases.keys(7) == []
    driven.reopen()
    assert driven.state.leases.keys(7) == [] and driven.state.leases.keys(-7) == [b"its"]


def test_a_put_with_a_lease_of_its_own(driven: Driven) -> None:
    assert driven.apply(Put(b"k", b"v", ABSENT, 7, 60)) == [Written(2, 1, 2)]
    assert driven.apply(Put(b"k", b"v", ABSENT, 8, 60)) == [NotHeld(2)]
    assert driven.state.leases.ttl_s(8) is None
    assert driven.apply(Put(b"l", b"v", None, 7, 60)) == [LeaseTaken(7)]
    assert driven.state.get(b"l") is None
    assert driven.state.leases.changed == [(7, 60)]
    driven.apply(expired=(7,))
    assert driven.state.get(b"k") is None
    assert driven.state.leases.changed == [(7, 60), (7, 0)]


def test_once_with_leases(driven: Driven) -> None:
    once = Once(b"id", Put(b"k", b"v", None, 7, 60))
    assert driven.apply(once) == driven.apply(once) == [Written(2, 1, 2)]
    end = Once(b"end", Revoke(7))
    assert driven.apply(end) == driven.apply(end) == [Revoked(3, 1)]
    lost = Once(b"lost", Transaction((), (TxnPut(b"k", b"v", 7),)))
    assert driven.apply(lost) == [NoLease(7)]
    driven.apply(Grant(7, 60))
    assert driven.apply(lost) == [NoLease(7)]


def test_the_words_of_earlier_leaders_end_nothing(driven: Driven) -> None:
    driven.apply(Grant(7, 60), ballot=Ballot(5, 2))
    for earlier in (ZERO, Ballot(4, 3), Ballot(5, 1)):
        driven.apply(Put(b"k", b"v", None, 7), expired=(7,), ballot=earlier)
        driven.checkpoint()
        driven.reopen()
        assert driven.state.leases.keys(7) == [b"k"]
        assert driven.state.leader_ballot == Ballot(5, 2)
    driven.apply(expired=(7,), ballot=Ballot(5, 2))
    assert driven.state.get(b"k") is None and driven.state.leases.ttl_s(7) is None


def test_one_granted_again_meanwhile_is_not_meant(driven: Driven) -> None:
    driven.apply(Grant(7, 60))
    driven.apply(Revoke(7), Put(b"k", b"v", None, 7, 60))
    driven.reopen()
    driven.apply(expired=(7,), known_through=1)
    assert driven.state.leases.keys(7) == [b"k"]
    driven.apply(expired=(7,), known_through=2)
    assert driven.state.get(b"k") is None


def test_leases_are_in_the_digest(tmp_path: Path) -> None:
    seen = set()
    slots: list[list[Command]] = [
        [Grant(7, 60)],
        [Grant(7, 61)],
        [Grant(8, 60)],
        [Revoke(7)],
        [Grant(7, 60), Revoke(7)],
        [Grant(7, 60), Put(b"k", b"v")],
        [Grant(7, 60), Put(b"k", b"v", None, 7)],
        [Put(b"k", b"v", None, 7, 60)],
    ]
    for number, commands in enumerate(slots):
        driven = Driven(tmp_path / f"{number}.mdb")
        driven.apply(*commands)
        seen.add(driven.state.digest)
        driven.store.close()
    # The last two grant in a slot of one put, and come to the same.
    assert len(seen) == 7


def test_deletes_and_a_snapshot(driven: Driven, tmp_path: Path) -> None:
    driven.apply(Grant(7, 60), Put(b"k", b"v", None, 7), Put(b"l", b"v", None, 7))
    assert driven.apply(Delete(b"k")) == [Deleted(4, 1)]
    driven.checkpoint()
    other = Driven(tmp_path / "other.mdb", driven.log)
    other.install_from(driven)
    assert other.state.leases.keys(7) == [b"l"]
    assert driven.apply(Revoke(7)) == other.catch_up() == [Revoked(5, 1)]
    assert driven.state.digest == other.state.digest
    other.store.close()
