"""One value, once: prepare, promise, accept, accepted, and what a proposer may not propose."""

from paxos.ballot import Ballot
from paxos.messages import Accept, Prepare
from paxos.quorum import majority
from proof.simulation.lessons.synod_stage import SynodStage
from proof.simulation.tell.trace import Lost, Recording

RED, BLUE, GREEN = b"red", b"blue", b"green"


def single_decree() -> Recording:
    """Three acceptors, two proposers. Source: "Paxos Made Simple" (2001), section 2."""
    stage = SynodStage({1: RED, 5: BLUE}, majority([2, 3, 4]))
    _red_is_accepted_once(stage)
    _blue_does_not_see_red(stage)
    _highest_ballot_wins(stage)
    _chosen_stays_chosen(stage)
    return stage.recording(
        "single-decree",
        "One value: single-decree Paxos",
        "Nodes 1 and 5 are proposers: each wants its own value chosen. Nodes 2, 3 and 4 are "
        "acceptors: they remember. Messages get lost, and still only one value is ever chosen. "
        "The messages are those of the whole log, where each slot is one such decision; this "
        "lesson has slot 1 only.",
        (("acceptors", "2, 3, 4"), ("proposers", "1, 5"), ("quorum", "2 of 3 acceptors")),
    )


def _red_is_accepted_once(stage: SynodStage) -> None:
    stage.say(
        "Node 1 wants the value red. It does not send it yet. First it asks all acceptors to take "
        "part in ballot 1.1 (round 1, node 1). The message is called Prepare.",
        1,
    )
    stage.prepare(1)
    stage.lose(Prepare, 1, 4)
    stage.run(3)
    stage.say(
        "An acceptor that answers Promise has written down that it will accept nothing in a ballot "
        "below 1.1. It also reports what it has accepted so far: nothing. That was phase 1."
    )
    stage.run_until(lambda: bool(stage.in_flight(Accept)), "node 1 completes phase 1")
    stage.say(
        "Node 4 never got the question, but two promises out of three are a majority. Nobody "
        "reported a value, so node 1 is free to propose its own: Accept 1.1 red. This is phase 2.",
        1,
    )
    stage.lose(Accept, 1, 3)
    stage.lose(Accept, 1, 4)
    stage.run_until(lambda: stage.accepted(2) is not None, "node 2 accepts")
    stage.say(
        "Only node 2 gets the message. It writes red down and answers Accepted. One acceptor of "
        "three is no majority: red is accepted, but it is not chosen.",
        2,
    )
    stage.run(4)
    stage.claim(not stage.chosen, "nothing is chosen after one acceptance")


def _blue_does_not_see_red(stage: SynodStage) -> None:
    stage.say(
        "Now node 5 wants blue. Its ballot 1.5 is above 1.1: rounds are compared first, then "
        "nodes. Its Prepare reaches nodes 4 and 3. Neither has accepted anything.",
        5,
    )
    stage.prepare(5)
    stage.lose(Prepare, 5, 2)
    stage.run_until(lambda: bool(stage.in_flight(Accept)), "node 5 completes phase 1")
    stage.say(
        "Two promises, no value reported: node 5 may propose blue. Red sits on node 2 alone, and "
        "it can never be chosen in ballot 1.1 now: nodes 3 and 4 have promised to refuse that.",
        5,
    )
    stage.lose(Accept, 5, 2)
    stage.lose(Accept, 5, 3)
    stage.run_until(lambda: stage.accepted(4) is not None, "node 4 accepts")
    stage.run(3)
    stage.say(
        "Again the network takes most of it: only node 4 accepts blue. Node 2 holds red from "
        "ballot 1.1, node 4 holds blue from 1.5, node 3 holds nothing. Still nothing is chosen."
    )
    held = [stage.accepted(node) for node in (2, 3, 4)]
    stage.claim([e and e.value for e in held] == [RED, None, BLUE], "red, nothing and blue stand")
    stage.claim(not stage.chosen, "nothing is chosen after two lone acceptances")


def _highest_ballot_wins(stage: SynodStage) -> None:
    stage.say(
        "Node 1 has waited in vain and tries again, with ballot 2.1: a higher round. This time its "
        "Prepare to node 3 is lost, so its majority will be nodes 2 and 4.",
        1,
    )
    stage.prepare(1, Ballot(2, 1))
    stage.lose(Prepare, 1, 3)
    stage.run(6)
    stage.say(
        "Watch the two Promises: each tells what its acceptor holds, and in which ballot. Node 2 "
        "reports red in 1.1, node 4 reports blue in 1.5."
    )
    stage.run_until(lambda: bool(stage.in_flight(Accept)), "node 1 completes phase 1")
    stage.claim(stage.proposers[1].state.proposed == BLUE, "node 1 proposes blue")
    stage.say(
        "Node 1 must now propose blue and give up its own red. The rule: the value of the highest "
        "accepted ballot wins. For all that node 1 can tell, blue may have been chosen already; "
        "had red been chosen, node 5 would have found it, and ballot 1.5 would carry red.",
        1,
    )
    stage.run_until(lambda: 1 in stage.chosen, "node 1 hears of a majority")
    stage.say(
        "Two acceptors have accepted blue in the same ballot, 2.1: blue is chosen. Chosen means "
        "that no later ballot can choose anything else.",
        1,
    )
    stage.claim(stage.chosen[1] == BLUE, "blue is chosen")
    stage.run(4)


def _chosen_stays_chosen(stage: SynodStage) -> None:
    stage.proposers[5].value = GREEN
    stage.say(
        "Node 5 has not heard of that. It has changed its mind, wants green, and begins ballot "
        "3.5. Any majority it can ask shares an acceptor with the majority that chose blue.",
        5,
    )
    stage.prepare(5, Ballot(3, 5))
    stage.run_until(lambda: bool(stage.in_flight(Accept)), "node 5 completes phase 1")
    stage.claim(stage.proposers[5].state.proposed == BLUE, "node 5 proposes blue")
    stage.say(
        "So it hears of blue, and has to propose blue. Green goes nowhere. Its ballot only "
        "confirms what was chosen.",
        5,
    )
    stage.run_until(lambda: 5 in stage.chosen, "node 5 hears of a majority")
    stage.settle()
    stage.claim(set(stage.chosen.values()) == {BLUE}, "both proposers know blue")
    lost = sum(isinstance(event, Lost) for event in stage.trace.events)
    stage.claim(lost == 7, "seven messages were lost")
    stage.say(
        "Both proposers know the same value. They came with three different ones, seven messages "
        "were lost, and at no instant could two values have been chosen."
    )
