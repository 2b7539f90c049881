"""What is sent: keys, values, and whole HTTP requests in each system's dialect.

Every value can be computed again from its key and generation, so any answer can be verified.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Protocol

VALUE_BYTES = 256


def key_of(number: int) -> bytes:
    """The key with this number; every key has the same length."""
    return b"bench-%08d" % number


def value_of(number: int, generation: int, size: int = VALUE_BYTES) -> bytes:
    """The value that `generation` writes under a key: incompressible, known from its arguments."""
    head = b"%08d.%04d." % (number, generation)
    return head + Random(f"{number}.{generation}").randbytes(size - len(head))


def generation_of(number: int, value: bytes) -> int | None:
    """Which generation wrote this value under this key, or None when none would have."""
    try:
        generation = int(value[9:13])
    except ValueError:
        return None
    return generation if value == value_of(number, generation, len(value)) else None


class Dialect(Protocol):
    """How one system spells a put and a linearizable get."""

    wire: str
    """The protocol, by its name in `benchmarks.clients.wires`."""
    many: int
    """Puts in a request of `put_many`."""

    def put(self, key: bytes, value: bytes) -> bytes:
        """A whole request that writes one key."""

    def get(self, key: bytes) -> bytes:
        """A whole request that reads one key, linearizably."""

    def put_many(self, pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
        """A whole request that writes up to `many` keys."""

    def value_in(self, body: bytes) -> bytes | None:
        """The value in the body of a get's answer, None when the key is missing."""


class OursDialect:
    """`/v1/kv/{key}` with raw bodies."""

    wire = "http"
    many = 1000

    def put(self, key: bytes, value: bytes) -> bytes:
        """PUT with the value as the body."""
        return request("PUT", f"/v1/kv/{key.decode()}", value)

    def get(self, key: bytes) -> bytes:
        """GET; linearizable is the default."""
        return request("GET", f"/v1/kv/{key.decode()}")

    def put_many(self, pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
        """POST /v1/batch with one put per pair."""
        puts = [{"put": {"key": k.decode(), "value_base64": _text(v)}} for k, v in pairs]
        return request("POST", "/v1/batch", json.dumps(puts, separators=(",", ":")).encode())

    def value_in(self, body: bytes) -> bytes | None:
        """The body is the value."""
        return body or None


class EtcdDialect:
    """`/v3/kv/...`: JSON with base64, as etcd's own gateway takes it."""

    wire = "http"
    many = 100

    def put(self, key: bytes, value: bytes) -> bytes:
        """POST /v3/kv/put."""
        return request("POST", "/v3/kv/put", _json(key=_text(key), value=_text(value)))

    def get(self, key: bytes) -> bytes:
        """POST /v3/kv/range; linearizable is the default."""
        return request("POST", "/v3/kv/range", _json(key=_text(key)))

    def put_many(self, pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
        """POST /v3/kv/txn with one put per pair; etcd allows 128."""
        puts = [{"requestPut": {"key": _text(k), "value": _text(v)}} for k, v in pairs]
        return request("POST", "/v3/kv/txn", _json(success=puts))

    def value_in(self, body: bytes) -> bytes | None:
        """The first pair's value."""
        pairs = json.loads(body).get("kvs", [])
        return b64decode(pairs[0]["value"]) if pairs else None


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """A whole HTTP/1.1 request for a connection that is kept open."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if method != "GET":
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def write_requests(path: Path, requests: Iterable[bytes]) -> None:
    """The file that load.lua and raw_client.py read: length, newline, request, and so on."""
    path.write_bytes(b"".join(b"%d\n%b" % (len(r), r) for r in requests))


def read_requests(path: Path) -> list[bytes]:
    """The inverse of `write_requests`."""
    data, position, found = path.read_bytes(), 0, []
    while position < len(data):
        start = data.index(b"\n", position) + 1
        end = start + int(data[position : start - 1])
        found.append(data[start:end])
        position = end
    return found


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _json(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
