"""The acceptor: what it promises, accepts, refuses and remembers."""

from copy import deepcopy
from dataclasses import dataclass

from paxos.acceptor import Acceptor
from paxos.ballot import ZERO, Ballot
from paxos.effects import Effects
from paxos.messages import (
    PIECE_BYTES_MAX,
    Accept,
    Accepted,
    Fetch,
    Fetched,
    LogEntry,
    Nack,
    Prepare,
    Promise,
)
from paxos.messages import Truncated as TruncatedMessage
from paxos.records import Promised, Restored, Truncation

LOW, MID, HIGH = Ballot(1, 1), Ballot(2, 2), Ballot(3, 3)


@dataclass
class Bench:
    """An acceptor and the effects it fills."""

    acceptor: Acceptor
    effects: Effects

    def take(self) -> Effects:
        drained = deepcopy(self.effects)
        for waiting in (self.effects.send_first, self.effects.persist, self.effects.send):
            waiting.clear()
        return drained


def bench(restored: Restored | None = None, piece_bytes_max: int = PIECE_BYTES_MAX) -> Bench:
    effects = Effects()
    return Bench(Acceptor(lambda: effects, restored, piece_bytes_max), effects)


def accept(ballot: Ballot, slot: int, value: bytes) -> Accept:
    return Accept(ballot, slot, value, 0)


def test_a_promise_waits_for_its_record() -> None:
    b = bench()
    b.acceptor.on_prepare(2, Prepare(MID, 1))
    effects = b.take()
    assert effects.persist == [Promised(MID)]
    assert effects.send == [(2, Promise(MID, 1, (), None))]
    assert effects.send_first == []


def test_a_repeated_prepare_is_answered_again_without_a_record() -> None:
    b = bench()
    b.acceptor.on_prepare(2, Prepare(MID, 1))
    b.take()
    b.acceptor.on_prepare(2, Prepare(MID, 1))
    effects = b.take()
    assert effects.persist == []
    assert effects.send == [(2, Promise(MID, 1, (), None))], "never ahead of the first record"


def test_a_lower_prepare_and_a_lower_accept_are_refused() -> None:
    b = bench()
    b.acceptor.on_prepare(3, Prepare(HIGH, 1))
    b.take()
    b.acceptor.on_prepare(2, Prepare(MID, 1))
    assert not b.acceptor.on_accept(1, accept(LOW, 1, b"x"))
    effects = b.take()
    assert effects.send_first == [(2, Nack(MID, HIGH)), (1, Nack(LOW, HIGH))]
    assert effects.persist == [] and effects.send == []
    assert b.acceptor.log == {}


def test_an_acceptance_waits_for_its_record_and_promises() -> None:
    b = bench()
    assert b.acceptor.on_accept(2, accept(MID, 7, b"v"))
    effects = b.take()
    assert effects.persist == [Promised(MID), LogEntry(7, MID, b"v")]
    assert effects.send == [(2, Accepted(MID, 7))]
    assert b.acceptor.promised == MID and b.acceptor.last_slot == 7


def test_a_repeated_accept_is_answered_without_a_record() -> None:
    b = bench()
    b.acceptor.on_accept(2, accept(MID, 7, b"v"))
    b.take()
    assert b.acceptor.on_accept(2, accept(MID, 7, b"v"))
    effects = b.take()
    assert (effects.persist, effects.send) == ([], [(2, Accepted(MID, 7))])


def test_a_higher_ballot_replaces_an_accepted_value() -> None:
    b = bench()
    b.acceptor.on_accept(1, accept(LOW, 1, b"old"))
    b.acceptor.on_accept(2, accept(MID, 1, b"newer"))
    assert b.acceptor.log[1] == LogEntry(1, MID, b"newer")
    assert b.acceptor.log_bytes == len(b"newer")


def test_a_promise_tells_what_was_accepted_from_the_slot_on() -> None:
    b = bench()
    for slot in (1, 2, 4):
        b.acceptor.on_accept(1, accept(LOW, slot, b"%d" % slot))
    b.take()
    b.acceptor.on_prepare(3, Prepare(HIGH, 2))
    told = (LogEntry(2, LOW, b"2"), LogEntry(4, LOW, b"4"))
    assert b.take().send == [(3, Promise(HIGH, 2, told, None))]


def test_a_long_promise_comes_in_pieces() -> None:
    b = bench(piece_bytes_max=100)
    for slot in range(1, 6):
        b.acceptor.on_accept(1, accept(LOW, slot, b"x" * 15))
    b.take()
    told: list[int] = []
    first: int | None = 1
    while first is not None:
        b.acceptor.on_prepare(3, Prepare(HIGH, first))
        ((_, promise),) = b.take().send
        assert isinstance(promise, Promise) and promise.first_slot == first
        assert 1 <= len(promise.accepted) < 5
        told += [entry.slot for entry in promise.accepted]
        first = promise.next_slot
    assert told == [1, 2, 3, 4, 5]


