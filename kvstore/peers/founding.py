"""What founders must agree on, as text: it is compared in handshakes and kept on disk."""

from paxos.configuration import DISTANCE, Configuration
from paxos.quorum import QuorumSystem


def founding_text(first: Configuration | None) -> str:
    """Members, quorum sizes and distance: two founders that differ here could choose two values."""
    if first is None:
        return ""
    quorums = first.quorums
    members = ",".join(map(str, sorted(quorums.members)))
    text = f"{members}/{quorums.phase1}/{quorums.phase2}"
    return text if first.distance == DISTANCE else f"{text}/{first.distance}"


def founding_of(text: str) -> Configuration | None:
    """What `founding_text` wrote."""
    if not text:
        return None
    members, phase1, phase2, *distance = text.split("/")
    quorums = QuorumSystem(frozenset(map(int, members.split(","))), int(phase1), int(phase2))
    return Configuration(1, quorums, int(distance[0]) if distance else DISTANCE)
