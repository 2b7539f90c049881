"""Reads keys, leases and changes of an etcd cluster by its HTTP/JSON API, which stores that speak
it, this one included, have too."""

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, NamedTuple

import aiohttp

from kvstore.client.attempts import parse_endpoints
from kvstore.errors import BackupError, NoQuorum

PAGE_KEYS = 1000
LINE_BYTES_MAX = 64 << 20
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)
_ALL = base64.b64encode(b"\0").decode()


class EtcdKey(NamedTuple):
    """A key as etcd has it; `lease` 0 for none."""

    key: bytes
    value: bytes
    mod_revision: int
    lease: int


class EtcdEvent(NamedTuple):
    """One change of a key; `now` None: it was deleted."""

    revision: int
    key: bytes
    now: EtcdKey | None


class EtcdPage(NamedTuple):
    """Keys in order, and whether there are more behind them."""

    keys: list[EtcdKey]
    more: bool


class EtcdReader:
    """Asks one endpoint, and another one when that fails."""

    def __init__(self, http: aiohttp.ClientSession, endpoints: str) -> None:
        """Raises InvalidArgument."""
        self._http = http
        self._endpoints = parse_endpoints(endpoints)
        self._turn = 0

    async def _call(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """Raises NoQuorum, or BackupError for a refusal."""
        failures = []
        for _ in self._endpoints:
            endpoint = self._endpoints[self._turn % len(self._endpoints)]
            try:
                async with self._http.post(f"{endpoint}/v3/{path}", json=document) as response:
                    text = await response.text()
                    if response.status == 200:
                        found: dict[str, Any] = json.loads(text)
                        return found
            except (aiohttp.ClientError, TimeoutError) as error:
                failures.append(f"{endpoint}: {error or type(error).__name__}")
            else:
                if response.status < 500:
                    raise BackupError(f"{endpoint} refuses {path}: {text[:300].strip()}")
                failures.append(f"{endpoint}: {text[:300].strip()}")
            self._turn += 1
        raise NoQuorum(f"etcd does not answer: {'; '.join(failures)}")

    async def revision(self) -> int:
        """The current one. Raises like `_call`."""
        found = await self._call("kv/range", {"key": _ALL, "limit": "1", "keys_only": True})
        return int(found["header"]["revision"])

    async def page(self, after: bytes, revision: int) -> EtcdPage:
        """Keys behind `after` as of `revision`."""
        document = {
            "key": base64.b64encode(after + b"\0").decode(),
            "range_end": _ALL,
            "limit": str(PAGE_KEYS),
            "revision": str(revision),
        }
        found = await self._call("kv/range", document)
        return EtcdPage([_key(item) for item in found.get("kvs", ())], found.get("more", False))

    async def keys(self, revision: int) -> AsyncIterator[EtcdKey]:
        """All as of `revision`, in order."""
        after, more = b"", True
        while more:
            page = await self.page(after, revision)
            for key in page.keys:
                yield key
            more = page.more and bool(page.keys)
            after = page.keys[-1].key if page.keys else after

    async def lease_ttl_s(self, lease: int) -> int:
        """The seconds that it was granted for; 0 if it has ended."""
        found = await self._call("lease/timetolive", {"ID": str(lease)})
        return int(found.get("grantedTTL", 0)) if int(found.get("TTL", -1)) > 0 else 0

    async def leases(self) -> set[int]:
        """All there are."""
        found = await self._call("lease/leases", {})
        return {int(each["ID"]) for each in found.get("leases", ())}

    async def changes(self, first_revision: int) -> AsyncGenerator[list[EtcdEvent], None]:
        """Whole revisions from `first_revision` on, as they happen, until the connection ends.

        Raises BackupError if that revision is compacted, NoQuorum if etcd is not reached.
        """
        endpoint = self._endpoints[self._turn % len(self._endpoints)]
        create = {"key": _ALL, "range_end": _ALL, "start_revision": str(first_revision)}
        try:
            async with self._http.post(
                f"{endpoint}/v3/watch", json={"create_request": create}, timeout=_NO_SILENCE
            ) as response:
                async for line in _lines(response.content):
                    result = json.loads(line).get("result", {})
                    if "compact_revision" in result or result.get("canceled"):
                        raise BackupError(
                            f"etcd does not have its changes from revision {first_revision} on any "
                            f"more: {result.get('cancel_reason', 'compacted')}"
                        )
                    if events := result.get("events"):
                        yield [_event(event) for event in events]
        except (aiohttp.ClientError, TimeoutError) as error:
            self._turn += 1
            raise NoQuorum(f"{endpoint}: {error or type(error).__name__}") from None
        self._turn += 1


_NO_SILENCE = aiohttp.ClientTimeout(total=None, sock_connect=5)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    held = bytearray()
    async for piece in stream.iter_any():
        held += piece
        *lines, rest = held.split(b"\n")
        held = bytearray(rest)
        if len(held) > LINE_BYTES_MAX:
            raise BackupError("a message of etcd's watch is too large")
        for line in lines:
            yield bytes(line)


def _key(item: dict[str, Any]) -> EtcdKey:
    return EtcdKey(
        base64.b64decode(item["key"]),
        base64.b64decode(item.get("value", "")),
        int(item["mod_revision"]),
        int(item.get("lease", 0)),
    )


def _event(event: dict[str, Any]) -> EtcdEvent:
    item = event["kv"]
    if event.get("type") == "DELETE":
        return EtcdEvent(int(item["mod_revision"]), base64.b64decode(item["key"]), None)
    found = _key(item)
    return EtcdEvent(found.mod_revision, found.key, found)
