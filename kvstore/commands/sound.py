"""What every command must fulfil before it is proposed, whoever asks for it.

The doors for clients check more, and word it for clients; the session that they all use asks here
too. So does a leader for what a peer relays: once chosen, a key that the tables cannot hold stops
the checkpoints of every replica for good. It is one function, because a leader drops the link on
which it gets what is not sound. Failing schedule otherwise: a door lets in what is refused here,
and any client can cut a follower off.
"""

from collections.abc import Iterator

from kvstore.commands.accounts import (
    NAME_BYTES_MAX,
    AddRole,
    AddUser,
    AuthChange,
    ChangePassword,
    DeleteRole,
    DeleteUser,
    GrantPermission,
    GrantRole,
    Permission,
    RevokePermission,
    RevokeRole,
)
from kvstore.commands.commands import (
    IDEMPOTENCY_KEY_BYTES_MAX,
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    Administer,
    AsUser,
    Command,
    Compact,
    Delete,
    Grant,
    Once,
    Put,
    Revoke,
)
from kvstore.commands.members import (
    ADDRESS_BYTES_MAX,
    MEMBER_NAME_BYTES_MAX,
    MEMBERS_MAX,
    TOKEN_HASH_BYTES,
    AddMember,
    BindMember,
    IssueToken,
    MemberChange,
    Reconfigure,
    RevokeToken,
    SetConfiguration,
    UpdateMember,
)
from kvstore.commands.operations import Select, Transaction, TxnDelete, TxnOperation, TxnPut

NUMBER_MIN, NUMBER_MAX = -(1 << 63), (1 << 63) - 1
"""Of revisions, leases and seconds; so they are kept."""
BOUND_BYTES_MAX = KEY_BYTES_MAX + 1
"""Of the ends of ranges: one byte beyond the longest key."""
ONCE_BYTES_MAX = IDEMPOTENCY_KEY_BYTES_MAX + 32
"""Of an idempotency key; a door may number the parts of a request behind the client's key."""
INCARNATION_BYTES_MAX = 64
NESTING_MAX = 129
"""128 operations that are each a transaction within the one before, and the last of them empty."""


class UnsoundCommand(ValueError):
    """No door for clients lets such a command in."""


def is_sound(command: Command) -> bool:
    """Whether `check_sound` lets it pass; for a put without anything special it costs little."""
    if (
        isinstance(command, Put)
        and command.lease == command.ttl_s == 0
        and 0 < len(command.key) <= KEY_BYTES_MAX
        and len(command.value) <= VALUE_BYTES_MAX
    ):
        return True
    try:
        check_sound(command)
    except UnsoundCommand:
        return False
    return True


def check_sound(command: Command) -> None:
    """Raises UnsoundCommand, which says what is wrong."""
    match command:
        case Put():
            _check_write(command.key, command.value)
            _check_number("a lease", command.lease)
            _check_number("a time to live", command.ttl_s)
        case Delete():
            _check_key(command.key)
        case Compact(number) | Revoke(number):
            _check_number("a revision or lease", number)
        case Grant():
            _check_number("a lease", command.lease)
            _check_number("a time to live", command.ttl_s)
        case Transaction():
            _check_transaction(command, NESTING_MAX)
        case Once():
            _check_size("an idempotency key", command.idempotency_key, ONCE_BYTES_MAX)
            _check_number("a time to live", command.ttl_ms)
            check_sound(command.command)
        case Administer():
            for what, text in _texts(command.change):
                longest = NAME_BYTES_MAX if what == "a name" else BOUND_BYTES_MAX
                _check_size(what, text, longest, 0)
        case Reconfigure(change, _, founding):
            for what, text, longest in _member_texts(change):
                _check_size(what, text, longest, 0)
            for number in _member_numbers(change):
                _check_number("a member, a size or a time", number)
            if founding is not None and not 1 <= len(founding.members) <= MEMBERS_MAX:
                raise UnsoundCommand(f"a cluster founded by {len(founding.members)} members")
        case AsUser():
            _check_size("a name", command.user.encode(), NAME_BYTES_MAX, 0)
            check_sound(command.command)


