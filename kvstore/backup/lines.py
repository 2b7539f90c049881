"""JSON lines: keys and leases as text that people and other programs read and write.

One object a line. A key: `key` or `key_base64`, `value` or `value_base64` (the second form where
the bytes are not UTF-8), and if they were asked for `create_revision`, `mod_revision`, `version`,
and `lease`, a number as text. A lease: `lease` and `ttl_s`, and no key. `kvstore list --json`
writes such lines, too.
"""

import base64
import binascii
from typing import Any

import msgspec

from kvstore.client import Entry
from kvstore.errors import BackupError

LINE_BYTES_MAX = 8 << 20


class LineRecord(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One line as it is read."""

    key: str | None = None
    key_base64: str | None = None
    value: str | None = None
    value_base64: str | None = None
    create_revision: int | None = None
    mod_revision: int | None = None
    version: int | None = None
    lease: str | None = None
    ttl_s: int | None = None


class KeyLine(msgspec.Struct, frozen=True):
    """A key to be put; `lease` 0 for none."""

    key: bytes
    value: bytes
    lease: int = 0


class LeaseLine(msgspec.Struct, frozen=True):
    """A lease to be granted."""

    lease: int
    ttl_s: int


Line = KeyLine | LeaseLine

_decode = msgspec.json.Decoder(LineRecord).decode
_encode = msgspec.json.Encoder().encode


def named_bytes(name: str, octets: bytes) -> dict[str, str]:
    """A field `name` if the bytes are UTF-8, otherwise `name_base64`."""
    try:
        return {name: octets.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(octets).decode()}


def key_line(entry: Entry, *, revisions: bool, leases: bool) -> bytes:
    """The line of a key, with its end."""
    document: dict[str, Any] = named_bytes("key", entry.key) | named_bytes("value", entry.value)
    if revisions:
        document["create_revision"] = entry.create_revision
        document["mod_revision"] = entry.mod_revision
        document["version"] = entry.version
    if leases and entry.lease:
        document["lease"] = str(entry.lease)
    return _encode(document) + b"\n"


def lease_line(lease: int, ttl_s: int) -> bytes:
    """The line of a lease, with its end."""
    return _encode({"lease": str(lease), "ttl_s": ttl_s}) + b"\n"


def parse_line(line: bytes, number: int, leases: bool) -> Line | None:
    """What line `number` says; None if it is blank, or of a lease and `leases` are not wanted, and
    then keys are on none. Raises BackupError."""
    if not line.strip():
        return None
    try:
        record = _decode(line)
        if record.ttl_s is not None:
            if record.lease is None or record.key is not None or record.key_base64 is not None:
                raise ValueError("with ttl_s it is a lease, which has a number and no key")
            return LeaseLine(int(record.lease), record.ttl_s) if leases else None
        key = _octets("key", record.key, record.key_base64)
        value = _octets("value", record.value, record.value_base64)
        if not key:
            raise ValueError("the key is empty")
        return KeyLine(key, value, int(record.lease or 0) if leases else 0)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BackupError(f"line {number}: {error}") from None


def _octets(name: str, text: str | None, encoded: str | None) -> bytes:
    """Raises ValueError."""
    if (text is None) == (encoded is None):
        raise ValueError(f"there must be {name} or {name}_base64, and not both")
    if text is not None:
        return text.encode()
    try:
        return binascii.a2b_base64(encoded or "", strict_mode=True)
    except binascii.Error as error:
        raise ValueError(f"{name}_base64 is not base64: {error}") from None
