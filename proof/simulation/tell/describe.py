"""Texts for people: what each message, record and value says, in one line.

The pictures, the stories, the lessons and the message traces of the tests all use these words.
"""

import msgspec

from kvstore.commands.batches import Bundle
from kvstore.commands.binary import decode_batch, decode_bundle
from kvstore.commands.commands import (
    Administer,
    AsUser,
    Command,
    Compact,
    Condition,
    Delete,
    Grant,
    Once,
    Put,
    Revoke,
)
from kvstore.commands.members import Reconfigure
from kvstore.commands.operations import Transaction
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

COMMANDS_MAX = 3
"""Of a batch this many commands are shown; the rest are counted."""

TEXT_MAX = 24
"""Keys and values are cut to this many characters."""


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


def value_text(value: bytes) -> str:
    """The value of a slot: a batch by its commands, plain text as it is, nothing as "no-op"."""
    if not value:
        return "no-op"
    try:
        batch = decode_batch(value)
        ended = f", and leases {_leases_text([*batch.expired])} end" if batch.expired else ""
        commands = _commands_text([decode_bundle(bundle) for bundle in batch.bundles])
        return f"batch of {commands}{ended}"
    except msgspec.DecodeError:
        return _text(value)


def _commands_text(bundles: list[Bundle]) -> str:
    commands = [command for bundle in bundles for command in bundle.commands]
    shown = ", ".join(command_text(command) for command in commands[:COMMANDS_MAX])
    more = ", …" if len(commands) > COMMANDS_MAX else ""
    colon = ": " if commands else ""
    return f"{len(commands)} command{'s' * (len(commands) != 1)}{colon}{shown}{more}"


def command_text(command: Command) -> str:
    """One command, shortened."""
    match command:
        case Reconfigure(change):
            return f"change of members: {change}"
        case Put(key, value, condition, lease):
            held = f" under lease {lease}" if lease else ""
            return f"put {_text(key)}={_text(value)}{held}{_condition_text(condition)}"
        case Delete(key, condition):
            return f"delete {_text(key)}{_condition_text(condition)}"
        case Compact(revision):
            return f"compact to revision {revision}"
        case Transaction(compares, success, failure):
            return (
                f"transaction: {len(compares)} compares, then {len(success)}, else {len(failure)}"
            )
        case Grant(lease, ttl_s):
            return f"grant lease {lease} for {ttl_s} s"
        case Revoke(lease):
            return f"revoke lease {lease}"
        case Administer(change):
            return f"administer: {type(change).__name__}"
        case AsUser(user, _, inner):
            return f"{command_text(inner)} (by {user or 'the cluster'})"
        case Once(idempotency_key, inner):
            return f"{command_text(inner)} (once, {_text(idempotency_key)})"


def _condition_text(condition: Condition | None) -> str:
    if condition is None:
        return ""
    if condition.mod_revision < 0:
        return " if it exists"
    if condition.mod_revision == 0:
        return " if it is absent"
    return f" if at revision {condition.mod_revision}"


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"({len(data)} bytes)"
    if not text.isprintable():
        return f"({len(data)} bytes)"
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"


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
            return f"LeaseAsk {number & 0xFFFFFFFF}: {_leases_text([lease for lease, _ in leases])}"
        case LeaseTold(number, leases):
            return f"LeaseTold {number & 0xFFFFFFFF}: about {len(leases)} leases"
    return repr(message)


def _leases_text(leases: list[int]) -> str:
    shown = ", ".join(map(str, leases[:COMMANDS_MAX]))
    return shown + (", …" if len(leases) > COMMANDS_MAX else "")


def _bundle_text(encoded: bytes) -> str:
    try:
        bundle = decode_bundle(encoded)
    except msgspec.DecodeError:
        return _text(encoded)
    return f"bundle {bundle.origin}/{bundle.starts}/{bundle.number}, {_commands_text([bundle])}"
