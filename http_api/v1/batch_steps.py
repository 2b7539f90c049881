"""What the body of a batch says: its operations, as steps to run."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from http_api.core.bodies import ELEMENTS_MAX, parse_json
from http_api.v1.documents import (
    LEASE_MAX,
    Base64,
    LeaseIdText,
    Revision,
    Text,
    checked_key,
    checked_value,
    lease_id,
    new_lease,
    octets,
)
from kvstore.commands.commands import ABSENT, EXISTS, Condition, Delete, Put
from kvstore.errors import Contradiction, KvError, Malformed, TooManyOperations
from kvstore.state.lease_table import LEASE_TTL_S_MAX, LEASE_TTL_S_MIN

OPERATIONS_MAX = 1000
OPERATIONS_PER_SLICE = 128
"""So many are judged or answered before the loop does everything else."""
BYTES_PER_SLICE = 256 << 10
"""And so many bytes of them are read."""
OPERATION_BYTES = BYTES_PER_SLICE // OPERATIONS_PER_SLICE
"""What it costs to read one, besides its bytes."""


class _Conditional(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """At most one of the conditions."""

    key: Text = None
    key_base64: Base64 = None
    if_revision: Annotated[int, Meta(ge=1, le=LEASE_MAX)] | None = None
    if_absent: bool = False
    if_exists: bool = False

    def condition(self) -> Condition | None:
        if self.if_revision is None and not self.if_absent and not self.if_exists:
            return None
        if (self.if_revision is not None) + self.if_absent + self.if_exists > 1:
            raise Contradiction("send one of if_revision, if_absent and if_exists")
        if self.if_revision is not None:
            return Condition(self.if_revision)
        if self.if_absent:
            return ABSENT
        return EXISTS

    def name(self) -> bytes:
        return checked_key(octets("key", self.key, self.key_base64))


class BatchPut(_Conditional, kw_only=True, forbid_unknown_fields=True):
    """Like PUT of one key."""

    value: Text = None
    value_base64: Base64 = None
    lease: LeaseIdText | None = None
    ttl_s: Annotated[int, Meta(ge=1, le=LEASE_TTL_S_MAX)] | None = None


class BatchDelete(_Conditional, kw_only=True, forbid_unknown_fields=True):
    """Like DELETE of one key."""


class BatchGet(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Like GET of one key."""

    key: Text = None
    key_base64: Base64 = None
    revision: Revision = 0


class BatchOperation(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Exactly one of them."""

    put: BatchPut | None = None
    get: BatchGet | None = None
    delete: BatchDelete | None = None


_decode_array = msgspec.json.Decoder(list[BatchOperation]).decode
_decode_lines = msgspec.json.Decoder(BatchOperation).decode_lines


class ReadStep(msgspec.Struct):
    """A read, as the batch runs it."""

    key: bytes
    revision: int


class FailedStep(msgspec.Struct):
    """An operation that cannot be."""

    error: KvError
    key: None = None


Step = ReadStep | Put | Delete | FailedStep
Rest = Callable[[], Awaitable[None]]
"""Lets the loop do everything else (`Session.rest`)."""


async def steps(body: bytes, lines: bool, once: bytes | None, rest: Rest) -> list[Step]:
    """What the operations say, found in slices; one that cannot be has its error in its place.

    Raises Malformed, InvalidArgument or TooManyOperations if the body as a whole cannot be.
    """
    if lines and body.count(b"\n") + body.count(b"\r") > ELEMENTS_MAX:
        raise TooManyOperations(OPERATIONS_MAX)
    operations = _sound_operations(body, lines)
    if operations is None:
        return await _long_steps(body, lines, once, rest)
    if len(operations) > OPERATIONS_MAX:
        raise TooManyOperations(OPERATIONS_MAX)
    found: list[Step] = []
    for at, operation in enumerate(operations):
        await between(at, rest)
        try:
            found.append(_step(operation, at, once))
        except KvError as error:
            found.append(FailedStep(error))
    return found


def _sound_operations(body: bytes, lines: bool) -> list[BatchOperation] | None:
    """All of them, decoded in one step; None if that would take long, or if anything is wrong with
    the form of one."""
    if len(body) > BYTES_PER_SLICE:
        return None
    try:
        return _decode_lines(body) if lines else _decode_array(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


async def _long_steps(body: bytes, lines: bool, once: bytes | None, rest: Rest) -> list[Step]:
    """`steps` of a body whose operations are decoded one by one; it says which cannot be."""
    if lines:
        pieces: Sequence[bytes | msgspec.Raw] = [b for b in body.splitlines() if b.strip()]
    else:
        pieces = parse_json(list[msgspec.Raw], body)
    if len(pieces) > OPERATIONS_MAX:
        raise TooManyOperations(OPERATIONS_MAX)
    found: list[Step] = []
    since = 0
    for at, piece in enumerate(map(bytes, pieces)):
        since += OPERATION_BYTES + len(piece)
        if since >= BYTES_PER_SLICE:
            since = 0
            await rest()
        try:
            operation = parse_json(BatchOperation, piece, f"operation {at}")
            found.append(_step(operation, at, once))
        except Malformed:
            raise
        except KvError as error:
            found.append(FailedStep(error))
    return found


async def between(at: int, rest: Rest) -> None:
    """Before operation `at`: the loop goes on between two slices."""
    if at and at % OPERATIONS_PER_SLICE == 0:
        await rest()


def _step(operation: BatchOperation, at: int, once: bytes | None) -> Step:
    put, get, delete = operation.put, operation.get, operation.delete
    if (put is not None) + (get is not None) + (delete is not None) != 1:
        raise Contradiction("an operation is exactly one of put, get and delete")
    if get is not None:
        return ReadStep(checked_key(octets("key", get.key, get.key_base64)), get.revision)
    if delete is not None:
        return Delete(delete.name(), delete.condition())
    assert put is not None
    value = octets("value", put.value, put.value_base64)
    if value is None:
        raise Contradiction("a put has a value or a value_base64")
    key, value = put.name(), checked_value(value)
    if put.ttl_s is None:
        lease = 0 if put.lease is None else lease_id(put.lease)
        return Put(key, value, put.condition(), lease)
    if put.lease is not None:
        raise Contradiction("a put has a lease or a ttl_s, not both")
    lease = new_lease(once, b"%d" % at, key, value)
    return Put(key, value, put.condition(), lease, max(put.ttl_s, LEASE_TTL_S_MIN))


def waves(found: list[Step]) -> Iterator[range]:
    """Cut the batch so that, within a wave, no key that is written appears twice."""
    begin = 0
    written: set[bytes] = set()
    read: set[bytes] = set()
    for at, step in enumerate(found):
        key = step.key
        if key is None:
            continue
        reads = isinstance(step, ReadStep)
        if key in written or (not reads and key in read):
            yield range(begin, at)
            begin, written, read = at, set(), set()
        (read if reads else written).add(key)
    if begin < len(found):
        yield range(begin, len(found))
