"""The leader dies with a write half done: the next one finishes it, and nobody applies it twice."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

from kvstore.commands.batches import Batch, Bundle
from kvstore.commands.binary import encode
from kvstore.commands.commands import Once, Put
from kvstore.state.state_machine import StateMachine
from kvstore.storage.state import StateStore
from paxos.ballot import NodeId
from paxos.messages import Accept, Accepted, Fetched, Heartbeat, Prepare
from paxos.quorum import majority
from proof.simulation.lessons.log_stage import LogStage, Machines
from proof.simulation.tell.trace import Recording, Sent

COMMAND = Once(b"key-7", Put(b"x", b"1"))
"""The client's write, with the idempotency key that it sends each time."""

SUMMARY = (
    "Three nodes, with the real state machine on each. The leader crashes when one follower has "
    "accepted the client's write and nobody has heard of it. The write may be chosen already, so "
    "whoever leads next must find it and finish it."
)


def leader_crash() -> Recording:
    """Source: "Paxos Made Simple" (2001), section 3."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stage = LogStage(
            majority([1, 2, 3]), {1: 0, 2: 100, 3: 40}, machines=_machines(stack, folder)
        )
        _half_a_write(stage)
        _new_leader(stage)
        _retry(stage)
        _old_leader_returns(stage)
        return stage.recording("leader-crash", "The leader crashes", SUMMARY, stage.facts())


def _machines(stack: ExitStack, folder: Path) -> Machines:
    """State machines on stores of their own, closed when the lesson is over."""

    def machine(node: NodeId, life: int) -> StateMachine:
        store = StateStore(folder / f"state-{node}-{life}.mdb")
        stack.callback(store.close)
        return StateMachine(store)

    return machine


def _batch(node: NodeId) -> bytes:
    """What `node` proposes for the client's command."""
    bundle = Bundle(origin=node, starts=1, number=1, floor=1, commands=(COMMAND,))
    return encode(Batch(clock_ms=0, bundles=(encode(bundle),)))


def _half_a_write(stage: LogStage) -> None:
    stage.say(
        "Node 1 is elected: PreVote, then Prepare and Promise, once for all slots. It gets a no-op "
        "chosen in slot 1 and leads."
    )
    stage.run_until(lambda: len(stage.applied(3)) == 1, "slot 1 is applied everywhere")
    stage.say(
        "A client asks the leader to put x=1. The request carries an idempotency key, key-7, so "
        "that it can be sent again without doing its work twice.",
        1,
    )
    request = _batch(1)
    stage.write(1, 1, request, "put x=1 (key-7)", "x")
    stage.say(
        "The leader sends Accept for slot 2. The one for node 3 gets lost. Node 2 writes it to its "
        "disk and answers."
    )
    stage.lose(Accept, 1, 3)
    stage.run_until(lambda: bool(stage.in_flight(Accepted, 2)), "node 2 accepts")
    stage.run(1)
    stage.say(
        "The leader crashes before the answer reaches it. The client's connection breaks: was x "
        "written or not? It cannot know, and nobody can tell it yet.",
        1,
    )
    stage.crash(1)
    stage.claim(stage.members[1].disk.entries[2].value == request, "node 1 wrote slot 2 to disk")
    stage.claim(2 not in stage.chosen, "nobody knows that slot 2 is chosen")
    stage.say(
        "Look at slot 2: the disks of nodes 1 and 2 hold the write, and two of three are a "
        "majority. So it is chosen, though no node alive knows that. Losing it now would be wrong."
    )


def _new_leader(stage: LogStage) -> None:
    stage.say(
        "No heartbeat comes any more. Node 3's time-out is over first, and it asks with PreVote. "
        "Node 3, of all nodes, has never seen the write.",
        3,
    )
    stage.run_until(lambda: bool(stage.in_flight(Prepare, 3)), "node 3 begins phase 1")
    stage.say(
        "Phase 1: Prepare 2.3 from slot 2. Node 2 promises, and its Promise reports what it has "
        "accepted: the write, in slot 2, in ballot 1.1.",
        3,
    )
    stage.run_until(lambda: bool(stage.in_flight(Accept, 3)), "node 3 proposes")
    accept = stage.in_flight(Accept, 3)[0].message
    stage.claim(
        isinstance(accept, Accept) and (accept.slot, accept.value) == (2, _batch(1)),
        "node 3 proposes the write again in slot 2",
    )
    stage.say(
        "Any majority contains node 1 or node 2, so a new leader cannot miss it. Node 3 leads, and "
        "the first thing it proposes is that same write, in slot 2, in its own ballot 2.3.",
        3,
    )
    stage.run_until(lambda: stage.leads(3) and len(stage.applied(2)) == 2, "slot 2 is applied")
    stage.say(
        "Nodes 2 and 3 have accepted it in ballot 2.3, and execute it: x is 1, at revision 2. The "
        "dead leader's work is finished."
    )


def _retry(stage: LogStage) -> None:
    stage.say(
        "The client does what it must: it sends the same request, with the same key, to the new "
        "leader. That proposes it in slot 3: to Paxos a value is bytes, and a retry is one more.",
        3,
    )
    stage.write(1, 3, _batch(3), "put x=1 (key-7), again", "x")
    stage.run_until(
        lambda: len(stage.applied(3)) == 3 and len(stage.applied(2)) == 3, "slot 3 is applied"
    )
    _claim_applied_once(stage, [2, 3])
    stage.say(
        "Slot 3 is chosen and executed, but the state machine knows key-7: it changes nothing and "
        "gives the answer of the first time, revision 2. The write was applied once."
    )


def _old_leader_returns(stage: LogStage) -> None:
    stage.run(10)
    stage.say(
        "Node 1 comes back. Its disk still has its promise and the write in slot 2, accepted in "
        "1.1, but it does not know what became of it.",
        1,
    )
    stage.restart(1)
    stage.say(
        "It asks whether it might lead. The others hear a leader and refuse: a node that comes "
        "back never unseats a leader that works.",
        1,
    )
    stage.run_until(lambda: bool(stage.in_flight(Heartbeat, 3, 1)), "the next heartbeat")
    replies = [e.text for e in stage.trace.events if isinstance(e, Sent) and e.to == 1]
    stage.claim(sum("PreVoteReply" in t and "refused" in t for t in replies) == 2, "both refuse")
    stage.say(
        "The leader's next Heartbeat says how far the log is chosen. What node 1 holds in slot 2 "
        "is of an older ballot and might have lost, so it does not trust it: it sends Fetch.",
        1,
    )
    stage.run_until(lambda: bool(stage.in_flight(Fetched, 3)), "node 1 asks for what it missed")
    stage.run_until(lambda: len(stage.applied(1)) == 3, "node 1 has caught up")
    _claim_applied_once(stage, [1, 2, 3])
    stage.say(
        "Node 1 executes slots 2 and 3 and is a follower with the same state as the others: x is "
        "1, written once, at revision 2."
    )


def _claim_applied_once(stage: LogStage, nodes: list[NodeId]) -> None:
    for node in nodes:
        machine = stage.members[node].machine
        assert machine is not None
        found = machine.get(b"x")
        stage.claim(
            machine.revision == 2
            and found is not None
            and (found.value, found.version) == (b"1", 1),
            f"node {node} has x=1, written once",
        )
