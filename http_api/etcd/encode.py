"""JSON as etcd writes it: 64-bit numbers as strings, bytes in base64, defaults left out."""

import json
from binascii import b2a_base64
from typing import Any

import orjson

from kvstore.commands.operations import KeyValue


class Uint32(int):
    """A number that is written as one; all others become strings."""


def base64(data: bytes) -> str:
    """Standard base64 with padding."""
    return b2a_base64(data, newline=False).decode()


def document(**fields: Any) -> dict[str, Any]:
    """A message. Fields that are None, 0, False, "", b"" or [] are left out; an int becomes a
    string and bytes base64. Dicts, and the items of lists, must be finished themselves: an empty
    dict stays, as an empty message."""
    message: dict[str, Any] = {}
    for name, value in fields.items():
        if not value and not isinstance(value, dict):
            continue
        if isinstance(value, bytes):
            value = base64(value)
        elif isinstance(value, int) and not isinstance(value, bool | Uint32):
            value = str(value)
        message[name] = value
    return message


def key_value(item: KeyValue) -> dict[str, Any]:
    """mvccpb.KeyValue. Also fits what a deleted key leaves: its key and mod_revision."""
    message = {"key": base64(item.key)}
    if item.create_revision:
        message["create_revision"] = str(item.create_revision)
    message["mod_revision"] = str(item.mod_revision)
    if item.version:
        message["version"] = str(item.version)
    if item.value:
        message["value"] = base64(item.value)
    if item.lease:
        message["lease"] = str(item.lease)
    return message


def key_value_json(item: KeyValue) -> bytes:
    """`key_value` of a key that is there, as JSON in one step."""
    value, lease = item.value, item.lease
    rest = b',"value":"%b"' % b2a_base64(value, newline=False) if value else b""
    if lease:
        rest += b',"lease":"%d"' % lease
    return b'{"key":"%b","create_revision":"%d","mod_revision":"%d","version":"%d"%b}' % (
        b2a_base64(item.key, newline=False),
        item.create_revision,
        item.mod_revision,
        item.version,
        rest,
    )


def to_json(message: dict[str, Any]) -> bytes:
    """A finished message. orjson refuses what is nested deeper than 254, and answers to nested
    transactions may be: they have been applied, so they must be answered."""
    try:
        return orjson.dumps(message)
    except orjson.JSONEncodeError:
        return json.dumps(message, separators=(",", ":")).encode()
