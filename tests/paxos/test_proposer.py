"""The proposer: safe values, piecewise phase 1, the window, and sending again."""

from hypothesis import given
from hypothesis import strategies as st

from paxos.ballot import Ballot
from paxos.configuration import Governance
from paxos.effects import Effects
from paxos.messages import NOOP, Accept, LogEntry, Prepare, Promise
from paxos.proposer import Proposer, safe_values
from paxos.quorum import flexible, majority

B = Ballot(5, 1)


def proposer(n: int = 3, window: int = 2) -> tuple[Proposer, Effects]:
    out = Effects()
    quorums = majority(range(1, n + 1))
    return Proposer(1, Governance(1, quorums), lambda: out, window=window, resend_ticks=3), out


def leading(window: int = 2, *told: LogEntry) -> tuple[Proposer, Effects]:
    one, out = proposer(window=window)
    one.prepare(B, 1)
    one.on_promise(1, Promise(B, 1, (), None))
    one.on_promise(2, Promise(B, 1, told, None))
    assert one.leading
    out.send.clear()
    return one, out


def entry(slot: int, rounds: int, value: bytes = b"v") -> LogEntry:
    return LogEntry(slot, Ballot(rounds, 2), value)


# -- safe values -------------------------------------------------------------------------------


def naive_safe_values(first_slot: int, entries: list[LogEntry]) -> list[tuple[int, bytes]]:
    reported = [e for e in entries if e.slot >= first_slot]
    if not reported:
        return []
    answer = []
    for slot in range(first_slot, max(e.slot for e in reported) + 1):
        here = sorted((e for e in reported if e.slot == slot), key=lambda e: e.ballot)
        answer.append((slot, here[-1].value if here else NOOP))
    return answer


@st.composite
def reports(draw: st.DrawFn) -> list[LogEntry]:
    """What acceptors may report: a ballot proposes one value per slot, so one value per pair."""
    pairs = draw(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 5)), max_size=20))
    return [entry(slot, rounds, b"%d in %d" % (slot, rounds)) for slot, rounds in pairs]


@given(st.integers(1, 6), reports())
def test_safe_values_are_those_of_the_highest_ballots(first: int, told: list[LogEntry]) -> None:
    assert safe_values(first, told) == naive_safe_values(first, told)


@given(reports(), st.randoms())
def test_the_order_of_the_reports_does_not_matter(told: list[LogEntry], random: object) -> None:
    shuffled = list(told)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert safe_values(1, told) == safe_values(1, shuffled)


# -- phase 1 -----------------------------------------------------------------------------------


def test_prepare_waits_for_the_own_promise() -> None:
    one, out = proposer()
    one.prepare(B, 4)
    assert out.send == [(2, Prepare(B, 4)), (3, Prepare(B, 4))]
    assert out.send_first == [] and one.preparing and not one.can_propose


def test_a_quorum_of_promises_leads_with_the_highest_values_and_noops() -> None:
    one, _ = proposer(n=5)
    one.prepare(B, 2)
    assert one.on_promise(1, Promise(B, 2, (entry(2, 1, b"old"),), None)) is None
    assert one.on_promise(1, Promise(B, 2, (), None)) is None, "one acceptor counts once"
    told = (entry(2, 3, b"new"), entry(4, 1, b"d"))
    assert one.on_promise(3, Promise(B, 2, told, None)) is None
    recovered = one.on_promise(4, Promise(B, 2, (entry(2, 2, b"mid"),), None))
    assert recovered == [(2, b"new"), (3, NOOP), (4, b"d")]
    assert one.leading and (one.barrier, one.next_slot) == (4, 2) and not one.can_propose


def test_with_nothing_to_recover_a_noop_is_the_barrier() -> None:
    one, _ = leading()
    assert one.pump(0) == [Accept(B, 1, NOOP, 0)]
    assert (one.barrier, one.next_slot) == (1, 2)


