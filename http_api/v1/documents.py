"""Keys, values and items in JSON: strings where they are UTF-8, base64 in a second field else.

What a request holds is described by typed structs, which decode and validate in one step; what
they cannot say, such as that one of two fields must be there, is checked here.
"""

import base64
import binascii
import re
import secrets
from collections.abc import Iterable
from hashlib import blake2b
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from kvstore.commands.commands import KEY_BYTES_MAX, VALUE_BYTES_MAX
from kvstore.commands.operations import KeyValue, only, prefix_end
from kvstore.errors import Contradiction, InvalidArgument
from kvstore.state.mvcc import KeyEvent

LEASE_MAX = (1 << 63) - 1
LOWEST_KEY = b"\0"
LEASE_PATTERN = "^-?[0-9]{1,19}$"
Revision = Annotated[int, Meta(ge=0, le=LEASE_MAX)]
Text = str | None
Base64 = Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})] | None
LeaseIdText = (
    Annotated[str, Meta(pattern=LEASE_PATTERN)] | Annotated[int, Meta(ge=-LEASE_MAX, le=LEASE_MAX)]
)
"""A lease as a request names it: a string, because JSON's numbers end at 2**53 in many clients."""

_LEASE = re.compile(LEASE_PATTERN)


# -- bytes in requests ----------------------------------------------------------------------


def octets(name: str, text: str | None, encoded: str | None) -> bytes | None:
    """The bytes that `name` or `name_base64` gives; None if neither does."""
    if encoded is None:
        return None if text is None else text.encode()
    if text is not None:
        raise Contradiction(f"send {name} or {name}_base64, not both")
    try:
        return binascii.a2b_base64(encoded, strict_mode=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument(
            f"{name}_base64", f"{name}_base64: expected standard base64, got {encoded[:40]!r}"
        ) from None


def checked_key(key: bytes | None) -> bytes:
    """A key of a length that can be."""
    if not key:
        raise InvalidArgument("key", f"key: missing or empty; keys have 1 to {KEY_BYTES_MAX} bytes")
    return bounded("key", key)


def checked_value(value: bytes) -> bytes:
    """A value of a length that can be."""
    if len(value) > VALUE_BYTES_MAX:
        raise InvalidArgument(
            "value", f"value: {len(value)} bytes; at most {VALUE_BYTES_MAX} are accepted"
        )
    return value


def bounded(name: str, key: bytes) -> bytes:
    """A key, or a bound of a range, of a length that the tables can look up."""
    if len(key) > KEY_BYTES_MAX + (name != "key"):
        raise InvalidArgument(
            name, f"{name}: {len(key)} bytes; keys have 1 to {KEY_BYTES_MAX} bytes"
        )
    return key


class KeyRange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One key, all keys with a prefix, or start <= key < end."""

    key: Text = None
    key_base64: Base64 = None
    prefix: Text = None
    prefix_base64: Base64 = None
    start: Text = None
    start_base64: Base64 = None
    end: Text = None
    end_base64: Base64 = None

    def bounds(self) -> tuple[bytes, bytes | None]:
        """Start and end; no end is None."""
        key = octets("key", self.key, self.key_base64)
        prefix = octets("prefix", self.prefix, self.prefix_base64)
        start = octets("start", self.start, self.start_base64)
        end = octets("end", self.end, self.end_base64)
        return bounds(key, prefix, start, end)


def bounds(
    key: bytes | None, prefix: bytes | None, start: bytes | None, end: bytes | None
) -> tuple[bytes, bytes | None]:
    """The range that exactly one of key, prefix, and start with or without end gives.

    It begins with the lowest key, never with the empty one, which no right can name.
    """
    if sum((key is not None, prefix is not None, start is not None or end is not None)) != 1:
        raise Contradiction(
            "name the keys by one of: key; prefix (empty for all); start, end or both"
        )
    if key is not None:
        return checked_key(key), only(key)
    if prefix is not None:
        return bounded("prefix", prefix) or LOWEST_KEY, prefix_end(prefix)
    start = bounded("start", start or b"")
    if end is not None and bounded("end", end) <= start:
        raise Contradiction("the range is empty: end must be greater than start")
    return start or LOWEST_KEY, end


# -- leases ---------------------------------------------------------------------------------


def lease_id(value: str | int, parameter: str = "lease") -> int:
    """A lease's id: a 64-bit number except 0."""
    text = str(value)
    number = int(text) if _LEASE.fullmatch(text) else 0
    if not 0 < abs(number) <= LEASE_MAX:
        raise InvalidArgument(
            parameter, f"{parameter}: expected the id of a lease, a number, got {text[:40]!r}"
        )
    return number


def new_lease(once: bytes | None, *parts: bytes) -> int:
    """An id for a lease that the caller did not name: random, or, for a request with an
    idempotency key, the same whenever that request is sent again."""
    if once is None:
        return secrets.randbelow(LEASE_MAX) + 1
    digest = blake2b(digest_size=8)
    for part in (once, *parts):
        digest.update(b"%d:" % len(part) + part)
    return int.from_bytes(digest.digest(), "big") >> 1 or 1


# -- answers --------------------------------------------------------------------------------


def text_or_base64(name: str, data: bytes) -> tuple[str, str]:
    """`name` and the text where it is UTF-8, else `name_base64` and standard base64."""
    try:
        return name, data.decode()
    except UnicodeDecodeError:
        return f"{name}_base64", base64.b64encode(data).decode()


def item_document(item: KeyValue, keys_only: bool = False, key: bool = True) -> dict[str, Any]:
    """One key and its value; `lease` only if it has one."""
    document: dict[str, Any] = {}
    if key:
        name, text = text_or_base64("key", item.key)
        document[name] = text
    if not keys_only:
        name, text = text_or_base64("value", item.value)
        document[name] = text
    document["create_revision"] = item.create_revision
    document["mod_revision"] = item.mod_revision
    document["version"] = item.version
    if item.lease:
        document["lease"] = str(item.lease)
    return document


def event_document(event: KeyEvent, previous: bool, key: bool = True) -> dict[str, Any]:
    """One write or deletion."""
    document: dict[str, Any] = {"type": "delete" if event.deleted else "put"}
    if not event.deleted:
        document |= item_document(event.item, key=key)
    else:
        if key:
            name, text = text_or_base64("key", event.item.key)
            document[name] = text
        document["mod_revision"] = event.item.mod_revision
    if previous and event.previous is not None:
        document["previous"] = item_document(event.previous)
    return document


# -- their description ----------------------------------------------------------------------

INTEGER = {"type": "integer"}
TEXT = {"type": "string"}
BASE64 = {"type": "string", "contentEncoding": "base64"}
KEY_PROPERTIES: dict[str, Any] = {"key": TEXT, "key_base64": BASE64}
ITEM: dict[str, Any] = {
    "type": "object",
    "description": "key or key_base64, and, unless keys_only, value or value_base64: the second "
    "form where the bytes are not UTF-8.",
    "properties": {
        **KEY_PROPERTIES,
        "value": TEXT,
        "value_base64": BASE64,
        "create_revision": INTEGER,
        "mod_revision": INTEGER,
        "version": INTEGER,
        "lease": {"type": "string", "description": "The lease that it ends with, if any"},
    },
    "required": ["create_revision", "mod_revision", "version"],
    "additionalProperties": False,
}


def request_schemas(types: Iterable[Any]) -> dict[str, Any]:
    """JSON schemas of request structs, by name, for `#/components/schemas`."""
    _, found = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    return found