def _check_size(what: str, data: bytes, longest: int, shortest: int = 1) -> None:
    if not shortest <= len(data) <= longest:
        raise UnsoundCommand(f"{what} of {len(data)} bytes; it has {shortest} to {longest}")


def _check_number(what: str, number: int) -> None:
    if not NUMBER_MIN <= number <= NUMBER_MAX:
        raise UnsoundCommand(f"{what} of {number}")


def _check_key(key: bytes) -> None:
    _check_size("a key", key, KEY_BYTES_MAX)


def _check_write(key: bytes, value: bytes | None) -> None:
    _check_key(key)
    _check_size("a value", value or b"", 4 * VALUE_BYTES_MAX, 0)


def _check_range(start: bytes, end: bytes | None) -> None:
    _check_size("the start of a range", start, BOUND_BYTES_MAX, 0)
    _check_size("the end of a range", end or b"", BOUND_BYTES_MAX, 0)


def _check_transaction(transaction: Transaction, nesting: int) -> None:
    if nesting == 0:
        raise UnsoundCommand(f"a transaction nested more than {NESTING_MAX} deep")
    for compare in transaction.compares:
        _check_range(compare.start, compare.end)
    for operation in (*transaction.success, *transaction.failure):
        _check_operation(operation, nesting)


def _check_operation(operation: TxnOperation, nesting: int) -> None:
    match operation:
        case TxnPut():
            _check_write(operation.key, operation.value)
            _check_number("a lease", operation.lease or 0)
        case TxnDelete() | Select():
            _check_range(operation.start, operation.end)
        case Transaction():
            _check_transaction(operation, nesting - 1)


def _texts(change: AuthChange) -> Iterator[tuple[str, bytes]]:
    """What of a change is kept as a key, or inside of one."""
    match change:
        case AddUser() | DeleteUser() | ChangePassword() | AddRole() | DeleteRole():
            yield "a name", change.name.encode()
        case GrantRole() | RevokeRole():
            yield "a name", change.user.encode()
            yield "a name", change.role.encode()
        case GrantPermission():
            yield "a name", change.role.encode()
            yield from _permission_texts(change.permission)
        case RevokePermission():
            yield "a name", change.role.encode()


def _permission_texts(permission: Permission) -> Iterator[tuple[str, bytes]]:
    yield "the bound of a permission", permission.key
    yield "the bound of a permission", permission.range_end


def _member_texts(change: MemberChange) -> Iterator[tuple[str, bytes, int]]:
    """What of a change of members is kept, and how long it may be."""
    match change:
        case AddMember(new, token):
            yield "a name", new.name.encode(), MEMBER_NAME_BYTES_MAX
            yield "an incarnation", new.incarnation.encode(), INCARNATION_BYTES_MAX
            for address in (new.peer_address, new.client_address):
                yield "an address", address.encode(), ADDRESS_BYTES_MAX
            yield "a token", token, TOKEN_HASH_BYTES
        case BindMember(_, incarnation, peer_address, client_address):
            yield "an incarnation", incarnation.encode(), INCARNATION_BYTES_MAX
            for address in (peer_address, client_address):
                yield "an address", address.encode(), ADDRESS_BYTES_MAX
        case UpdateMember(_, name, peer_address, client_address):
            yield "a name", name.encode(), MEMBER_NAME_BYTES_MAX
            for address in (peer_address, client_address):
                yield "an address", address.encode(), ADDRESS_BYTES_MAX
        case IssueToken(token) | RevokeToken(token):
            yield "a token", token, TOKEN_HASH_BYTES


def _member_numbers(change: MemberChange) -> Iterator[int]:
    match change:
        case AddMember(new):
            yield new.replaces
        case SetConfiguration(voters, learners, phase1, phase2):
            if len(voters) + len(learners) > MEMBERS_MAX:
                raise UnsoundCommand(f"{len(voters)} voters and {len(learners)} learners")
            yield from (*voters, *learners, phase1, phase2)
        case IssueToken(_, expires_ms, uses):
            yield from (expires_ms, uses)
        case RevokeToken():
            pass
        case BindMember(id) | UpdateMember(id):
            yield id
