"""Which configuration governs which slot, and what a leader does when it comes to know another."""

from paxos.ballot import Ballot
from paxos.configuration import Configuration, Governance
from paxos.effects import Effects
from paxos.learner import Learner
from paxos.messages import NOOP, LogEntry, Prepare, Promise
from paxos.proposer import Proposer
from paxos.quorum import QuorumSystem, majority
from paxos.reads import Reads

B = Ballot(5, 1)
OLD, NEW = majority([1, 2, 3]), majority([1, 4, 5])


def governance(distance: int = 4) -> Governance:
    return Governance(1, OLD, distance)


def changing(first_slot: int = 7, distance: int = 4) -> Governance:
    """Another configuration governs from `first_slot` on."""
    made = governance(distance)
    made.configure((Configuration(1, OLD, distance), Configuration(first_slot, NEW, distance)), {6})
    return made


def test_each_slot_has_one_configuration() -> None:
    made = changing()
    assert [made.at(slot) for slot in (1, 6, 7, 99)] == [OLD, OLD, NEW, NEW]
    assert made.after(0) == made.after(5) == [OLD, NEW]
    assert made.after(6) == made.after(50) == [NEW]
    assert made.peers == (2, 3, 4, 5, 6), "learners take part"
    assert made.voters_after(6) == NEW.members


def test_what_is_known_goes_a_distance_beyond_what_is_applied() -> None:
    made = governance(distance=4)
    assert made.known_through == 4
    made.applied(10)
    assert made.known_through == 14
    made.configure((Configuration(1, OLD, 4), Configuration(12, NEW, 2)), ())
    assert made.known_through == 12, "the shortest distance counts"


def test_a_node_without_a_configuration_knows_nothing() -> None:
    made = Governance(7)
    assert made.at(1) is None and made.after(0) == [] and made.known_through == 0
    assert not made.is_phase1({7}, 0) and not made.is_phase2({7}, 0)


def test_phase_1_needs_every_configuration_that_may_govern() -> None:
    made = changing()
    assert not made.is_phase1({1, 2}, 5) and not made.is_phase1({4, 5}, 5)
    assert made.is_phase1({2, 3, 4, 5}, 5)
    assert made.is_phase1({4, 5}, 6), "the old one governs no slot after 6"


def leader(made: Governance, *told: LogEntry) -> tuple[Proposer, Effects]:
    """Leads by the promises of 1 and 2."""
    out = Effects()
    one = Proposer(1, made, lambda: out, window=9, resend_ticks=3)
    one.prepare(B, 1)
    one.on_promise(1, Promise(B, 1, (), None))
    one.on_promise(2, Promise(B, 1, told, None))
    assert one.leading
    out.send.clear()
    return one, out


def test_nothing_is_proposed_beyond_the_distance() -> None:
    made = governance(distance=3)
    one, _ = leader(made)
    one.pump(0)
    while one.can_propose:
        one.propose(b"v", 0)
    assert one.next_slot == 4, "slots 1 to 3 are known to be governed"
    made.applied(1)
    assert one.can_propose and one.propose(b"v", 1).slot == 4 and not one.can_propose


def told_of_another(first_slot: int = 4) -> tuple[Proposer, Effects, Governance]:
    made = governance(distance=9)
    one, out = leader(made)
    one.pump(0)
    made.configure((Configuration(1, OLD, 9), Configuration(first_slot, NEW, 9)), ())
    one.reconfigured(1)
    return one, out, made


def test_a_leader_asks_the_voters_of_a_later_configuration_before_it_proposes_there() -> None:
    one, out, _ = told_of_another()
    assert out.send == [(4, Prepare(B, 2)), (5, Prepare(B, 2))], "1 has promised already"
    one.pump(1)
    assert one.next_slot == 4 and not one.can_propose, "no-ops go up to what governs next"
    one.on_promise(4, Promise(B, 2, (), None))
    assert one.can_propose and one.propose(b"new", 1).slot == 4


def test_what_those_voters_accepted_is_proposed_again() -> None:
    one, _, _ = told_of_another()
    one.pump(1)
    told = (LogEntry(3, Ballot(9, 9), b"of a slot before"), LogEntry(6, Ballot(4, 4), b"kept"))
    one.on_promise(5, Promise(B, 2, told, None))
    assert one.barrier == 6 and not one.can_propose
    assert [(a.slot, a.value) for a in one.pump(1)] == [(4, NOOP), (5, NOOP), (6, b"kept")]
    assert one.can_propose and one.propose(b"new", 1).slot == 7


def test_they_are_asked_again_from_what_is_chosen_then() -> None:
    one, out, _ = told_of_another()
    out.send.clear()
    for _ in range(3):
        one.tick(3)
    assert out.send == [(4, Prepare(B, 4)), (5, Prepare(B, 4))]
    one.pump(3)
    one.on_promise(4, Promise(B, 2, (), None))
    assert not one.can_propose, "an answer to what was asked before"
    one.on_promise(4, Promise(B, 4, (), None))
    assert one.can_propose


def test_the_leader_itself_is_asked_if_it_leads_by_the_promises_of_others() -> None:
    made, out = governance(distance=9), Effects()
    one = Proposer(1, made, lambda: out, window=9, resend_ticks=3)
    one.prepare(B, 1)
    for peer in (2, 3):
        one.on_promise(peer, Promise(B, 1, (), None))
    made.configure((Configuration(1, OLD, 9), Configuration(4, majority([1]), 9)), ())
    out.send.clear()
    one.reconfigured(0)
    assert out.send == [(1, Prepare(B, 1))]


def test_votes_are_counted_by_the_configuration_of_the_slot() -> None:
    one = Learner(changing(7, 9), Effects, chosen_through=0, resend_ticks=3)
    assert not one.vote(2, B, 6) and one.vote(3, B, 6)
    assert not one.vote(2, B, 7) and not one.vote(3, B, 7) and not one.vote(4, B, 7)
    assert one.vote(5, B, 7)


def test_learners_do_not_count() -> None:
    made = Governance(1, QuorumSystem(frozenset({1, 2}), 2, 2))
    made.configure((Configuration(1, QuorumSystem(frozenset({1, 2}), 2, 2)),), {1, 2, 3})
    one = Learner(made, Effects, chosen_through=0, resend_ticks=3)
    assert not one.vote(1, B, 1) and not one.vote(3, B, 1) and one.vote(2, B, 1)


def test_reads_need_a_quorum_of_each_that_may_govern_and_begin_anew_when_these_change() -> None:
    out, made = Effects(), changing(7, 9)
    one = Reads(1, made, lambda: out, resend_ticks=3, first_request=0)
    one.add(11)
    assert one.start_probe(5)
    for peer in (2, 4):
        one.on_heartbeat_reply(peer, one.probe)
    assert out.reads == [(11, 5)]
    one.add(12)
    assert one.start_probe(5)
    old = one.probe
    one.reconfigured()
    for peer in (2, 3, 4, 5):
        one.on_heartbeat_reply(peer, old)
    assert out.reads == [(11, 5)]
    assert one.start_probe(8)
    for peer in (4, 5):
        one.on_heartbeat_reply(peer, one.probe)
    assert out.reads == [(11, 5), (12, 8)]