def test_promises_of_another_ballot_or_position_do_not_count() -> None:
    one, _ = proposer()
    one.prepare(B, 1)
    one.on_promise(1, Promise(B, 1, (), None))
    assert one.on_promise(2, Promise(Ballot(4, 1), 1, (), None)) is None
    assert one.on_promise(2, Promise(B, 3, (), None)) is None
    assert one.on_promise(2, Promise(B, 1, (), None)) == [(1, NOOP)]


def test_a_piecewise_promise_counts_when_it_is_whole() -> None:
    one, out = proposer()
    one.prepare(B, 1)
    one.on_promise(1, Promise(B, 1, (), None))
    out.send.clear()
    first = Promise(B, 1, (entry(1, 1, b"a"),), 2)
    assert one.on_promise(2, first) is None
    assert out.send == [(2, Prepare(B, 2))]
    assert one.on_promise(2, first) is None, "a duplicate of a piece that was taken"
    last = Promise(B, 2, (entry(2, 1, b"b"),), None)
    assert one.on_promise(2, last) == [(1, b"a"), (2, b"b")]


def test_prepare_is_sent_again_from_where_each_acceptor_stands() -> None:
    one, out = proposer(n=5)
    one.prepare(B, 1)
    one.on_promise(2, Promise(B, 1, (), None))
    one.on_promise(3, Promise(B, 1, (entry(1, 1),), 2))
    out.send.clear()
    for _ in range(3):
        one.tick(0)
    assert out.send == [(3, Prepare(B, 2)), (4, Prepare(B, 1)), (5, Prepare(B, 1))]


def test_flexible_phase_1() -> None:
    quorums = flexible(range(1, 5), phase2=3)
    one = Proposer(1, Governance(1, quorums), Effects, window=1, resend_ticks=3)
    one.prepare(B, 1)
    assert one.on_promise(1, Promise(B, 1, (), None)) is None
    assert one.on_promise(2, Promise(B, 1, (), None)) is not None


# -- phase 2 -----------------------------------------------------------------------------------


def test_recovered_values_go_first_and_within_the_window() -> None:
    one, _ = leading(2, entry(1, 1, b"a"), entry(2, 1, b"b"), entry(3, 1, b"c"))
    assert [accept.slot for accept in one.pump(0)] == [1, 2]
    assert not one.can_propose and one.pump(0) == []
    one.settle(1)
    assert [accept.value for accept in one.pump(1)] == [b"c"]
    one.settle(2)
    one.settle(3)
    assert one.can_propose
    assert one.propose(b"new", 3) == Accept(B, 4, b"new", 3)


def test_the_window_bounds_what_is_in_flight() -> None:
    one, out = leading(2)
    one.pump(0)
    one.propose(b"x", 0)
    assert not one.can_propose and one.in_flight == 2
    assert [(to, message.slot) for to, message in out.send_first] == [  # type: ignore[union-attr]
        (2, 1),
        (3, 1),
        (2, 2),
        (3, 2),
    ]


def test_what_was_learned_since_phase_1_began_is_not_proposed() -> None:
    """Its votes would not be counted, and it would stay in flight for ever."""
    one, _ = leading(2, entry(1, 1, b"a"), entry(2, 1, b"b"), entry(3, 1, b"c"))
    assert [accept.slot for accept in one.pump(2)] == [3]
    one.pump(3)
    assert one.in_flight == 0 and one.can_propose


def test_an_accept_is_sent_again_until_it_is_settled() -> None:
    one, out = leading()
    one.pump(0)
    out.send_first.clear()
    for _ in range(6):
        one.tick(0)
    assert out.send_first == [(2, Accept(B, 1, NOOP, 0)), (3, Accept(B, 1, NOOP, 0))] * 2
    assert one.settle(1) == NOOP and one.settle(1) is None
    out.send_first.clear()
    for _ in range(6):
        one.tick(1)
    assert out.send_first == []


def test_stop_forgets_everything() -> None:
    one, out = leading(1, entry(1, 1), entry(2, 1))
    one.pump(0)
    out.send_first.clear()
    one.stop()
    for _ in range(6):
        one.tick(0)
    assert not out and not one.can_propose and one.in_flight == 0 and one.pump(0) == []
