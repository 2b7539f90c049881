"""An incident in words: what is rare, on one time line, and where nothing went on."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from proof.incidents.recordings import Incident, NodeRecording, RecordedEntry

STALL_S = 1.0
"""So long without a slot, between two that were applied while something was proposed."""
LINES_MAX = 200
QUIET = {"started", "formed"}


class Line(NamedTuple):
    """One sentence. `at_s`: of the wall clock, aligned."""

    at_s: float
    node: int
    text: str

    def __str__(self) -> str:
        stamp = datetime.fromtimestamp(self.at_s, UTC).strftime("%H:%M:%S.%f")[:-3]
        return f"{stamp}  {f'node {self.node}':<8} {self.text}"


def story(incident: Incident, offsets_s: dict[int, float]) -> list[Line]:
    """In the order of time; the last LINES_MAX."""
    lines = [
        Line(recording.wall_s(at_s) + offsets_s[node], node, text)
        for node, recording in incident.nodes.items()
        for at_s, text in (*_told(recording), *_stalls(recording))
    ]
    return sorted(lines)[-LINES_MAX:]


def _told(recording: NodeRecording) -> Iterator[tuple[float, str]]:
    for entry in recording.entries:
        text = _text(entry)
        if text:
            yield entry.at_s, text


def _text(entry: RecordedEntry) -> str:
    match entry.name:
        case "opened":
            return f"starts, with its {entry.what}"
        case "campaigns":
            return f"stands for election with ballot {entry.ballot}: asks for promises"
        case "rivalled":
            return f"meets a rival, node {entry.peer}, while it asks for promises itself"
        case "preempted":
            return f"is refused: somebody promised more than its ballot {entry.ballot}"
        case "leads":
            return f"has a quorum of promises and leads from slot {entry.slot} on: {entry.what}"
        case "stepped down":
            return f"leads no longer: {entry.what}"
        case "leader" if entry.peer:
            return f"follows node {entry.peer} with ballot {entry.ballot}: {entry.what}"
        case "leader":
            return f"knows no leader: {entry.what}"
        case "link":
            return f"its link from node {entry.peer} is {entry.what}"
        case "snapshot":
            return f"takes a snapshot through slot {entry.slot}"
        case "event" if entry.what not in (*QUIET, "leader elected", "leader lost"):
            return f"{entry.what}{': ' if entry.more else ''}{entry.more}"
        case "sent" if entry.what == "HandOver":
            return f"hands leadership over to node {entry.peer}"
        case "sent" if entry.what in ("Promise", "Nack"):
            return f"{entry.what.lower()}s node {entry.peer}: ballot {entry.ballot}" + (
                f", {entry.more}" if entry.more else ""
            )
    return ""


def _stalls(recording: NodeRecording) -> Iterator[tuple[float, str]]:
    """Times in which slots were proposed or accepted, and none was applied."""
    since: RecordedEntry | None = None
    waiting: RecordedEntry | None = None
    for entry in recording.entries:
        if entry.name == "applied":
            if waiting is not None and entry.at_s - waiting.at_s > STALL_S:
                took_s = entry.at_s - waiting.at_s
                after = "" if since is None else f" after slot {since.slot}"
                yield (
                    entry.at_s,
                    f"goes on with slot {entry.slot}: stood still for {took_s:.1f} s{after}",
                )
            since, waiting = entry, None
        elif waiting is None and (entry.name == "proposed" or entry.what == "Accept"):
            waiting = entry
