"""The lessons: each holds what it says, is the same each time, and notices what does not hold."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import pytest

import paxos.acceptor
import paxos.proposer
import paxos.synod
from kvstore.commands import commands as c
from kvstore.commands.batches import Batch, Bundle
from kvstore.commands.binary import encode
from kvstore.peers.frames import (
    DigestAt,
    LeaseAsk,
    LeaseTold,
    PeerMessage,
    Relay,
    SnapshotAsk,
    SnapshotPiece,
)
from kvstore.state.state_machine import StateMachine
from paxos import messages as m
from paxos.acceptor import Acceptor
from paxos.ballot import Ballot
from paxos.election import Election
from paxos.learner import Learner
from paxos.quorum import QuorumSystem, majority
from proof.simulation.lessons import LESSONS, LessonError, tell
from proof.simulation.lessons.synod_stage import SynodStage
from proof.simulation.tell.describe import ballot_of, describe, name_of, slot_of, value_text
from proof.simulation.tell.trace import (
    Answered,
    Asked,
    Delivered,
    FaultBegan,
    FaultEnded,
    Happened,
    Lost,
    Note,
    Recording,
    Sent,
    SlotIs,
    Trace,
)

E = TypeVar("E")


@pytest.fixture(scope="module")
def recordings() -> dict[str, Recording]:
    return {name: lesson() for name, lesson in LESSONS.items()}


@pytest.fixture(params=list(LESSONS))
def recording(request: pytest.FixtureRequest, recordings: dict[str, Recording]) -> Recording:
    return recordings[request.param]


def of(recording: Recording, kind: type[E]) -> list[E]:
    return [event for event in recording.events if isinstance(event, kind)]


def digest(recording: Recording) -> str:
    trace = Trace(keep=False)
    for event in recording.events:
        trace.add(event)
    return trace.digest


# -- the words ------------------------------------------------------------------------------------

B = Ballot(2, 3)
PUTS = tuple(c.Put(b"k%d" % i, b"v") for i in range(4))


def batch(*commands: c.Command) -> bytes:
    return encode(Batch(7, (encode(Bundle(1, 2, 3, 1, commands)),)))


MESSAGES: dict[PeerMessage, str] = {
    m.PreVote(B, 4): "PreVote 2.3 from slot 4",
    m.PreVoteReply(B, False, Ballot(3, 1)): "PreVoteReply 2.3 refused (3.1)",
    m.Prepare(B, 4): "Prepare 2.3 from slot 4",
    m.Promise(B, 4, (m.LogEntry(4, Ballot(1, 1), b"x"),), 5): (
        "Promise 2.3 from slot 4: 4=x in 1.1, more from slot 5"
    ),
    m.Accept(B, 4, m.NOOP, 3): "Accept 2.3 4=no-op, chosen through 3",
    m.Accepted(B, 4): "Accepted 2.3 slot 4",
    m.Nack(B, Ballot(3, 1)): "Nack 2.3, promised 3.1",
    m.Chosen(B, 4): "Chosen 2.3 through 4",
    m.Heartbeat(B, 9, 4): "Heartbeat 2.3 probe 9, chosen through 4",
    m.HeartbeatReply(B, 9, 4): "HeartbeatReply 2.3 probe 9, chosen through 4",
    m.ReadIndex((1 << 32) + 5): "ReadIndex 5",
    m.ReadIndexReply((1 << 32) + 5, 4): "ReadIndexReply 5: slot 4",
    m.Fetch(4): "Fetch from slot 4",
    m.Fetched((), 4): "Fetched nothing; chosen through 4",
    m.Truncated(4): "Truncated, the log begins at slot 4",
    m.HandOver(B): "HandOver 2.3",
    Relay(encode(Bundle(1, 2, 3, 1, PUTS[:1]))): "Relay bundle 1/2/3, 1 command: put k0=v",
    Relay(b"raw"): "Relay raw",
    DigestAt(4, b"\xab\xcd\xef\x01\x02"): "DigestAt slot 4: abcdef01",
    SnapshotAsk("", 0): "SnapshotAsk a new one from byte 0",
    SnapshotPiece("3-1", 4, 10, 99, b"", b"12345"): (
        "SnapshotPiece 3-1 through slot 4: bytes 10 to 15 of 99"
    ),
    LeaseAsk((1 << 32) + 5, ((7, True), (8, False))): "LeaseAsk 5: 7, 8",
    LeaseTold((1 << 32) + 5, (None, (60, 1.5))): "LeaseTold 5: about 2 leases",
}


def test_every_message_has_a_text_that_begins_with_its_name() -> None:
    assert {type(message) for message in MESSAGES} == set(get_args(PeerMessage))
    for message, text in MESSAGES.items():
        assert describe(message) == text
        assert text.startswith(name_of(message))


def test_slot_and_ballot_of_a_message() -> None:
    assert (slot_of(m.Accept(B, 4, b"x", 3)), ballot_of(m.Accept(B, 4, b"x", 3))) == (4, "2.3")
    assert (slot_of(m.Prepare(B, 4)), ballot_of(m.Prepare(B, 4))) == (None, "2.3")
    assert (slot_of(DigestAt(4, b"")), ballot_of(DigestAt(4, b""))) == (4, None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (m.NOOP, "no-op"),
        (b"plain", "plain"),
        (b"x" * 30, "x" * 23 + "…"),
        (b"\xff\x00", "(2 bytes)"),
        (b"two\nlines", "(9 bytes)"),
        (encode(Batch(7, ())), "batch of 0 commands"),
        (batch(c.Put(b"k", b"v")), "batch of 1 command: put k=v"),
        (batch(*PUTS), "batch of 4 commands: put k0=v, put k1=v, put k2=v, …"),
        (batch(c.Put(b"k", b"v", c.ABSENT)), "batch of 1 command: put k=v if it is absent"),
        (batch(c.Delete(b"k", c.EXISTS)), "batch of 1 command: delete k if it exists"),
        (batch(c.Delete(b"k", c.Condition(5))), "batch of 1 command: delete k if at revision 5"),
        (batch(c.Compact(9)), "batch of 1 command: compact to revision 9"),
        (batch(c.Once(b"id", c.Put(b"k", b"v"))), "batch of 1 command: put k=v (once, id)"),
        (
            batch(c.Grant(7, 60), c.Revoke(8)),
            "batch of 2 commands: grant lease 7 for 60 s, revoke lease 8",
        ),
        (encode(Batch(7, (), (5, 6))), "batch of 0 commands, and leases 5, 6 end"),
        (encode(Batch(7, (b"junk",))), "(14 bytes)"),
    ],
    ids=lambda shown: shown if isinstance(shown, str) else "",
)
def test_a_value_is_shown_by_what_it_does(value: bytes, text: str) -> None:
    assert value_text(value) == text


# -- every lesson ---------------------------------------------------------------------------------


def test_the_lessons_of_the_docs_are_there() -> None:
    names = "single-decree dueling-proposers happy-path leader-crash gap-fill flexible-quorum"
    assert list(LESSONS) == names.split()
    assert all(lesson.about for lesson in LESSONS.values())


def test_has_the_size_of_a_lesson(recording: Recording) -> None:
    assert 8 <= len(of(recording, Note)) <= 25
    assert 20 <= len(of(recording, Sent)) <= 120
    assert all(30 <= len(note.text) <= 280 for note in of(recording, Note))


def test_says_how_to_see_it_again(recordings: dict[str, Recording]) -> None:
    for name, recording in recordings.items():
        assert recording.command == f"kvstore simulate --lesson {name}"
        assert dict(recording.facts)["trace digest"] == digest(recording)


def test_every_message_arrives_or_is_lost_once(recording: Recording) -> None:
    ends = Counter(event.id for event in recording.events if isinstance(event, Delivered | Lost))
    assert ends == Counter(sent.id for sent in of(recording, Sent))


def test_links_and_disks_take_their_time(recording: Recording) -> None:
    sent = {event.id: event for event in of(recording, Sent)}
    for arrived in of(recording, Delivered):
        assert 1_000 <= arrived.at_us - sent[arrived.id].at_us <= 5_000
    delivered = {event.id: event.at_us for event in of(recording, Delivered)}
    accepts = {
        (s.to, s.sender, s.ballot, s.slot): delivered[s.id]
        for s in sent.values()
        if s.name == "Accept" and s.id in delivered
    }
    for s in sent.values():
        if s.name == "Accepted":
            waited_us = s.at_us - accepts[s.sender, s.to, s.ballot, s.slot]
            assert waited_us >= 500, f"{s.text} of node {s.sender} left before its commit"


def test_events_are_in_order_and_about_known_nodes(recording: Recording) -> None:
    times = [event.at_us for event in recording.events]
    assert times == sorted(times)
    for event in recording.events:
        for name in ("node", "sender", "to"):
            node = getattr(event, name, None)
            assert node is None or node in recording.nodes
        if isinstance(event, Asked):
            assert event.client in recording.clients


def test_every_request_is_answered_and_every_fault_has_its_shade(recording: Recording) -> None:
    asked = [event.id for event in of(recording, Asked)]
    assert sorted(event.id for event in of(recording, Answered)) == asked
    crashed = [event.node for event in of(recording, Happened) if event.name == "crashed"]
    assert [event.nodes for event in of(recording, FaultBegan)] == [(node,) for node in crashed]
    assert {e.id for e in of(recording, FaultEnded)} <= {e.id for e in of(recording, FaultBegan)}


def test_a_slot_has_one_chosen_value(recording: Recording) -> None:
    chosen: dict[int, str] = {}
    for event in of(recording, SlotIs):
        assert event.state in ("accepted", "chosen", "applied")
        if event.state != "accepted":
            assert chosen.setdefault(event.slot, event.value) == event.value
    assert chosen


@pytest.mark.parametrize("seed", ["0", "1"])
def test_is_the_same_in_another_process(seed: str, recordings: dict[str, Recording]) -> None:
    script = (
        "from proof.simulation.lessons import LESSONS\n"
        "for name, lesson in LESSONS.items():\n"
        "    print(name, dict(lesson().facts)['trace digest'])\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    output = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=True, timeout=60
    ).stdout.decode()
    assert dict(line.split() for line in output.splitlines()) == {
        name: digest(recording) for name, recording in recordings.items()
    }


def test_is_told_whole(recording: Recording) -> None:
    text = tell(recording)
    flat = " ".join(text.split())
    for number, note in enumerate(of(recording, Note), start=1):
        about = "" if note.node is None else f"[node {note.node}] "
        assert f" {number}. {about}{note.text}" in flat
    # "1 -> 2, 3" stands for one message to each.
    arrows = re.findall(r"ms  (\d) -> ([\d, ]+)  (\w+)", text)
    told = Counter((int(a), int(b), name) for a, to, name in arrows for b in to.split(", "))
    assert told == Counter((s.sender, s.to, s.name) for s in of(recording, Sent))
    assert text.count("never arrives") == len(of(recording, Lost))
    assert recording.command in text


# -- what each one claims, seen from outside ------------------------------------------------------


def accepts(recording: Recording, ballot: str) -> set[str]:
    return {s.text for s in of(recording, Sent) if s.name == "Accept" and s.ballot == ballot}


def test_single_decree_shows_the_highest_accepted_ballot_win(
    recordings: dict[str, Recording],
) -> None:
    recording = recordings["single-decree"]
    reported = [s.text for s in of(recording, Sent) if s.name == "Promise" and s.ballot == "2.1"]
    assert [text.split(": ")[1] for text in reported] == ["1=red in 1.1", "1=blue in 1.5"]
    for ballot, value in {"1.1": "red", "1.5": "blue", "2.1": "blue", "3.5": "blue"}.items():
        assert accepts(recording, ballot) == {f"Accept {ballot} 1={value}, chosen through 0"}


def test_dueling_proposers_duel_until_they_back_off(recordings: dict[str, Recording]) -> None:
    recording = recordings["dueling-proposers"]
    happened = [e for e in of(recording, Happened) if e.name in ("preempted", "backs off")]
    first_wait = next(i for i, event in enumerate(happened) if event.name == "backs off")
    before = [event.node for event in happened[:first_wait]]
    assert before == [1, 5, 1, 5, 1], "they preempt each other in turns, without back-off"
    assert not of(recording, Lost), "no message is lost: the livelock is all theirs"
    preempted_us = happened[first_wait - 1].at_us
    assert all(s.at_us > preempted_us for s in of(recording, SlotIs)), "nothing was accepted"
    assert len(happened) == first_wait + 1, "and one back-off ends it"
    assert {s.value for s in of(recording, SlotIs)} == {"blue"}


def test_happy_path_has_one_phase_1_and_one_round_trip_per_write(
    recordings: dict[str, Recording],
) -> None:
    recording = recordings["happy-path"]
    sent = Counter(s.name for s in of(recording, Sent))
    assert (sent["Prepare"], sent["Promise"]) == (2, 2)
    assert (sent["Accept"], sent["Accepted"]) == (8, 8), "a no-op and three writes, two followers"
    assert "Accept 1.1 4=plum, chosen through 3" in tell(recording)


def test_leader_crash_answers_the_retry_as_the_first_time(recordings: dict[str, Recording]) -> None:
    recording = recordings["leader-crash"]
    assert [event.outcome for event in of(recording, Answered)] == ["unknown", "ok"]
    assert of(recording, Answered)[1].text == "done, in slot 3: revision 2"


def test_gap_fill_never_applies_the_value_that_lost(recordings: dict[str, Recording]) -> None:
    recording = recordings["gap-fill"]
    slot_2 = [(e.state, e.value) for e in of(recording, SlotIs) if e.slot == 2 and e.node == 1]
    assert slot_2 == [("accepted", "apple"), ("chosen", ""), ("applied", "")]


def test_flexible_quorum_writes_with_two_and_elects_with_three(
    recordings: dict[str, Recording],
) -> None:
    recording = recordings["flexible-quorum"]
    leaders = [event for event in of(recording, Happened) if event.name == "leader"]
    assert [event.node for event in leaders] == [1, 4]
    accepted = [s for s in of(recording, Sent) if s.name == "Accepted" and s.slot in (2, 3)]
    assert {s.sender for s in accepted if s.at_us < leaders[1].at_us} == {2}
    back = [e.at_us for e in of(recording, Happened) if e.node == 4 and e.name == "started"]
    assert leaders[1].at_us > back[-1], "nobody leads before a third node is up"


# -- a lesson that does not hold is refused -------------------------------------------------------

Break = Callable[[pytest.MonkeyPatch], None]


def lowest_value(patch: pytest.MonkeyPatch) -> None:
    """The value of the lowest ballot reported, in place of the highest."""

    def wrong(first_slot: int, entries: Any) -> list[tuple[int, bytes]]:
        return [(e.slot, e.value) for e in sorted(entries, key=lambda e: e.ballot)][:1]

    patch.setattr(paxos.synod, "safe_values", wrong)


def no_back_off(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SynodStage, "back_off", lambda _stage, _patience: None)


def never_again(patch: pytest.MonkeyPatch) -> None:
    """A proposer that waits, and never comes back."""
    patch.setattr(Election, "tick", lambda _election: False)


def deaf_followers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Learner, "follow", lambda *_: None)


def applied_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StateMachine, "_apply_once", lambda machine, once: machine._write(once.command))


def nothing_recovered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(paxos.proposer, "safe_values", lambda _first_slot, _entries: [])


def silent_promises(patch: pytest.MonkeyPatch) -> None:
    """Acceptors that promise and do not report."""
    patch.setattr(paxos.acceptor, "Promise", lambda b, first, _, n: m.Promise(b, first, (), n))


def careless_elections(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(QuorumSystem, "is_phase1", lambda _, nodes: len(nodes) >= 2)


def majorities(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(QuorumSystem, "is_phase2", lambda _, nodes: len(nodes) >= 3)


def forgotten_promise(patch: pytest.MonkeyPatch) -> None:
    """Acceptors that accept below what they promised."""
    keep = Acceptor.on_accept

    def on_accept(acceptor: Acceptor, sender: int, message: m.Accept) -> bool:
        acceptor.promised = Ballot(0, 0)
        return keep(acceptor, sender, message)

    patch.setattr(Acceptor, "on_accept", on_accept)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("single-decree", lowest_value),
        ("single-decree", silent_promises),
        ("dueling-proposers", no_back_off),
        ("dueling-proposers", never_again),
        ("dueling-proposers", forgotten_promise),
        ("happy-path", deaf_followers),
        ("leader-crash", applied_twice),
        ("leader-crash", nothing_recovered),
        ("gap-fill", nothing_recovered),
        ("flexible-quorum", careless_elections),
        ("flexible-quorum", majorities),
        ("flexible-quorum", silent_promises),
    ],
)
def test_a_lesson_notices_when_it_does_not_hold(
    name: str, fault: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    with pytest.raises(LessonError):
        LESSONS[name]()


def test_to_lose_what_is_not_on_its_way_is_an_error() -> None:
    stage = SynodStage({1: b"red"}, majority([2, 3, 4]))
    stage.prepare(1)
    with pytest.raises(LessonError, match="Accept on its way from 1 to 2"):
        stage.lose(m.Accept, 1, 2)
    with pytest.raises(LessonError, match="it did not come to this: red is chosen twice"):
        stage.run_until(lambda: len(stage.chosen) == 2, "red is chosen twice")
