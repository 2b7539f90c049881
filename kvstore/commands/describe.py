"""Texts for people: what a value of the log, or a command, says in one line.

The dashboard, the pictures, the stories and the message traces of the tests use these words.
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

COMMANDS_MAX = 3
"""Of a batch this many commands are shown; the rest are counted."""

DESCRIBED_MAX = 200
"""Where each command has a line of its own, so many have."""

TEXT_MAX = 24
"""Keys and values are cut to this many characters."""


def value_text(value: bytes) -> str:
    """The value of a slot: a batch by its commands, plain text as it is, nothing as "no-op"."""
    if not value:
        return "no-op"
    try:
        batch = decode_batch(value)
        ended = f", and leases {leases_text([*batch.expired])} end" if batch.expired else ""
        commands = commands_text([decode_bundle(bundle) for bundle in batch.bundles])
        return f"batch of {commands}{ended}"
    except (msgspec.DecodeError, ValueError, RecursionError):
        return short_text(value)


def describe_value(value: bytes) -> list[str]:
    """One line for each command of a slot's value; what is no batch, or nothing, in one line."""
    try:
        batch = decode_batch(value) if value else None
        if batch is None:
            return ["no-op"]
        bundles = [decode_bundle(bundle) for bundle in batch.bundles]
    except (msgspec.DecodeError, ValueError, RecursionError):
        return [short_text(value)]
    lines = [command_text(command) for bundle in bundles for command in bundle.commands]
    if batch.expired:
        lines.append(f"leases end: {leases_text([*batch.expired])}")
    hidden = len(lines) - DESCRIBED_MAX
    return [*lines[:DESCRIBED_MAX], *([f"and {hidden} more"] if hidden > 0 else [])]


def commands_text(bundles: list[Bundle]) -> str:
    """How many commands, and the first of them."""
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
            return f"put {short_text(key)}={short_text(value)}{held}{_condition_text(condition)}"
        case Delete(key, condition):
            return f"delete {short_text(key)}{_condition_text(condition)}"
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
            return f"{command_text(inner)} (once, {short_text(idempotency_key)})"


def _condition_text(condition: Condition | None) -> str:
    if condition is None:
        return ""
    if condition.mod_revision < 0:
        return " if it exists"
    if condition.mod_revision == 0:
        return " if it is absent"
    return f" if at revision {condition.mod_revision}"


def short_text(data: bytes) -> str:
    """At most TEXT_MAX characters; what is no text by its length."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"({len(data)} bytes)"
    if not text.isprintable():
        return f"({len(data)} bytes)"
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"


def leases_text(leases: list[int]) -> str:
    """The first of them."""
    shown = ", ".join(map(str, leases[:COMMANDS_MAX]))
    return shown + (", …" if len(leases) > COMMANDS_MAX else "")
