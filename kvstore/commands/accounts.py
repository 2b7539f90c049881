"""Changes of users, roles and permissions, as they are replicated (the command `Administer`).

A user has roles, a role has permissions, a permission is a right on a range of keys. The role
`root` allows everything, and only users who have it may change any of this.
"""

from enum import IntEnum, StrEnum

import msgspec

ROOT = "root"
NAME_BYTES_MAX = 256
"""Of users and roles; their names are keys of a table."""


class Right(IntEnum):
    """What a permission allows."""

    READ = 0
    WRITE = 1
    READ_WRITE = 2


class Scope(StrEnum):
    """What a role may allow besides keys."""

    CLUSTER = "cluster"
    """See and change who the members are, hand leadership over, compact, see flight recorders."""
    BACKUP = "backup"
    """Take copies of the whole state."""
    USERS = "users"
    """Change users and roles, but not scopes, nor root, nor any role or user with a scope."""
    WATCH = "watch"
    """Watch every key, whether or not it may be read."""
    METRICS = "metrics"
    """See metrics, and the status of nodes and of the cluster."""


class Permission(msgspec.Struct, frozen=True, array_like=True):
    """A right on a range, as etcd writes it: `range_end` b"" is the one key, b"\\0" no end."""

    right: Right
    key: bytes
    range_end: bytes = b""

    @property
    def place(self) -> tuple[bytes, bytes]:
        """A role has at most one permission for each."""
        return self.key, self.range_end


class Enable(msgspec.Struct, frozen=True, array_like=True, tag="on"):
    """`secret` (random, of the node that asks) signs tokens until authentication is disabled."""

    secret: bytes


class Disable(msgspec.Struct, frozen=True, array_like=True, tag="off"):
    """Everybody may do everything, and all tokens are void."""


class RotateSecret(msgspec.Struct, frozen=True, array_like=True, tag="s="):
    """`secret` (random) signs tokens from now on: all that were issued before are void."""

    secret: bytes


class AddUser(msgspec.Struct, frozen=True, array_like=True, tag="u+"):
    name: str
    password: bytes | None


class DeleteUser(msgspec.Struct, frozen=True, array_like=True, tag="u-"):
    name: str


class ChangePassword(msgspec.Struct, frozen=True, array_like=True, tag="u="):
    """All that was issued to the user before is void."""

    name: str
    password: bytes


class LogOut(msgspec.Struct, frozen=True, array_like=True, tag="u!"):
    """The user's tokens are void; the password stays what it is."""

    name: str


class GrantRole(msgspec.Struct, frozen=True, array_like=True, tag="ur+"):
    user: str
    role: str


class RevokeRole(msgspec.Struct, frozen=True, array_like=True, tag="ur-"):
    user: str
    role: str


class AddRole(msgspec.Struct, frozen=True, array_like=True, tag="r+"):
    name: str


class DeleteRole(msgspec.Struct, frozen=True, array_like=True, tag="r-"):
    """Its users lose it."""

    name: str


class GrantPermission(msgspec.Struct, frozen=True, array_like=True, tag="rp+"):
    """Replaces what the role had for the same key and range end."""

    role: str
    permission: Permission


class RevokePermission(msgspec.Struct, frozen=True, array_like=True, tag="rp-"):
    role: str
    key: bytes
    range_end: bytes


class GrantScope(msgspec.Struct, frozen=True, array_like=True, tag="rs+"):
    role: str
    scope: Scope


class RevokeScope(msgspec.Struct, frozen=True, array_like=True, tag="rs-"):
    role: str
    scope: Scope


AuthChange = (
    Enable
    | Disable
    | RotateSecret
    | AddUser
    | DeleteUser
    | ChangePassword
    | LogOut
    | GrantRole
    | RevokeRole
    | AddRole
    | DeleteRole
    | GrantPermission
    | RevokePermission
    | GrantScope
    | RevokeScope
)
