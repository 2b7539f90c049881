"""The flight recorder: what it keeps, what it forgets, and what it says of slots and leaders."""

from typing import Any

import pytest

from kvstore.commands.describe import DESCRIBED_MAX, describe_value
from kvstore.replica import recorder as recorder_module
from kvstore.replica.probe import Probe, TwoProbes
from kvstore.replica.recorder import Recorder
from paxos.ballot import Ballot
from paxos.marks import Marks
from paxos.messages import Accept, Accepted, HandOver, Heartbeat, HeartbeatReply, Prepare, Promise

B1, B2 = Ballot(1, 1), Ballot(2, 2)


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return int(1000 * self.now_s)


class Reached:
    chosen_through = 0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def recorder(clock: FakeClock) -> Recorder:
    made = Recorder(1, clock)
    made.node = Reached()
    return made


def state(digest: bytes = b"12345678abc") -> Any:
    class State:
        pass

    found: Any = State()
    found.digest = digest
    return found


def test_a_slot_goes_from_proposed_to_applied(recorder: Recorder, clock: FakeClock) -> None:
    def now() -> tuple[str, list[int]]:
        clock.now_s += 1
        (one,) = recorder.slots()
        return one.state, one.accepted_by

    accept = Accept(B1, 7, b"value", 6)
    recorder.proposed(accept)
    recorder.sent(2, accept)
    assert now() == ("proposed", [])
    recorder.received(3, Accepted(B1, 7))
    assert now() == ("accepted", [3])
    recorder.answered_itself(Accepted(B1, 7))
    recorder.node.chosen_through = 7
    assert now() == ("chosen", [1, 3])
    recorder.applied(state(), 7, b"value", [])
    assert now() == ("applied", [1, 3])
    (one,) = recorder.slots()
    assert (one.ballot, one.bytes, one.commands, one.no_op) == ("1.1", 5, 0, False)


def test_a_slot_shows_its_newest_ballot(recorder: Recorder) -> None:
    recorder.received(1, Accept(B1, 4, b"old", 3))
    recorder.sent(1, Accepted(B1, 4))
    recorder.received(2, Accept(B2, 4, b"newer", 3))
    (one,) = recorder.slots()
    assert (one.ballot, one.accepted_by, one.bytes) == ("2.2", [], 5)


def test_a_no_op_is_one(recorder: Recorder) -> None:
    recorder.applied(state(), 3, b"", [])
    assert recorder.slots()[0].no_op is True


def test_values_are_not_kept_and_the_rings_are_bounded(
    recorder: Recorder, clock: FakeClock
) -> None:
    for slot in range(1, recorder_module.BUSY_MAX + 100):
        recorder.sent(2, Accept(B1, slot, b"secret", slot - 1))
    clock.now_s += 1
    recorder.sent(2, Prepare(B2, 9))
    kept = list(recorder.everything())
    assert len(kept) == recorder_module.BUSY_MAX + 1
    assert b"secret" not in repr(kept).encode()
    assert kept[-1].what == "Prepare", "what is rare does not go with what is busy"
    assert recorder.of_slot(1) == []
    assert [one.number for one in recorder.of_slot(500)] == [6]


def test_the_round_trip_is_that_of_the_first_unanswered_heartbeat(
    recorder: Recorder, clock: FakeClock
) -> None:
    for _ in range(2):
        recorder.sent(2, Heartbeat(B1, 0, 5))
        clock.now_s += 0.05
    recorder.received(2, HeartbeatReply(B1, 0, 5))
    assert recorder.round_trips_s == {2: pytest.approx(0.1)}
    recorder.received(2, HeartbeatReply(B1, 0, 5))
    assert recorder.round_trips_s == {2: pytest.approx(0.05)}
    recorder.received(2, HeartbeatReply(B1, 0, 5))  # one that was not asked for here
    recorder.linked(2, False)
    assert recorder.round_trips_s == {}


