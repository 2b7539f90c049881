"""Keys, query strings and condition headers, from raw text to typed values.

Everything here is pure and raises InvalidArgument or Contradiction with a sentence that helps.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from aiohttp import hdrs, web
from multidict import istr

from kvstore.commands.commands import (
    ABSENT,
    EXISTS,
    IDEMPOTENCY_KEY_BYTES_MAX,
    KEY_BYTES_MAX,
    Condition,
)
from kvstore.config import Config
from kvstore.errors import Contradiction, InvalidArgument

REVISION_MAX = (1 << 63) - 1
TIMEOUT_MAX_S = 60.0
IDEMPOTENCY_KEY = istr("Idempotency-Key")

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_ETAG = re.compile(r'(W/)?"([^"]*)"')
_VISIBLE_ASCII = re.compile(r"[!-~]+")


def percent_decode(text: str, parameter: str) -> bytes:
    """The bytes that percent-encoded `text` stands for; InvalidArgument names `parameter`."""
    if "%" not in text:
        return text.encode("utf-8", "surrogateescape")
    bad = _BAD_ESCAPE.search(text)
    if bad is not None:
        raise InvalidArgument(
            parameter,
            f"{parameter}: bad percent-encoding {bad.group()!r}; '%' must be followed by two "
            "hexadecimal digits, and a '%' itself is written %25",
        )
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape"))


def decode_key(text: str) -> bytes:
    """A key from a path: everything after `/v1/kv/`, slashes included."""
    if "#" in text:
        raise InvalidArgument("key", "key: a '#' in a path must be percent-encoded as %23")
    key = percent_decode(text, "key")
    if not key:
        raise InvalidArgument("key", f"key: the key is empty; keys have 1 to {KEY_BYTES_MAX} bytes")
    if len(key) > KEY_BYTES_MAX:
        raise InvalidArgument(
            "key", f"key: the key has {len(key)} bytes; keys have 1 to {KEY_BYTES_MAX} bytes"
        )
    return key


def parse_query(query: str, allowed: tuple[str, ...]) -> dict[str, bytes]:
    """Name to decoded value, `+` read as a space. Refuses unknown and repeated names."""
    found: dict[str, bytes] = {}
    for part in query.split("&"):
        if not part:
            continue
        raw_name, _, raw_value = part.replace("+", " ").partition("=")
        name = percent_decode(raw_name, "query").decode("utf-8", "replace")
        if name not in allowed:
            known = ", ".join(allowed) if allowed else "none"
            raise InvalidArgument(
                name, f"unknown query parameter {name!r}; this call takes: {known}"
            )
        if name in found:
            raise InvalidArgument(name, f"{name}: the parameter is given more than once")
        found[name] = percent_decode(raw_value, name)
    return found


def integer(value: bytes, parameter: str, minimum: int, maximum: int) -> int:
    """A decimal integer without sign, within the bounds."""
    if not value.isdigit() or len(value) > 19 or not minimum <= int(value) <= maximum:
        shown = value[:40].decode("utf-8", "replace")
        raise InvalidArgument(
            parameter,
            f"{parameter}: expected a whole number from {minimum} to {maximum}, got {shown!r}",
        )
    return int(value)


def flag(value: bytes, parameter: str) -> bool:
    """`?name`, `=true` or `=1`; `=false` or `=0`."""
    if value in (b"", b"true", b"1"):
        return True
    if value in (b"false", b"0"):
        return False
    shown = value[:40].decode("utf-8", "replace")
    raise InvalidArgument(parameter, f"{parameter}: expected true or false, got {shown!r}")


def choice(value: bytes, parameter: str, choices: tuple[str, ...]) -> str:
    """One of `choices`."""
    text = value[:40].decode("utf-8", "replace")
    if text not in choices:
        wanted = " or ".join(choices)
        raise InvalidArgument(parameter, f"{parameter}: expected {wanted}, got {text!r}")
    return text


def timeout(found: dict[str, bytes], config: Config) -> float:
    """`?timeout=` in seconds, else the node's default."""
    value = found.get("timeout")
    if value is None:
        return config.request_timeout_s
    text = value[:40].decode("utf-8", "replace")
    maximum = max(TIMEOUT_MAX_S, config.request_timeout_s)
    if _SECONDS.fullmatch(text) is None or not 0 < float(text) <= maximum:
        raise InvalidArgument(
            "timeout",
            f"timeout: expected seconds, more than 0 and at most {maximum:g}, got {text!r}",
        )
    return float(text)


