"""Commands: what clients ask of the store, replicated and then applied on every node.

What applying one answers is in `kvstore.commands.results`; how commands travel together, in
`kvstore.commands.batches`; their encoding, in `kvstore.commands.binary`.
"""

import msgspec

from kvstore.commands.accounts import AuthChange
from kvstore.commands.members import Reconfigure
from kvstore.commands.operations import Transaction

KEY_BYTES_MAX = 960
"""Keys are at most this long: LMDB 1.0 takes 1,978 bytes, of which tables that order keys by
something else take a part."""

VALUE_BYTES_MAX = 1 << 20
"""Values are at most 1 MiB."""

IDEMPOTENCY_KEY_BYTES_MAX = 128


class Condition(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What must hold of the key for the write to happen.

    `mod_revision` >= 1: its current modification revision is this; 0: it does not exist;
    -1: it exists.
    """

    mod_revision: int


EXISTS = Condition(-1)
ABSENT = Condition(0)


class Put(msgspec.Struct, frozen=True, array_like=True, tag="p", gc=False):
    """Store `value` (0 to VALUE_BYTES_MAX bytes) under `key` (1 to KEY_BYTES_MAX bytes).

    `lease` (0: none) deletes the key when it ends. With `ttl_s` the lease is granted along with
    the put, and its id must be new.
    """

    key: bytes
    value: bytes
    condition: Condition | None = None
    lease: int = 0
    ttl_s: int = 0


class Delete(msgspec.Struct, frozen=True, array_like=True, tag="d", gc=False):
    """Delete `key`; deleting what is not there succeeds and takes no revision."""

    key: bytes
    condition: Condition | None = None


class Compact(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """Drop history: afterwards no revision below `revision` is readable."""

    revision: int


class Grant(msgspec.Struct, frozen=True, array_like=True, tag="g"):
    """Begin lease `lease` (not 0), which lasts `ttl_s` seconds unless it is kept alive."""

    lease: int
    ttl_s: int


class Revoke(msgspec.Struct, frozen=True, array_like=True, tag="v"):
    """End a lease now: its keys are deleted, all in one revision."""

    lease: int


StoreCommand = Put | Delete | Compact | Transaction | Grant | Revoke
"""What changes keys, leases or history."""


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
    command: Put | Delete | Compact | Transaction | Grant | Revoke | Once | Administer | Reconfigure


Command = (
    Put | Delete | Compact | Transaction | Grant | Revoke | Once | Administer | Reconfigure | AsUser
)
