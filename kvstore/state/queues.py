"""The queues of locks and elections: which keys stand in the one of a name.

A place is a key NAME/LEASE, the lease in lower-case hexadecimal, put on a lease. Other keys may lie
below the same name, of another queue perhaps (NAME/OTHER/LEASE): nobody waits for those.
"""

from collections.abc import Iterator

from kvstore.commands.operations import Field, KeyValue
from kvstore.state.key_space import Keyspace
from kvstore.state.mvcc import field_of, key_value, lease_of

_MAX = 1 << 63
_DIGITS_MAX = 17
"""With a minus sign."""


def queue_range(name: bytes) -> tuple[bytes, bytes]:
    """Start and end of a range in which all places of a queue lie: what begins with NAME/."""
    return name + b"/", name + b"0"


def place_lease(name: bytes, key: bytes) -> int | None:
    """The lease in whose name a place of the queue was taken; None if a key is no place."""
    head = name + b"/"
    rest = key[len(head) :]
    if not key.startswith(head) or len(rest) > _DIGITS_MAX:
        return None
    try:
        lease = int(rest, 16)
    except ValueError:
        return None
    is_written_so = lease and f"{lease:x}".encode() == rest
    return lease if is_written_so and -_MAX <= lease < _MAX else None


def last_before(keyspace: Keyspace, name: bytes, revision: int) -> KeyValue | None:
    """The youngest place that was taken before `revision`, without its value."""
    youngest, found = 0, None
    for key, record in _places(keyspace, name):
        created = _created(record)
        if youngest < created < revision:
            youngest, found = created, key_value(key, record[:32])
    return found


def first_of(keyspace: Keyspace, name: bytes) -> KeyValue | None:
    """The oldest place: whose turn it is."""
    oldest: tuple[bytes, bytes] | None = None
    for key, record in _places(keyspace, name):
        if oldest is None or _created(record) < _created(oldest[1]):
            oldest = key, record
    return None if oldest is None else key_value(*oldest)


def _places(keyspace: Keyspace, name: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and records, in the order of keys. What lies deeper is passed over in one step."""
    head = name + b"/"
    start: bytes | None = head + b"-"
    end = head + b"g"
    while start is not None:
        begin, start = start, None
        for key, record in keyspace.mvcc.records(begin, end):
            below, deeper, _ = key[len(head) :].partition(b"/")
            if deeper:
                start = head + below + b"0"
                break
            if _counts(keyspace, name, key, record):
                yield key, record


def _created(record: bytes) -> int:
    return int(field_of(record, Field.CREATE))


def _counts(keyspace: Keyspace, name: bytes, key: bytes, record: bytes) -> bool:
    """A place that somebody has overwritten without its lease stays one while the lease in its
    name lasts: its holder does not know, and would not be alone."""
    lease = place_lease(name, key)
    if lease is None:
        return False
    return lease_of(record) != 0 or keyspace.leases.ttl_s(lease) is not None