class ReadOptions(NamedTuple):
    """How to read: `revision` 0 is the current one."""

    revision: int
    serializable: bool
    timeout_s: float


def read_options(found: dict[str, bytes], config: Config) -> ReadOptions:
    """`revision`, `consistency` and `timeout`."""
    revision = 0
    if "revision" in found:
        revision = integer(found["revision"], "revision", 1, REVISION_MAX)
    return ReadOptions(revision, _is_serializable(found), timeout(found, config))


def write_timeout(found: dict[str, bytes], config: Config) -> float:
    """`timeout` of a write, which cannot be serializable."""
    if _is_serializable(found):
        raise Contradiction(
            "consistency=serializable is for reads; a write always goes through the leader"
        )
    return timeout(found, config)


def _is_serializable(found: dict[str, bytes]) -> bool:
    value = found.get("consistency")
    if value is None:
        return False
    return choice(value, "consistency", ("linearizable", "serializable")) == "serializable"


def _header(request: web.BaseRequest, name: str) -> str | None:
    """The header's value; repeated lines make one list (RFC 9110, 5.3)."""
    values = request.headers.getall(name, None)
    return None if values is None else ", ".join(values).strip()


def write_condition(request: web.BaseRequest) -> Condition | None:
    """If-Match and If-None-Match of a write."""
    headers = request.headers
    if hdrs.IF_MATCH not in headers:
        if hdrs.IF_NONE_MATCH not in headers:
            return None
        value = _header(request, hdrs.IF_NONE_MATCH)
        if value != "*":
            raise InvalidArgument(
                "If-None-Match",
                f"If-None-Match: a write takes only * (the key must not exist), got {value!r}; "
                'to require a revision use If-Match: "<revision>"',
            )
        return ABSENT
    if hdrs.IF_NONE_MATCH in headers:
        raise Contradiction(
            "If-Match asks that the key exists and If-None-Match that it does not; send one"
        )
    value = _header(request, hdrs.IF_MATCH)
    if value == "*":
        return EXISTS
    match = _ETAG.fullmatch(value or "")
    if match is None or match[1] or not match[2].isascii() or not match[2].isdigit():
        raise InvalidArgument(
            "If-Match",
            'If-Match: expected one revision in double quotes, as in "42", or * (the key must '
            f"exist), got {value!r}",
        )
    return Condition(integer(match[2].encode(), "If-Match", 1, REVISION_MAX))


def etag_matches(request: web.BaseRequest, name: str, mod_revision: int, weak: bool) -> bool:
    """Whether the header's list of entity tags, or its *, covers an existing key's revision.

    Weak comparison is for If-None-Match, strong for If-Match (RFC 9110, 8.8.3.2).
    """
    value = _header(request, name) or ""
    if value == "*":
        return True
    wanted = str(mod_revision)
    return any(match[2] == wanted and (weak or not match[1]) for match in _ETAG.finditer(value))


def idempotency_key(request: web.BaseRequest) -> bytes | None:
    """The Idempotency-Key header, if there is one."""
    if IDEMPOTENCY_KEY not in request.headers:
        return None
    values = request.headers.getall(IDEMPOTENCY_KEY)
    if len(values) > 1:
        raise InvalidArgument("Idempotency-Key", "Idempotency-Key: the header is sent twice")
    value = values[0]
    if len(value) > IDEMPOTENCY_KEY_BYTES_MAX or _VISIBLE_ASCII.fullmatch(value) is None:
        raise InvalidArgument(
            "Idempotency-Key",
            f"Idempotency-Key: expected 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII "
            f"characters without spaces, got {value[:40]!r}",
        )
    return value.encode("ascii")
