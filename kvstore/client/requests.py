"""How keys, conditions and ranges are written in the API's paths, headers, queries and JSON."""

import base64
import secrets
from typing import Any
from urllib.parse import quote

from kvstore.client.results import Selection
from kvstore.errors import InvalidArgument

Pairs = tuple[tuple[str, str], ...]
IDEMPOTENCY_KEY = "Idempotency-Key"


def octets(content: str | bytes, name: str) -> bytes:
    """Text is encoded as UTF-8. Nothing but text and bytes is taken, of which `bytes()` would make
    something else: so many zeros of a number. Raises TypeError, and InvalidArgument for text that
    is none (lone surrogates); both name the parameter.
    """
    if isinstance(content, str):
        try:
            return content.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(name, f"{name}: not text that UTF-8 has: {error}") from None
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    raise TypeError(f"{name}: expected str or bytes, got {type(content).__name__}")


def whole(number: int, name: str) -> int:
    """A whole number as it is. Raises TypeError for anything else, True and False included."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{name}: expected int, got {type(number).__name__}")
    return number


def key_target(key: str | bytes) -> str:
    """The path of a key. Raises InvalidArgument for the empty one."""
    name = octets(key, "key")
    if not name:
        raise InvalidArgument("key", "key: must not be empty")
    encoded = quote(name, safe="")
    # "." and ".." as a path segment would be resolved away.
    return "/v1/kv/" + (encoded.replace(".", "%2E") if name in (b".", b"..") else encoded)


def once_header() -> Pairs:
    """A new idempotency key: the same on all attempts of one request."""
    return ((IDEMPOTENCY_KEY, secrets.token_hex(16)),)


def write_headers(if_revision: int | None, if_absent: bool, if_exists: bool) -> Pairs:
    """The conditions of a write, and its idempotency key. Raises InvalidArgument."""
    headers = once_header()
    if (if_revision is not None) + if_absent + if_exists > 1:
        raise InvalidArgument("condition", "give at most one of if_revision, if_absent, if_exists")
    if if_revision is not None:
        if whole(if_revision, "if_revision") < 1:
            raise InvalidArgument("if_revision", "if_revision: at least 1; see if_absent")
        headers += (("If-Match", f'"{if_revision}"'),)
    elif if_exists:
        headers += (("If-Match", "*"),)
    elif if_absent:
        headers += (("If-None-Match", "*"),)
    return headers


def read_query(revision: int, serializable: bool) -> Pairs:
    """How a read says which state it wants."""
    query: Pairs = ()
    if whole(revision, "revision"):
        query += (("revision", str(revision)),)
    if serializable:
        query += (("consistency", "serializable"),)
    return query


def selection_query(selection: Selection) -> Pairs:
    """What `GET /v1/kv` takes."""
    query = read_query(selection.get("revision", 0), selection.get("serializable", False))
    bounds = (
        ("prefix", selection.get("prefix")),
        ("start", selection.get("start")),
        ("end", selection.get("end")),
    )
    given = ((name, octets(key, name)) for name, key in bounds if key is not None)
    query += tuple((name, quote(key, safe="")) for name, key in given if key)
    if selection.get("descending"):
        query += (("order", "desc"),)
    if selection.get("keys_only"):
        query += (("keys_only", "true"),)
    return query


def named(name: str, content: str | bytes) -> dict[str, str]:
    """A JSON field: as it is if that is text, `name_base64` otherwise. Raises like `octets`."""
    encoded = octets(content, name)
    try:
        return {name: encoded.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(encoded).decode()}


def range_fields(
    key: str | bytes | None,
    prefix: str | bytes | None,
    start: str | bytes | None,
    end: str | bytes | None,
) -> dict[str, Any]:
    """The JSON of one key, of a prefix, or of start <= keys < end. Raises InvalidArgument."""
    bounds = {"key": key, "prefix": prefix, "start": start, "end": end}
    given = {name: content for name, content in bounds.items() if content is not None}
    _check_range(given)
    fields: dict[str, Any] = {}
    for name, content in given.items():
        fields |= named(name, content)
    return fields


def watch_query(
    key: str | bytes | None,
    prefix: str | bytes | None,
    start: str | bytes | None,
    end: str | bytes | None,
) -> Pairs:
    """The same for `GET /v1/watch`; nothing at all means every key."""
    bounds = {"key": key, "prefix": prefix, "start": start, "end": end}
    given = {name: content for name, content in bounds.items() if content is not None}
    given = given or {"prefix": b""}
    _check_range(given)
    return tuple((name, quote(octets(content, name), safe="")) for name, content in given.items())


def _check_range(given: dict[str, Any]) -> None:
    if len(given) != 1 and set(given) != {"start", "end"}:
        raise InvalidArgument("key", "give a key, prefix=, start=, end=, or start= with end=")
