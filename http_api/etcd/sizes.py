"""How large a message would be in etcd's own encoding (protobuf), which its limits are about."""

from enum import IntEnum
from functools import cache

import msgspec

from http_api.etcd.errors import RESOURCE_EXHAUSTED, EtcdError

REQUEST_BYTES_MAX = 1_572_864
"""Of a request that goes through the log."""
MESSAGE_BYTES_MAX = 2_097_152
"""Of any message."""

_LOG_HEADER_BYTES = 14
"""What etcd adds to a request before it looks at the size."""
_TWO_BYTE_TAGS = frozenset(("CompareMessage.range_end",))
"""Fields whose number is above 15."""


def message_bytes(message: msgspec.Struct) -> int:
    """The size of a message."""
    size = 0
    for name, tag_bytes in _fields(type(message)):
        value = getattr(message, name)
        for item in value if isinstance(value, list) else (value,):
            if item is not value or value:
                size += _value_bytes(item, tag_bytes)
    return size


def logged_bytes(message: msgspec.Struct) -> int:
    """The size of the log's entry with a message."""
    size = message_bytes(message)
    return _LOG_HEADER_BYTES + 1 + _varint_bytes(size) + size


@cache
def _fields(struct: type[msgspec.Struct]) -> tuple[tuple[str, int], ...]:
    names = (field.name for field in msgspec.structs.fields(struct))
    return tuple(
        (name, 2 if f"{struct.__name__}.{name}" in _TWO_BYTE_TAGS else 1) for name in names
    )


def _value_bytes(value: object, tag_bytes: int) -> int:
    match value:
        case bool() | IntEnum():
            return tag_bytes + 1
        case int():
            return tag_bytes + _varint_bytes(value & ((1 << 64) - 1))
        case bytes():
            size = len(value)
        case str():
            size = len(value.encode())
        case msgspec.Struct():
            size = message_bytes(value)
        case _:
            return 0
    return tag_bytes + _varint_bytes(size) + size


def _varint_bytes(number: int) -> int:
    return max(1, -(-number.bit_length() // 7))


def message_too_large(size: int) -> EtcdError:
    """The error for a message of `size` bytes, which is over MESSAGE_BYTES_MAX."""
    text = f"grpc: received message larger than max ({size} vs. {MESSAGE_BYTES_MAX})"
    return EtcdError(RESOURCE_EXHAUSTED, text)
