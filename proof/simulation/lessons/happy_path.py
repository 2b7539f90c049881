"""A stable leader: phase 1 once for all slots, then one round trip for each write."""

from paxos.messages import Accept, Prepare
from paxos.quorum import majority
from proof.simulation.lessons.log_stage import LogStage
from proof.simulation.tell.trace import Recording, Sent

APPLE, PEAR, PLUM = b"apple", b"pear", b"plum"

SUMMARY = (
    "Three nodes keep a log. Each slot of the log is one decision; each node executes the slots in "
    "order. One node is elected leader, and from then on a write costs one round trip and one "
    "durable write on a majority of the nodes."
)


def happy_path() -> Recording:
    """Source: "Paxos Made Simple" (2001), section 3."""
    stage = LogStage(majority([1, 2, 3]), {1: 0, 2: 50, 3: 100}, window=1, clients=(1, 2))
    _elect(stage)
    _first_write(stage)
    _two_writes(stage)
    return stage.recording("happy-path", "The happy path: a stable leader", SUMMARY, stage.facts())


def _elect(stage: LogStage) -> None:
    stage.say(
        "Three nodes start. Nobody leads. Each waits for a random time to hear from a leader; node "
        "1 happens to wait the shortest."
    )
    stage.say(
        "Node 1 asks the others with PreVote whether they would promise, if it tried. They hear no "
        "leader either, so they grant it. This changes nothing anywhere; it only avoids "
        "disturbing a leader that works.",
        1,
    )
    stage.run_until(lambda: bool(stage.in_flight(Prepare)), "node 1 begins phase 1")
    stage.say(
        "Phase 1. Node 1 has written its own promise to disk, and sends Prepare 1.1 from slot 1: "
        "one question for this slot and all that will ever follow.",
        1,
    )
    stage.run_until(lambda: stage.node(1).proposer.leading, "node 1 leads")
    stage.say(
        "One Promise and its own make two of three, a majority: node 1 leads with ballot 1.1. "
        "Phase 1 is done, once for all slots. It tells the others with a Heartbeat.",
        1,
    )
    stage.say(
        "The first thing a leader proposes is a no-op, here in slot 1. When that is chosen, the "
        "leader knows for sure that it has missed nothing of earlier leaders.",
        1,
    )
    stage.run_until(lambda: stage.leads(1), "slot 1 is chosen")
    stage.run(6)


def _first_write(stage: LogStage) -> None:
    sent = len(stage.in_flight(Accept))
    stage.claim(sent == 0, "nothing is under way")
    stage.say(
        "A client writes apple to the leader. This is phase 2, and all that a write needs from now "
        "on: Accept goes to both followers, while the leader writes to its own disk.",
        1,
    )
    stage.write(1, 1, APPLE, "write apple")
    stage.run_until(lambda: stage.applied(1)[1:] == [APPLE], "apple is applied by the leader")
    stage.say(
        "The leader's own disk and node 2's answer make a majority: slot 2 is chosen. The client "
        "has its answer after one round trip. Node 3 is slower, and nobody had to wait for it.",
        1,
    )
    stage.claim(stage.applied(2)[1:] == [], "node 2 does not know yet that slot 2 is chosen")
    stage.say(
        "Node 2 has accepted apple, but it cannot know that this was enough. The leader tells: "
        "Chosen, through slot 2. Then the followers execute it too."
    )
    stage.run_until(lambda: stage.applied(3)[1:] == [APPLE], "node 3 has applied apple")
    stage.run(6)


def _two_writes(stage: LogStage) -> None:
    stage.say(
        "Two writes come one right after the other. This leader keeps one slot in flight, so plum "
        "waits until pear is chosen.",
        1,
    )
    stage.write(1, 1, PEAR, "write pear")
    stage.write(2, 1, PLUM, "write plum")
    stage.run_until(lambda: bool(stage.in_flight(Accept)) and len(stage.applied(1)) == 3, "pear")
    accept = stage.in_flight(Accept, to=2)[-1].message
    stage.claim(isinstance(accept, Accept) and accept.chosen_through == 3, "Accept tells of slot 3")
    stage.say(
        "Look at the Accept of slot 4: it says chosen through 3. Under load no message is spent on "
        "telling what is chosen: the followers learn it with the next Accept.",
        1,
    )
    stage.run_until(lambda: len(stage.applied(1)) == 4, "plum is applied by the leader")
    stage.run_until(
        lambda: all(len(stage.applied(node)) == 4 for node in stage.nodes), "all have applied it"
    )
    log = [b"", APPLE, PEAR, PLUM]
    stage.claim(all(stage.applied(node) == log for node in stage.nodes), "all logs are equal")
    prepared = [e for e in stage.trace.events if isinstance(e, Sent) and e.name == "Prepare"]
    stage.claim(len(prepared) == 2, "there was one phase 1")
    stage.say(
        "All three nodes have executed the same four slots in the same order: no-op, apple, pear, "
        "plum. There was one phase 1 for all of them, and one round trip for each write."
    )