def test_a_heartbeat_that_never_left_makes_no_later_round_trip_longer(
    recorder: Recorder, clock: FakeClock
) -> None:
    recorder.linked(2, True)
    recorder.sent(2, Heartbeat(B1, 0, 5))
    recorder.reached(2)
    clock.now_s += 0.05
    recorder.sent(2, Heartbeat(B1, 0, 5))
    clock.now_s += 0.01
    recorder.received(2, HeartbeatReply(B1, 0, 5))
    assert recorder.round_trips_s == {2: pytest.approx(0.01)}


def test_what_a_promise_holds_is_told(recorder: Recorder) -> None:
    from paxos.messages import LogEntry

    recorder.received(2, Promise(B2, 3, (LogEntry(3, B1, b"x"),), None))
    (one,) = recorder.everything()
    assert (one.what, one.ballot, one.slot, one.more) == ("Promise", B2, 3, "3@1.1")


# -- leaders ----------------------------------------------------------------------------------


def reasons(recorder: Recorder) -> list[str]:
    return [change.reason for change in recorder.changes]


def test_reasons_of_changes(recorder: Recorder, clock: FakeClock) -> None:
    recorder.leader_noticed(2, B2, 0)
    recorder.received(2, HandOver(B2))
    recorder.leader_noticed(1, Ballot(3, 1), 0)
    recorder.stepped_down(lost_quorum=True)
    recorder.leader_noticed(None, Ballot(3, 1), 0)
    clock.now_s += 60  # too long ago to be a reason
    recorder.leader_noticed(3, Ballot(4, 3), 0)
    recorder.linked(3, False)
    recorder.leader_noticed(2, Ballot(5, 2), 0)
    clock.now_s += 60
    recorder.leader_noticed(None, Ballot(5, 2), 0)
    recorder.leader_noticed(2, Ballot(6, 2), 0)
    assert reasons(recorder) == [
        "the first leader that this node knows of since its start",
        "node 2 handed leadership over to node 1",
        "node 1 could not reach a quorum",
        "node 3 took over from node 1 with ballot 4.3",
        "the link from node 3, which led, broke",
        "node 2 was not heard for an election time-out",
        "node 2 leads again, with ballot 6.2",
    ]
    assert [change.leader for change in recorder.changes] == [2, 1, None, 3, 2, None, 2]


# -- two probes -------------------------------------------------------------------------------


class Listening(Probe):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name in HEARD:
            return lambda *facts, **more: self.heard.append(name)
        return super().__getattribute__(name)


HEARD = {name for kind in (Marks, Probe) for name in vars(kind) if not name.startswith("_")}


def test_both_probes_hear_everything() -> None:
    first, second = Listening(), Listening()
    both = TwoProbes(first, second)
    for name in sorted(HEARD):
        getattr(both, name)()
    assert first.heard == second.heard == sorted(HEARD)
    assert {"received", "linked", "reached", "campaigning", "applied"} <= HEARD


# -- values -----------------------------------------------------------------------------------


def test_a_value_is_described_line_by_line() -> None:
    from kvstore.commands.accounts import AddUser
    from kvstore.commands.batches import Batch, Bundle
    from kvstore.commands.binary import encode
    from kvstore.commands.commands import Administer, Delete, Put

    commands = (Put(b"k", b"v"), *[Delete(b"d")] * DESCRIBED_MAX)
    bundle = encode(Bundle(1, 1, 1, 1, commands))
    lines = describe_value(encode(Batch(0, (bundle,), (9,))))
    assert lines[:2] == ["put k=v", "delete d"]
    assert len(lines) == DESCRIBED_MAX + 1 and lines[-1] == "and 2 more"
    assert describe_value(b"") == ["no-op"]
    assert describe_value(b"plain") == ["plain"]
    named = encode(Bundle(1, 1, 1, 1, (Administer(AddUser("name", None)),)))
    odd = encode(Batch(0, (named.replace(b"name", b"nam\xff"),), ()))
    assert len(describe_value(odd)) == 1
