"""Commands and results: what is replicated, and its binary form (msgpack by msgspec).

A *bundle* is what one node gathers while a proposal is under way: the unit of relaying, retrying
and de-duplication. A *batch* is the value of one slot: the leader's clock and the bundles it took.
Nothing is done per command that can be done per bundle.
"""

from collections.abc import Callable

import msgspec

from kvstore.commands.accounts import AuthChange
from kvstore.commands.operations import Transaction, TransactionDone
from kvstore.errors import Reason
from paxos.ballot import ZERO, Ballot, Slot

KEY_BYTES_MAX = 960
"""Keys are at most this long: LMDB 1.0 takes 1,978 bytes, and a key whose every byte needs
escaping doubles in the index of old versions (`kvstore.state.mvcc.version_key`)."""

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
    """Write `value` (0 to VALUE_BYTES_MAX bytes) under `key` (1 to KEY_BYTES_MAX bytes).

    `lease` (0: none) removes the key when it ends. With `ttl_s` the lease is granted along with
    the write, and its id must be new.
    """

    key: bytes
    value: bytes
    condition: Condition | None = None
    lease: int = 0
    ttl_s: int = 0


class Delete(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """Remove `key`; deleting what is not there succeeds and takes no revision."""

    key: bytes
    condition: Condition | None = None


class Compact(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """Give up history: afterwards no revision below `revision` is readable."""

    revision: int


class Grant(msgspec.Struct, frozen=True, array_like=True, tag="g"):
    """Begin lease `lease` (not 0), which lasts `ttl_s` seconds unless it is kept alive."""

    lease: int
    ttl_s: int


class Revoke(msgspec.Struct, frozen=True, array_like=True, tag="v"):
    """End a lease now: its keys are deleted, all in one revision."""

    lease: int


StoreCommand = Put | Delete | Compact | Transaction | Grant | Revoke


class Once(msgspec.Struct, frozen=True, array_like=True, tag="o"):
    """Apply `command` at most once for this idempotency key, and answer alike each time.

    The answer is kept for `ttl_ms` of the log's clock; it travels with the command, because all
    replicas must forget it at the same slot.
    """

    idempotency_key: bytes
    command: StoreCommand
    ttl_ms: int = 600_000


class Administer(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    """Change users, roles, or whether they count."""

    change: AuthChange


class AsUser(msgspec.Struct, frozen=True, array_like=True, tag="u"):
    """Apply `command` if `user`, who was authenticated at `auth_revision`, may do it then.

    The user "" is the cluster itself, which may do everything; no client is ever given that name.
    """

    user: str
    auth_revision: int
    command: Put | Delete | Compact | Transaction | Grant | Revoke | Once | Administer


Command = Put | Delete | Compact | Transaction | Grant | Revoke | Once | Administer | AsUser


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


class Granted(msgspec.Struct, frozen=True, array_like=True, tag="g"):
    """A Grant: the lease and its duration. `revision` is the store's; a grant takes none."""

    revision: int
    lease: int
    ttl_s: int


class Revoked(msgspec.Struct, frozen=True, array_like=True, tag="v"):
    """A Revoke: the store's revision, and how many keys went."""

    revision: int
    deleted: int


class NoLease(msgspec.Struct, frozen=True, array_like=True, tag="N"):
    """There is no such lease; nothing changed."""

    lease: int


class LeaseTaken(msgspec.Struct, frozen=True, array_like=True, tag="L"):
    """A Grant of a lease that is there already; nothing changed."""

    lease: int


class NoKey(msgspec.Struct, frozen=True, array_like=True, tag="K"):
    """A write that keeps the value or the lease of a key that does not exist; nothing changed."""


class Administered(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    """An Administer: the revision of users and roles now."""

    auth_revision: int


class AuthRefused(msgspec.Struct, frozen=True, array_like=True, tag="A"):
    """The user may not do that, or such a change cannot be; nothing changed."""

    reason: Reason


Result = (
    Written
    | Deleted
    | Compacted
    | TransactionDone
    | Granted
    | Revoked
    | NotHeld
    | BadRevision
    | Mismatched
    | NoLease
    | LeaseTaken
    | NoKey
    | Administered
    | AuthRefused
)


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
    """The value of one slot: encoded bundles, and the leader's clock in ms since 1970.

    `expired` are leases whose time is up, as the leader of `ballot` sees it. They are its own
    words, like the clock, and not a command: a command might be relayed to the next leader, and end
    a lease that this one has just promised its full time. For the same reason they count for
    nothing once a batch of a higher ballot has been applied (see `kvstore.replica.leasing`).
    Leases granted after slot `known_through` are not meant either: one of the same id may have been
    revoked and granted again while this batch was under way. None: all are meant.
    """

    clock_ms: int
    bundles: tuple[bytes, ...]
    expired: tuple[int, ...] = ()
    ballot: Ballot = ZERO
    known_through: Slot | None = None


encoder = msgspec.msgpack.Encoder()
decode_batch: Callable[[bytes], Batch] = msgspec.msgpack.Decoder(Batch).decode
decode_bundle: Callable[[bytes], Bundle] = msgspec.msgpack.Decoder(Bundle).decode
decode_result: Callable[[bytes], Result] = msgspec.msgpack.Decoder(Result).decode


def encode(message: Bundle | Batch | Result | Command) -> bytes:
    """The binary form that the decoders of this module read back."""
    return encoder.encode(message)
