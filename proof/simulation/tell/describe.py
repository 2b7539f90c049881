"""Texts for people: what each message, record and value says, in one line.

The pictures, the stories, the lessons and the message traces of the tests all use these words.
"""

import msgspec

from kvstore.commands.binary import decode_bundle
from kvstore.commands.describe import (
    command_text,
    commands_text,
    leases_text,
    short_text,
    value_text,
)
from kvstore.peers.frames import (
    DigestAt,
    LeaseAsk,
    LeaseTold,
    PeerMessage,
    Relay,
    SnapshotAsk,
    SnapshotPiece,
)
from paxos.ballot import Slot
from paxos.messages import (
    Accept,
    Accepted,
    Chosen,
    Fetch,
    Fetched,
    HandOver,
    Heartbeat,
    HeartbeatReply,
    LogEntry,
    Nack,
    Prepare,
    PreVote,
    PreVoteReply,
    Promise,
    ReadIndex,
    ReadIndexReply,
    Truncated,
)

__all__ = ["command_text", "describe", "value_text"]


def describe(message: PeerMessage) -> str:
    """What crosses a link, in one line that begins with the message's name."""
    return _phase1_text(message) or _phase2_text(message) or _other_text(message)


def name_of(message: PeerMessage) -> str:
    """The kind of message: "Accept"."""
    return type(message).__name__


def slot_of(message: PeerMessage) -> Slot | None:
    """The one slot that the message is about, if it is about one."""
    slot: Slot | None = getattr(message, "slot", None)
    return slot


def ballot_of(message: PeerMessage) -> str | None:
    """The ballot that the message belongs to, as "round.node", if any."""
    ballot = getattr(message, "ballot", None)
    return None if ballot is None else str(ballot)


def describe_entries(entries: tuple[LogEntry, ...]) -> str:
    """Slots with their values and the ballots they were accepted in."""
    return ", ".join(f"{e.slot}={value_text(e.value)} in {e.ballot}" for e in entries) or "nothing"


def _phase1_text(message: PeerMessage) -> str:
    match message:
        case PreVote(ballot, first_slot):
            return f"PreVote {ballot} from slot {first_slot}"
        case PreVoteReply(ballot, granted, promised):
            return f"PreVoteReply {ballot} " + ("granted" if granted else f"refused ({promised})")
        case Prepare(ballot, first_slot):
            return f"Prepare {ballot} from slot {first_slot}"
        case Promise(ballot, first_slot, entries, next_slot):
            more = "" if next_slot is None else f", more from slot {next_slot}"
            return f"Promise {ballot} from slot {first_slot}: {describe_entries(entries)}{more}"
        case Nack(ballot, promised):
            return f"Nack {ballot}, promised {promised}"
        case HandOver(ballot):
            return f"HandOver {ballot}"
    return ""


def _phase2_text(message: PeerMessage) -> str:
    match message:
        case Accept(ballot, slot, value, through):
            return f"Accept {ballot} {slot}={value_text(value)}, chosen through {through}"
        case Accepted(ballot, slot):
            return f"Accepted {ballot} slot {slot}"
        case Chosen(ballot, through):
            return f"Chosen {ballot} through {through}"
        case Heartbeat(ballot, probe, through):
            return f"Heartbeat {ballot} probe {probe}, chosen through {through}"
        case HeartbeatReply(ballot, probe, through):
            return f"HeartbeatReply {ballot} probe {probe}, chosen through {through}"
    return ""


def _other_text(message: PeerMessage) -> str:
    match message:
        case ReadIndex(request):
            return f"ReadIndex {request & 0xFFFFFFFF}"
        case ReadIndexReply(request, slot):
            return f"ReadIndexReply {request & 0xFFFFFFFF}: slot {slot}"
        case Fetch(first_slot):
            return f"Fetch from slot {first_slot}"
        case Fetched(entries, through):
            return f"Fetched {describe_entries(entries)}; chosen through {through}"
        case Truncated(first_slot):
            return f"Truncated, the log begins at slot {first_slot}"
        case Relay(bundle):
            return f"Relay {_bundle_text(bundle)}"
        case DigestAt(slot, digest):
            return f"DigestAt slot {slot}: {digest.hex()[:8] or 'nothing written yet'}"
        case SnapshotAsk(snapshot, offset):
            return f"SnapshotAsk {snapshot or 'a new one'} from byte {offset}"
        case SnapshotPiece(snapshot, through, offset, size, _, data):
            return (
                f"SnapshotPiece {snapshot} through slot {through}: "
                f"bytes {offset} to {offset + len(data)} of {size}"
            )
        case LeaseAsk(number, leases):
            return f"LeaseAsk {number & 0xFFFFFFFF}: {leases_text([lease for lease, _ in leases])}"
        case LeaseTold(number, leases):
            return f"LeaseTold {number & 0xFFFFFFFF}: about {len(leases)} leases"
    return repr(message)


def _bundle_text(encoded: bytes) -> str:
    try:
        bundle = decode_bundle(encoded)
    except msgspec.DecodeError:
        return short_text(encoded)
    return f"bundle {bundle.origin}/{bundle.starts}/{bundle.number}, {commands_text([bundle])}"
