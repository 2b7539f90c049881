"""Commands and results: what is replicated, and its binary form (msgpack by msgspec).

A *bundle* is what one node gathers while a proposal is under way: the unit of relaying, retrying
and de-duplication. A *batch* is the value of one slot: the leader's clock and the bundles it took.
Nothing is done per command that can be done per bundle.
"""

from collections.abc import Callable

import msgspec

KEY_BYTES_MAX = 960
"""Keys are at most this long: LMDB 1.0 takes 1,978 bytes, and a key whose every byte needs
escaping doubles in the index of old versions (`kvstore.mvcc.version_key`)."""

VALUE_BYTES_MAX = 1 << 20
"""Values are at most 1 MiB."""

IDEMPOTENCY_KEY_BYTES_MAX = 128


class Condition(msgspec.Struct, frozen=True, array_like=True):
    """What must hold of the key for the write to happen.

    `mod_revision` >= 1: its current modification revision is this; 0: it does not exist;
    -1: it exists.
    """

    mod_revision: int


EXISTS = Condition(-1)
ABSENT = Condition(0)


class Put(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """Write `value` (0 to VALUE_BYTES_MAX bytes) under `key` (1 to KEY_BYTES_MAX bytes)."""

    key: bytes
    value: bytes
    condition: Condition | None = None


class Delete(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """Remove `key`; deleting what is not there succeeds and takes no revision."""

    key: bytes
    condition: Condition | None = None


class Compact(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """Give up history: afterwards no revision below `revision` is readable."""

    revision: int


Write = Put | Delete | Compact


class Once(msgspec.Struct, frozen=True, array_like=True, tag="o"):
    """Apply `command` at most once for this idempotency key, and answer alike each time.

    The answer is kept for `ttl_ms` of the log's clock; it travels with the command, because all
    replicas must forget it at the same slot.
    """

    idempotency_key: bytes
    command: Write
    ttl_ms: int = 600_000


Command = Put | Delete | Compact | Once


class Written(msgspec.Struct, frozen=True, array_like=True, tag="w"):
    """A Put: the store's revision and the key's new version, its create revision."""

    revision: int
    version: int
    create_revision: int


class Deleted(msgspec.Struct, frozen=True, array_like=True, tag="x"):
    """A Delete: the store's revision, and how many keys went (0 or 1)."""

    revision: int
    deleted: int


class Compacted(msgspec.Struct, frozen=True, array_like=True, tag="k"):
    """A Compact: the oldest readable revision now."""

    revision: int


class NotHeld(msgspec.Struct, frozen=True, array_like=True, tag="n"):
    """The condition did not hold; nothing changed. The key's mod revision, 0 if absent."""

    mod_revision: int


class BadRevision(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """A Compact outside of (compacted, current]; nothing changed."""

    revision: int
    compacted_revision: int
    current_revision: int


class Mismatched(msgspec.Struct, frozen=True, array_like=True, tag="m"):
    """The idempotency key belongs to another command; nothing changed."""


Result = Written | Deleted | Compacted | NotHeld | BadRevision | Mismatched


class Bundle(msgspec.Struct, frozen=True, array_like=True):
    """Commands of one node, applied together, once.

    `origin` and `life` name the node's process, `number` counts its bundles from 1. No bundle of
    this life below `floor` will be sent again, so replicas may forget those numbers.
    """

    origin: int
    life: int
    number: int
    floor: int
    commands: tuple[Command, ...]


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """The value of one slot: encoded bundles, and the leader's clock in ms since 1970."""

    clock_ms: int
    bundles: tuple[bytes, ...]


encoder = msgspec.msgpack.Encoder()
decode_batch: Callable[[bytes], Batch] = msgspec.msgpack.Decoder(Batch).decode
decode_bundle: Callable[[bytes], Bundle] = msgspec.msgpack.Decoder(Bundle).decode
decode_result: Callable[[bytes], Result] = msgspec.msgpack.Decoder(Result).decode


def encode(message: Bundle | Batch | Result | Command) -> bytes:
    """The binary form that the decoders of this module read back."""
    return encoder.encode(message)
