"""An incident as a trace, for the page that draws simulated runs."""

from collections.abc import Iterator, Sequence

import msgspec

from proof.incidents.alignment import Passage
from proof.incidents.checks import BrokenInvariant
from proof.incidents.recordings import Incident, RecordedEntry
from proof.incidents.story import Line
from proof.simulation.tell.trace import (
    Delivered,
    Happened,
    Lost,
    Note,
    Recording,
    Sent,
    SlotIs,
    TraceEvent,
)

EVENTS_MAX = 6_000
"""The newest of what is drawn: more would be slow to look at."""
LEFT_OUT = {"Heartbeat", "HeartbeatReply", "ReadIndex", "ReadIndexReply", "Relay", "DigestAt"}
STATES = {
    "opened": "started",
    "campaigns": "candidate",
    "leads": "leader",
    "stepped down": "follower",
}


def picture(
    incident: Incident,
    offsets_s: dict[int, float],
    known: Sequence[Passage],
    lines: Sequence[Line],
    broken: Sequence[BrokenInvariant],
    name: str,
) -> Recording:
    """Everything that is drawn, on one time line that begins at 0."""
    timed = sorted(_timed(incident, offsets_s, known, lines), key=lambda pair: pair[0])[
        -EVENTS_MAX:
    ]
    begin_s = timed[0][0] if timed else 0.0
    events = [_at(event, max(0, round(1e6 * (at_s - begin_s)))) for at_s, event in timed]
    sent = {event.id for event in events if isinstance(event, Sent)}
    events = [e for e in events if not isinstance(e, Delivered | Lost) or e.id in sent]
    verdict = "; ".join(map(str, broken)) or "every invariant that a recording shows holds"
    facts = [("verdict", verdict)]
    facts += [(f"node {node} is missing", why) for node, why in incident.missing.items()]
    facts += [(f"clock of node {n}", f"{1e3 * s:+.2f} ms") for n, s in sorted(offsets_s.items())]
    return Recording(
        title=f"Incident {name}",
        summary="What real nodes recorded, their clocks aligned by their messages. Heartbeats and "
        "reads are left out; a message whose other end is not recorded is drawn as lost.",
        command=f"kvstore incident show {name}",
        nodes=tuple(sorted({*incident.nodes, *incident.missing})),
        clients=(),
        facts=tuple(facts),
        events=tuple(events),
    )


def _at(event: TraceEvent, at_us: int) -> TraceEvent:
    return msgspec.structs.replace(event, at_us=at_us)


def _timed(
    incident: Incident,
    offsets_s: dict[int, float],
    known: Sequence[Passage],
    lines: Sequence[Line],
) -> Iterator[tuple[float, TraceEvent]]:
    numbers = {id(one.sent): number for number, one in enumerate(known, 1)}
    arrivals = {id(one.received): number for number, one in enumerate(known, 1)}
    free = len(known) + 1
    for node, recording in incident.nodes.items():
        for entry in recording.entries:
            at_s = recording.wall_s(entry.at_s) + offsets_s[node]
            if entry.what in LEFT_OUT:
                continue
            if entry.name == "sent":
                number = numbers.get(id(entry))
                yield at_s, _sent(node, entry, free if number is None else number)
                if number is None:
                    yield at_s, Lost(0, free, "its other end is not in the recording")
                    free += 1
            elif (number := arrivals.get(id(entry))) is not None:
                yield at_s, Delivered(0, number)
            else:
                yield from ((at_s, event) for event in _other(node, entry))
    for line in lines:
        yield line.at_s, Note(0, line.text, line.node)


def _sent(node: int, entry: RecordedEntry, number: int) -> Sent:
    slot = entry.slot or None
    about = f" slot {entry.slot}" if slot else ""
    text = f"{entry.what} {entry.ballot or ''}{about}".strip()
    return Sent(0, number, node, entry.peer, entry.what, text, slot, entry.ballot)


def _other(node: int, entry: RecordedEntry) -> Iterator[TraceEvent]:
    if entry.name in STATES:
        yield Happened(0, node, STATES[entry.name], entry.what)
    elif entry.name == "own" and entry.what == "Accepted":
        yield SlotIs(0, node, entry.slot, "accepted", entry.ballot or "", "a value")
    elif entry.name == "applied":
        value = "" if entry.what == "no-op" else f"{entry.number} commands"
        yield SlotIs(0, node, entry.slot, "applied", "", value)
    elif entry.name == "event":
        yield Happened(0, node, entry.what, entry.more)
