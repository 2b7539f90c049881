"""Two proposers that preempt each other for ever, and the back-off that ends it."""

from paxos.ballot import Ballot, NodeId
from paxos.messages import Accept
from paxos.quorum import majority
from proof.simulation.lessons.synod_stage import BACK_OFF_TICKS, SynodStage
from proof.simulation.tell.trace import Recording

COMMIT_US = 2_000
"""Slow disks: an attempt is open to preemption for longer."""

OFFSET_MS = 5.4
"""Node 5 begins this much after node 1: when node 1 has its promises, but no acceptance yet."""

ROUNDS = 4
"""So many attempts are preempted before the lesson turns the back-off on."""


def _even(sender: NodeId, to: NodeId) -> int:
    """Neither proposer has the better links: one that is nearer would win by and by."""
    return 1_800 + 300 * abs(sender - to)


def _eager_stage() -> SynodStage:
    stage = SynodStage({1: b"red", 5: b"blue"}, majority([2, 3, 4]), commit_us=COMMIT_US)
    stage.delay_us = _even
    stage.eager.update(stage.proposers)
    return stage


def dueling_proposers() -> Recording:
    """The livelock of "Paxos Made Simple" (2001), section 2.4, and the end of it."""
    stage = _eager_stage()
    _first_blood(stage)
    _livelock(stage)
    _back_off(stage)
    return stage.recording(
        "dueling-proposers",
        "Dueling proposers: a livelock, and how chance ends it",
        "Two eager proposers, nodes 1 and 5, and three acceptors, nodes 2, 3 and 4. Each proposer "
        "that is overtaken tries again at once with a higher ballot, and so overtakes the other. "
        "Everything stays safe, and nothing is ever chosen, until they learn to wait.",
        (
            ("acceptors", "2, 3, 4"),
            ("proposers", "1, 5"),
            ("quorum", "2 of 3 acceptors"),
            ("a durable write", f"{COMMIT_US / 1000} ms"),
            ("back-off", f"{BACK_OFF_TICKS} ms and a random part that grows with each failure"),
        ),
    )


def _first_blood(stage: SynodStage) -> None:
    stage.say("Node 1 wants red and begins ballot 1.1: it sends Prepare to the three acceptors.", 1)
    stage.prepare(1)
    stage.run(OFFSET_MS)
    stage.say(
        "The acceptors promise: nothing below 1.1 from now on. But before node 1 can use that, "
        "node 5, which wants blue, sends its own Prepare with ballot 1.5. That is higher: in the "
        "same round the higher node counts.",
        5,
    )
    stage.prepare(5)
    stage.run_until(lambda: bool(stage.in_flight(Accept, 1)), "node 1 completes phase 1")
    stage.say(
        "Node 1 has its promises and sends Accept 1.1 red. It is too late by a hair: the acceptors "
        "have promised 1.5 meanwhile, and must refuse. Their refusal is called Nack.",
        1,
    )
    stage.run_until(lambda: Ballot(1, 1) in stage.preempted, "ballot 1.1 is preempted")
    stage.say(
        "Node 1 is preempted: a higher ballot has overtaken its own. It does what seems right and "
        "sends Prepare again at once, in ballot 2.1.",
        1,
    )
    stage.run_until(lambda: bool(stage.in_flight(Accept, 5)), "node 5 completes phase 1")


def _livelock(stage: SynodStage) -> None:
    stage.say(
        "Node 5 sends Accept 1.5 blue. But that new Prepare lands just before it, so now the "
        "acceptors must refuse blue. Node 5 is preempted too, and goes for ballot 3.5 at once.",
        5,
    )
    stage.run_until(lambda: Ballot(1, 5) in stage.preempted, "ballot 1.5 is preempted")
    stage.say(
        "The same again, a round higher: the Prepare of 3.5 is there before the Accept of 2.1. "
        "Follow any Accept: the other proposer's Prepare has always just landed.",
        1,
    )
    stage.run_until(lambda: Ballot(2, 1) in stage.preempted, "ballot 2.1 is preempted")
    stage.say("And again: now 4.1 comes before the Accept of 3.5.", 5)
    stage.run_until(lambda: len(stage.preempted) >= ROUNDS, "the duel goes on")
    stage.say(
        f"{ROUNDS} attempts, {ROUNDS} preempted. Nobody did anything wrong: no message was lost, "
        "no node failed, no promise was broken. It is a livelock: much work, no progress."
    )
    stage.claim(not any(map(stage.accepted, stage.acceptors)), "nothing is accepted")
    stage.say(
        "It can go on for ever. This same duel was left alone for a second: "
        f"{_left_alone()} preempted attempts, and not one value accepted by anybody. No rule "
        "that keeps Paxos safe can forbid such a run (Fischer, Lynch and Paterson, 1985); chance "
        "can make it end."
    )


def _left_alone() -> int:
    """How many attempts the duel takes in a second without back-off; none may succeed."""
    stage = _eager_stage()
    stage.prepare(1)
    stage.run(OFFSET_MS)
    stage.prepare(5)
    stage.run(1000)
    stage.claim(not any(map(stage.accepted, stage.acceptors)), "nothing is ever accepted")
    stage.claim(len(stage.preempted) > 100, "the livelock goes on")
    return len(stage.preempted)


def _back_off(stage: SynodStage) -> None:
    stage.back_off({1: 50, 5: 50})
    stage.say(
        "Now both proposers learn to back off: who is preempted waits before it tries again, "
        f"{BACK_OFF_TICKS} ms and a random part. This is the rule by which the real nodes elect."
    )
    winner, loser = 5, 1
    before = len(stage.preempted)
    stage.run_until(lambda: len(stage.preempted) > before, "one more is preempted")
    stage.claim(stage.preempted[-1].node == loser, "node 1 is preempted")
    stage.say(
        "Node 1 is preempted once more, but this time it holds its fire. The wait is longer than "
        "an attempt takes, so node 5's Accept finds nothing in its way.",
        loser,
    )
    stage.run_until(lambda: winner in stage.chosen, "node 5 hears of a majority")
    stage.claim(stage.chosen[winner] == b"blue", "blue is chosen")
    stage.say(
        "A majority has accepted blue: it is chosen. The duel is over as soon as one of the two "
        "leaves the other enough time.",
        winner,
    )
    stage.say(
        "Why random, and why growing? Proposers that wait equally long may meet again. So each "
        "draws its wait, and each further attempt that fails widens the range to draw from, up to "
        "eight times: sooner or later one of them is alone for long enough."
    )
    stage.run_until(lambda: bool(stage.in_flight(Accept, loser)), "node 1 tries again")
    stage.claim(stage.proposers[loser].state.proposed == b"blue", "node 1 proposes blue")
    stage.say(
        "Node 1's wait is over. It finds blue in the promises, so it must propose blue as well: "
        "the duel cost time, but it never put safety at risk.",
        loser,
    )
    stage.run_until(lambda: loser in stage.chosen, "node 1 hears of a majority")
    stage.claim(set(stage.chosen.values()) == {b"blue"}, "both proposers know the same value")
