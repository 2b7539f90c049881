"""Quorums that are no majorities: cheap writes, dear elections, and what must intersect."""

from paxos.messages import Accept, Prepare, PreVoteReply
from paxos.node_roles import Role
from paxos.quorum import QuorumError, flexible
from proof.simulation.lessons.log_stage import LogStage
from proof.simulation.tell.trace import Recording

APPLE, PEAR = b"apple", b"pear"

SUMMARY = (
    "Paxos does not need majorities. It needs every phase 1 quorum to meet every phase 2 quorum. "
    "Four nodes, of which two suffice for a write and three for an election: 2 + 3 > 4, so the two "
    "always share a node. Majorities of four would need three for both."
)


def flexible_quorum() -> Recording:
    """Source: Howard, Malkhi, Spiegelman, "Flexible Paxos" (2016); Howard (2019), chapter 4."""
    stage = LogStage(flexible([1, 2, 3, 4], phase2=2), {1: 0, 2: 40, 3: 70, 4: 100})
    _elect(stage)
    _write_with_two(stage)
    _no_election_with_two(stage)
    _election_with_three(stage)
    return stage.recording("flexible-quorum", "Flexible quorums", SUMMARY, stage.facts())


def _elect(stage: LogStage) -> None:
    stage.say(
        "Node 1 wants to lead. In this cluster phase 1 needs three of the four nodes, already for "
        "the pre-vote.",
        1,
    )
    stage.run_until(lambda: stage.node(1).proposer.leading, "node 1 leads")
    stage.say(
        "Two promises and its own: three, a phase 1 quorum. Node 1 leads and proposes its first "
        "no-op. For this, phase 2, one follower is enough.",
        1,
    )
    stage.run_until(lambda: len(stage.applied(4)) == 1, "slot 1 is applied everywhere")


def _write_with_two(stage: LogStage) -> None:
    stage.say("Nodes 3 and 4 crash: half of the cluster is gone.", 3)
    stage.crash(3)
    stage.crash(4)
    stage.say(
        "A client writes apple. With majorities this would wait for ever. Here nodes 1 and 2 are a "
        "phase 2 quorum: chosen after one round trip.",
        1,
    )
    stage.write(1, 1, APPLE, "write apple")
    stage.run_until(lambda: stage.applied(1)[1:] == [APPLE], "apple is applied by the leader")
    stage.run(2)
    stage.say("And pear as well. As long as the leader and one follower live, writes go on.", 1)
    stage.write(1, 1, PEAR, "write pear")
    stage.run_until(lambda: stage.applied(2)[1:] == [APPLE, PEAR], "node 2 has applied pear")


def _no_election_with_two(stage: LogStage) -> None:
    stage.say("The price: now the leader crashes, and node 3 comes back.", 1)
    stage.crash(1)
    stage.restart(3)
    stage.say(
        "Nodes 2 and 3 are up: as many as were enough to write. Node 2's time-out is over, it asks "
        "for pre-votes, and node 3 grants its own. But phase 1 needs three: nobody can lead.",
        2,
    )
    stage.run_until(
        lambda: bool(stage.in_flight(PreVoteReply, 3, 2)), "node 3 grants node 2's pre-vote"
    )
    stage.patience[2] = 100
    stage.run(8)
    roles = {stage.node(node).role for node in (2, 3)}
    stage.claim(roles == {Role.FOLLOWER}, "nobody begins phase 1")
    stage.say(
        "That is no flaw. Nodes 3 and 4 would be two as well, and they hold neither apple nor "
        "pear. If two could elect, those writes could be lost."
    )
    try:
        flexible([1, 2, 3, 4], phase2=2, phase1=2)
    except QuorumError:
        refused = True
    else:
        refused = False
    stage.claim(refused, "quorums of 2 and 2 among 4 are refused")
    stage.say(
        "The rule (Howard and others, 2016) is phase 1 + phase 2 > nodes. Sizes of 2 and 2 of 4 "
        "break it, and this program refuses to start with them."
    )


def _election_with_three(stage: LogStage) -> None:
    stage.patience[4] = 0
    stage.restart(4)
    stage.say(
        "Node 4 comes back: three of four are up. Its time-out is the shortest, and this time the "
        "pre-vote gets three votes.",
        4,
    )
    stage.run_until(lambda: bool(stage.in_flight(Prepare)), "somebody begins phase 1")
    stage.say(
        "Neither node 4 nor node 3 holds apple or pear. But any three of four nodes include one "
        "of the two that accepted them. Watch node 2's Promise: it reports both.",
        4,
    )
    stage.run_until(lambda: bool(stage.in_flight(Accept)), "somebody leads")
    accepts = [flight.message for flight in stage.in_flight(Accept, 4, 2)]
    values = {m.slot: m.value for m in accepts if isinstance(m, Accept)}
    stage.claim(values == {1: b"", 2: APPLE}, "node 4 proposes the no-op and apple again")
    stage.say(
        "Node 4 leads. It proposes again what it was told, in its own ballot, two slots at a time: "
        "the no-op, apple, pear. Again one follower's answer is enough for each.",
        4,
    )
    log = [b"", APPLE, PEAR]
    stage.run_until(
        lambda: all(stage.applied(node) == log for node in (2, 3, 4)), "all three have applied pear"
    )
    stage.claim(stage.leads(4), "node 4 leads")
    stage.say(
        "Nothing was lost, though half of the cluster was down when it was written. That is the "
        "bargain: small phase 2 quorums make writes cheap and hardy, and elections dear."
    )
