"""One time line for several nodes: their clocks are aligned by the causality of their messages.

A message is received after it was sent. If one goes from A to B and another back, the difference of
the two clocks lies between two bounds; half way between is where the fastest messages both ways
took equally long, as NTP assumes.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from proof.incidents.recordings import Incident, NodeRecording, RecordedEntry

Pair = tuple[int, int]


@dataclass(frozen=True)
class Passage:
    """One message that both ends recorded, at times of their own clocks, in seconds of the wall."""

    sender: int
    receiver: int
    sent: RecordedEntry
    received: RecordedEntry


def passages(incident: Incident) -> list[Passage]:
    """Messages that are surely the same at both ends: those that each end has once."""
    sent: dict[tuple[object, ...], list[RecordedEntry]] = defaultdict(list)
    received: dict[tuple[object, ...], list[RecordedEntry]] = defaultdict(list)
    for node, recording in incident.nodes.items():
        for entry in recording.entries:
            if entry.name == "sent":
                sent[node, entry.peer, *entry.key].append(entry)
            elif entry.name == "received":
                received[entry.peer, node, *entry.key].append(entry)
    found = []
    for key, ends in sent.items():
        arrived = received.get(key, [])
        if len(ends) == len(arrived) == 1:
            sender, receiver = key[0], key[1]
            assert isinstance(sender, int) and isinstance(receiver, int)
            found.append(Passage(sender, receiver, ends[0], arrived[0]))
    return found


def offsets_s(incident: Incident, known: Iterable[Passage]) -> dict[int, float]:
    """What to add to each node's wall time; 0 for the lowest node, and for one that nothing ties to
    the others."""
    fastest: dict[Pair, float] = {}
    for one in known:
        took_s = _wall(incident.nodes[one.receiver], one.received) - _wall(
            incident.nodes[one.sender], one.sent
        )
        pair = one.sender, one.receiver
        fastest[pair] = min(took_s, fastest.get(pair, took_s))
    found: dict[int, float] = {}
    for root in sorted(incident.nodes):
        if root in found:
            continue
        found[root] = 0.0
        waiting = [root]
        while waiting:
            node = waiting.pop()
            for other in sorted(incident.nodes):
                ahead_s = _ahead_s(fastest, node, other)
                if other not in found and ahead_s is not None:
                    found[other] = found[node] - ahead_s
                    waiting.append(other)
    return found


def _ahead_s(fastest: dict[Pair, float], node: int, other: int) -> float | None:
    """By how much the clock of `other` is ahead of `node`'s; None if no message tells."""
    there, back = fastest.get((node, other)), fastest.get((other, node))
    if there is not None and back is not None:
        return (there - back) / 2
    if there is not None:
        return min(0.0, there)
    return None if back is None else max(0.0, -back)


def _wall(recording: NodeRecording, entry: RecordedEntry) -> float:
    return recording.wall_s(entry.at_s)