def test_a_piece_of_noops_is_bounded_too() -> None:
    b = bench(piece_bytes_max=1000)
    for slot in range(1, 1001):
        b.acceptor.on_accept(1, accept(LOW, slot, b""))
    assert len(b.acceptor.piece(1, 1000)[0]) < 200


def test_one_value_above_the_piece_size_still_travels() -> None:
    b = bench(piece_bytes_max=10)
    b.acceptor.on_accept(1, accept(LOW, 1, b"x" * 99))
    assert b.acceptor.piece(1, 1) == ((LogEntry(1, LOW, b"x" * 99),), None)


def test_fetch_tells_chosen_entries_only() -> None:
    b = bench()
    for slot in (1, 2, 3):
        b.acceptor.on_accept(1, accept(LOW, slot, b"%d" % slot))
    b.take()
    b.acceptor.on_fetch(2, Fetch(1), chosen_through=2)
    told = (LogEntry(1, LOW, b"1"), LogEntry(2, LOW, b"2"))
    assert b.take().send_first == [(2, Fetched(told, 2))]


def test_a_truncated_acceptor_neither_promises_nor_accepts_what_it_dropped() -> None:
    b = bench()
    for slot in (1, 2, 3):
        b.acceptor.on_accept(1, accept(LOW, slot, b"v"))
    b.take()
    b.acceptor.truncate(3)
    assert b.take().persist == [Truncation(3)]
    b.acceptor.on_prepare(2, Prepare(HIGH, 2))
    b.acceptor.on_fetch(2, Fetch(2), chosen_through=3)
    assert not b.acceptor.on_accept(1, accept(LOW, 2, b"v"))
    effects = b.take()
    assert effects.send_first == [(2, TruncatedMessage(3))] * 2
    assert effects.persist == [] and effects.send == []
    assert b.acceptor.promised == LOW
    assert b.acceptor.log_bytes == 1


def test_truncation_only_goes_forward() -> None:
    b = bench()
    b.acceptor.truncate(5)
    b.acceptor.truncate(3)
    assert b.take().persist == [Truncation(5)]
    assert (b.acceptor.first_slot, b.acceptor.last_slot) == (5, 4)


def test_an_adopted_entry_is_not_overwritten_by_a_deposed_leader() -> None:
    """Promised to 1.1; 3.3 has slot 1 chosen elsewhere; the Accept of 1.1 was slow."""
    b = bench()
    b.acceptor.on_prepare(1, Prepare(LOW, 1))
    b.acceptor.adopt_chosen(LogEntry(1, HIGH, b"chosen"))
    b.take()
    assert not b.acceptor.on_accept(1, accept(LOW, 1, b"lost"))
    assert b.acceptor.log[1].value == b"chosen"
    assert b.take().send_first == [(1, Nack(LOW, HIGH))]


def test_adoption_is_recorded_with_the_promise_it_implies() -> None:
    b = bench()
    b.acceptor.adopt_chosen(LogEntry(1, MID, b"v"))
    assert b.take().persist == [Promised(MID), LogEntry(1, MID, b"v")]
    b.acceptor.adopt_chosen(LogEntry(1, MID, b"v"))
    assert b.take().persist == []


def test_adoption_never_lowers_the_ballot_of_a_vote() -> None:
    b = bench()
    b.acceptor.on_accept(3, accept(HIGH, 1, b"v"))
    b.take()
    b.acceptor.adopt_chosen(LogEntry(1, LOW, b"v"))
    assert b.acceptor.log[1] == LogEntry(1, HIGH, b"v")
    assert b.take().persist == []


def test_adoption_below_the_log_is_nothing() -> None:
    b = bench()
    b.acceptor.truncate(5)
    b.take()
    b.acceptor.adopt_chosen(LogEntry(4, HIGH, b"v"))
    assert not b.take() and b.acceptor.log == {}


def test_restored_from_records() -> None:
    entries = (LogEntry(2, LOW, b"gone"), LogEntry(3, LOW, b"a"), LogEntry(5, MID, b"b"))
    b = bench(Restored(HIGH, entries, first_slot=3, chosen_through=3))
    assert b.acceptor.promised == HIGH
    assert sorted(b.acceptor.log) == [3, 5]
    assert (b.acceptor.first_slot, b.acceptor.last_slot, b.acceptor.log_bytes) == (3, 5, 2)


def test_a_restored_entry_is_a_promise_too() -> None:
    b = bench(Restored(ZERO, (LogEntry(1, MID, b"a"),), first_slot=1, chosen_through=0))
    assert b.acceptor.promised == MID
