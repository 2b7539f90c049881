"""A slot is lost and the next one is not: the new leader fills the gap with a no-op."""

from paxos.messages import NOOP, Accept, Accepted, Fetched, Heartbeat, Prepare, PreVoteReply
from paxos.quorum import majority
from proof.simulation.lessons.log_stage import LogStage
from proof.simulation.tell.trace import Recording

APPLE, PEAR, PLUM = b"apple", b"pear", b"plum"

SUMMARY = (
    "The leader may have two slots in flight. It crashes when the first is lost and the second is "
    "accepted by one follower. Slots are executed in order, so the next leader must put something "
    "into the gap, and must be sure that nothing was chosen there."
)


def gap_fill() -> Recording:
    """Source: "Paxos Made Simple" (2001), section 3: the proposals of "no-op" commands."""
    stage = LogStage(majority([1, 2, 3]), {1: 0, 2: 100, 3: 40}, clients=(1, 2))
    _gap(stage)
    _new_leader(stage)
    _fill(stage)
    _old_leader_returns(stage)
    return stage.recording(
        "gap-fill", "A gap in the log, filled with a no-op", SUMMARY, stage.facts()
    )


def _gap(stage: LogStage) -> None:
    stage.say(
        "Node 1 is elected: PreVote, Prepare, Promise. It gets a no-op chosen in slot 1 and leads. "
        "It may have two slots under way at a time."
    )
    stage.run_until(lambda: len(stage.applied(3)) == 1, "slot 1 is applied everywhere")
    stage.say("Client 1 writes apple. It goes to slot 2, and both Accepts get lost.", 1)
    stage.write(1, 1, APPLE, "write apple")
    stage.lose(Accept, 1)
    stage.run(0.8)
    stage.say(
        "Client 2 writes pear. The leader does not wait for slot 2: pear goes to slot 3 at once. "
        "Node 2 gets it; the Accept for node 3 is lost too.",
        1,
    )
    stage.write(2, 1, PEAR, "write pear")
    stage.lose(Accept, 1, 3)
    stage.run_until(lambda: bool(stage.in_flight(Accepted, 2)), "node 2 accepts pear")
    stage.say(
        "Node 2 has accepted slot 3 and has nothing in slot 2: a gap. It cannot execute pear, "
        "because something may yet be chosen before it.",
        2,
    )
    stage.run(0.8)
    stage.say("The leader crashes. Neither client has heard anything.", 1)
    stage.crash(1)
    stage.claim(sorted(stage.members[2].disk.entries) == [1, 3], "node 2 has a gap at slot 2")
    stage.claim(sorted(stage.members[3].disk.entries) == [1], "node 3 has slot 1 only")


def _new_leader(stage: LogStage) -> None:
    stage.say("Node 3 hears no leader for its time-out and asks with PreVote. Node 2 grants it.", 3)
    stage.run_until(lambda: bool(stage.in_flight(PreVoteReply, 2)), "node 2 grants the pre-vote")
    stage.run_until(lambda: bool(stage.in_flight(Prepare, 3)), "node 3 begins phase 1")
    stage.say(
        "Node 3 sends Prepare 2.3 from slot 2 on. Node 2's Promise reports pear in slot 3. About "
        "slot 2 it reports nothing, and node 3 has nothing there either.",
        3,
    )
    stage.run_until(lambda: len(stage.in_flight(Accept, 3, 2)) == 2, "node 3 proposes two slots")


def _fill(stage: LogStage) -> None:
    accepts = [flight.message for flight in stage.in_flight(Accept, 3, 2)]
    values = {m.slot: m.value for m in accepts if isinstance(m, Accept)}
    stage.claim(values == {2: NOOP, 3: PEAR}, "node 3 proposes a no-op and pear")
    stage.say(
        "Node 3 proposes pear in slot 3, for it may be chosen: nodes 1 and 2 are a majority, and "
        "node 1 cannot be asked.",
        3,
    )
    stage.say(
        "For slot 2 it proposes a no-op, a value that does nothing. Is that safe? Had apple been "
        "chosen, a majority would have accepted it, and every majority has node 2 or 3 in it. "
        "Neither has it, and neither will take it in ballot 1.1 any more.",
        3,
    )
    stage.run_until(lambda: len(stage.applied(2)) == 3, "node 2 has applied slot 3")
    stage.claim(stage.applied(3) == [b"", NOOP, PEAR], "node 3 has applied no-op and pear")
    stage.say(
        "The no-op is chosen in slot 2 and pear in slot 3. The gap is closed, and both nodes can "
        "execute pear."
    )
    stage.say(
        "Client 1 was never told that apple is written, so nothing is broken. Its outcome was "
        "unknown; it tries again, and apple gets slot 4.",
        3,
    )
    stage.write(1, 3, APPLE, "write apple, again")
    stage.run_until(lambda: len(stage.applied(2)) == 4, "node 2 has applied slot 4")


def _old_leader_returns(stage: LogStage) -> None:
    stage.run(10)
    stage.restart(1)
    held = stage.node(1).acceptor.log[2].value
    stage.claim(held == APPLE and len(stage.applied(1)) == 1, "node 1 holds apple unapplied")
    stage.say(
        "Node 1 comes back. On its disk apple still stands in slot 2, accepted in ballot 1.1. "
        "Accepted is not chosen, so it executes nothing.",
        1,
    )
    stage.run_until(lambda: bool(stage.in_flight(Heartbeat, 3, 1)), "the next heartbeat")
    stage.say(
        "It hears from the leader that slots 2 to 4 are chosen. What it holds is of an older "
        "ballot than the leader's, so it does not trust it, and fetches the chosen values.",
        1,
    )
    stage.run_until(lambda: bool(stage.in_flight(Fetched, 3)), "node 3 sends the chosen values")
    stage.run_until(lambda: len(stage.applied(1)) == 4, "node 1 has caught up")
    stage.run(1)
    stage.claim(stage.members[1].disk.entries[2].value == NOOP, "the no-op has replaced apple")
    log = [b"", NOOP, PEAR, APPLE]
    stage.claim(all(stage.applied(node) == log for node in stage.nodes), "all logs are equal")
    stage.say(
        "The no-op replaces apple in slot 2. All three nodes have executed the same log: no-op, "
        "no-op, pear, apple."
    )
