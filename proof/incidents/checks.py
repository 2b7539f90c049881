"""The protocol's invariants, checked on what real nodes recorded.

As in the simulation (`proof.simulation.judge.invariants`), as far as a recording shows them: it has
no values, only what their states' digests were, and only the last part of what happened. What a
ring has forgotten proves nothing, so each check looks only at what both of its facts show.

==================  ====================================================================
agreement           two nodes that applied the same slot have the same state after it
order               each node applies slot after slot
one proposer        a ballot's values are proposed by its node, one for each slot
promise             who promised a ballot accepts nothing in a lower one
memory              a promise reports every acceptance of the slots that it was asked for
quorum              a leader applies its slot only after a quorum accepted it
==================  ====================================================================
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from proof.incidents.recordings import Incident, NodeRecording, RecordedEntry

REPORTED_MAX = 32
"""A recording names so many of a promise's entries."""
PER_CHECK_MAX = 5

BallotNumber = tuple[int, int]


class BrokenInvariant(NamedTuple):
    """An invariant that does not hold, in which slot (0: in none), and what shows it."""

    invariant: str
    slot: int
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


def check(incident: Incident) -> list[BrokenInvariant]:
    """Everything that is broken, up to PER_CHECK_MAX of each kind for each node."""
    found = list(_first(_agreement(incident)))
    for recording in incident.nodes.values():
        for checked in (_order, _one_proposer, _promise, _memory, _quorum):
            found += _first(checked(recording))
    return found


def _first(found: Iterator[BrokenInvariant]) -> Iterator[BrokenInvariant]:
    for _, one in zip(range(PER_CHECK_MAX), found, strict=False):
        yield one


def number(ballot: str | None) -> BallotNumber:
    """Ballots compare as numbers, not as texts."""
    round_, _, node = (ballot or "0.0").partition(".")
    return int(round_), int(node)


def _agreement(incident: Incident) -> Iterator[BrokenInvariant]:
    states: dict[int, tuple[int, str]] = {}
    for node, recording in incident.nodes.items():
        for entry in recording.entries:
            if entry.name != "applied":
                continue
            other, digest = states.setdefault(entry.slot, (node, entry.more))
            if digest != entry.more:
                yield BrokenInvariant(
                    "agreement",
                    entry.slot,
                    f"after slot {entry.slot} the state of node {other} is {digest}, that of node "
                    f"{node} is {entry.more}",
                )


def _order(recording: NodeRecording) -> Iterator[BrokenInvariant]:
    last = None
    for entry in recording.entries:
        if entry.name in ("snapshot", "opened"):
            last = None
        elif entry.name == "applied":
            if last is not None and entry.slot != last + 1:
                text = f"node {recording.node} applied slot {entry.slot} after slot {last}"
                yield BrokenInvariant("order", entry.slot, text)
            last = entry.slot


def _one_proposer(recording: NodeRecording) -> Iterator[BrokenInvariant]:
    sizes: dict[tuple[int, str | None], int] = {}
    for entry in recording.entries:
        if entry.name != "proposed":
            continue
        if number(entry.ballot)[1] != recording.node:
            text = f"node {recording.node} proposed in ballot {entry.ballot}, which is not its own"
            yield BrokenInvariant("one proposer", entry.slot, text)
        size = sizes.setdefault((entry.slot, entry.ballot), entry.number)
        if size != entry.number:
            text = (
                f"node {recording.node} proposed two values for slot {entry.slot} in ballot "
                f"{entry.ballot}: of {size} and of {entry.number} bytes"
            )
            yield BrokenInvariant("one proposer", entry.slot, text)


def _answers(recording: NodeRecording) -> Iterator[RecordedEntry]:
    """What its acceptor answered, to others and to itself, in order."""
    return (entry for entry in recording.entries if entry.name in ("sent", "own"))


def _promise(recording: NodeRecording) -> Iterator[BrokenInvariant]:
    promised: BallotNumber = (0, 0)
    for entry in _answers(recording):
        if entry.what == "Promise":
            promised = max(promised, number(entry.ballot))
        elif entry.what == "Accepted" and number(entry.ballot) < promised:
            text = (
                f"node {recording.node} accepted slot {entry.slot} in ballot {entry.ballot} after "
                f"it had promised {promised[0]}.{promised[1]}"
            )
            yield BrokenInvariant("promise", entry.slot, text)


def _memory(recording: NodeRecording) -> Iterator[BrokenInvariant]:
    accepted: dict[int, BallotNumber] = {}
    for entry in _answers(recording):
        if entry.what == "Accepted":
            accepted[entry.slot] = max(number(entry.ballot), accepted.get(entry.slot, (0, 0)))
        elif entry.what == "Promise" and entry.number <= REPORTED_MAX:
            told, before = _reported(entry.more)
            for slot, ballot in accepted.items():
                if entry.slot <= slot < before and told.get(slot, (0, 0)) < ballot:
                    text = (
                        f"node {recording.node} promised {entry.ballot} from slot {entry.slot} on "
                        f"and did not report that it had accepted slot {slot} in "
                        f"{ballot[0]}.{ballot[1]}"
                    )
                    yield BrokenInvariant("memory", slot, text)


def _reported(text: str) -> tuple[dict[int, BallotNumber], float]:
    """The slots of a promise and their ballots, and the slot before which it reports."""
    told: dict[int, BallotNumber] = {}
    before = math.inf
    for part in text.split():
        if part.startswith("<"):
            before = int(part[1:])
        else:
            slot, _, ballot = part.partition("@")
            told[int(slot)] = number(ballot)
    return told, before


def _quorum(recording: NodeRecording) -> Iterator[BrokenInvariant]:
    voters: dict[tuple[int, str | None], set[int]] = {}
    proposed: dict[int, str | None] = {}
    for entry in recording.entries:
        if entry.name == "proposed":
            proposed[entry.slot] = entry.ballot
            voters[entry.slot, entry.ballot] = set()
        elif entry.what == "Accepted" and entry.name in ("own", "received"):
            voter = recording.node if entry.name == "own" else entry.peer
            voters.get((entry.slot, entry.ballot), set()).add(voter)
        elif (
            entry.what in ("Fetched", "Chosen", "Heartbeat", "Accept") and entry.name == "received"
        ):
            # Another leader knows what is chosen: this one's own votes need not.
            proposed.clear()
        elif entry.name == "applied" and entry.slot in proposed:
            ballot = proposed.pop(entry.slot)
            have = voters.pop((entry.slot, ballot))
            if len(have) < recording.quorum:
                text = (
                    f"node {recording.node} applied slot {entry.slot} of its ballot {ballot} when "
                    f"{len(have)} of the {recording.quorum} nodes needed had accepted it"
                )
                yield BrokenInvariant("quorum", entry.slot, text)
