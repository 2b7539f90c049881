"""Reads keys out of Consul and Redis, to be put into this store, once: changes are not followed."""

import base64
import secrets
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec

from kvstore.backup.importing import Numbered
from kvstore.backup.lines import KeyLine, LeaseLine
from kvstore.errors import BackupError, NoQuorum

REDIS_PAGE = 500
TTL_S_MIN = 2
"""Leases are no shorter."""


class _ConsulItem(msgspec.Struct):
    """One of `GET /v1/kv/?recurse`."""

    Key: str
    Value: str | None = None


_decode = msgspec.json.Decoder(list[_ConsulItem]).decode


async def consul_lines(
    http: aiohttp.ClientSession, url: str, prefix: str
) -> AsyncIterator[Numbered]:
    """Keys of Consul's key-value store that begin with `prefix`, as of one moment; folders, which
    are keys that end in a slash and have no value, are left out. Raises BackupError, NoQuorum."""
    address = f"{url.rstrip('/')}/v1/kv/{prefix}"
    try:
        async with http.get(address, params={"recurse": "true", "consistent": ""}) as response:
            body = await response.read()
            if response.status == 404:
                return  # there are none
            if response.status != 200:
                text = body[:200].decode(errors="replace")
                raise BackupError(f"{address} answers {response.status} {text}")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise NoQuorum(f"{url}: {error or type(error).__name__}") from None
    try:
        items = _decode(body)
    except msgspec.MsgspecError as error:
        raise BackupError(f"{address} does not answer like Consul: {error}") from None
    number = 0
    for item in items:
        if item.Value is None and item.Key.endswith("/"):
            continue
        number += 1
        yield Numbered(number, KeyLine(item.Key.encode(), base64.b64decode(item.Value or "")))


class RedisLines:
    """Strings of a Redis database; `left_out` counts keys of other types, by their type."""

    def __init__(self, url: str, prefix: bytes) -> None:
        """Raises BackupError without the package that speaks to Redis, and for what is no URL."""
        try:
            from redis.asyncio import Redis
        except ImportError:
            raise BackupError(
                "import from Redis needs the package redis: pip install 'paxos-kvstore[redis]'"
            ) from None
        try:
            self._redis: Any = Redis.from_url(url)
        except ValueError as error:
            raise BackupError(f"{url}: {error}") from None
        self._url = url
        self._prefix = prefix
        self.left_out: dict[str, int] = {}

    async def numbered(self) -> AsyncIterator[Numbered]:
        """Each string once; one that expires is put on a lease that ends when it does. Raises
        NoQuorum."""
        from redis.exceptions import RedisError

        try:
            async for record in self._records():
                yield record
        except (RedisError, OSError) as error:
            raise NoQuorum(f"{self._url}: {error}") from None
        finally:
            await self._redis.aclose()

    async def _records(self) -> AsyncIterator[Numbered]:
        seen: set[bytes] = set()  # a scan may name a key twice
        number = cursor = 0
        while True:
            cursor, keys = await self._redis.scan(cursor, count=REDIS_PAGE)
            keys = [k for k in keys if k.startswith(self._prefix) and k not in seen]
            seen.update(keys)
            asked = self._redis.pipeline(transaction=False)
            for key in keys:
                asked.type(key)
                asked.pttl(key)
            told = await asked.execute()
            strings = []
            for key, kind, ttl_ms in zip(keys, told[::2], told[1::2], strict=True):
                if kind == b"string":
                    strings.append((key, ttl_ms))
                elif kind != b"none":
                    name = kind.decode()
                    self.left_out[name] = self.left_out.get(name, 0) + 1
            values = await self._redis.mget([key for key, _ in strings]) if strings else []
            for (key, ttl_ms), value in zip(strings, values, strict=True):
                if value is None:
                    continue  # it expired just now
                lease = 0
                if ttl_ms >= 0:
                    lease = secrets.randbelow((1 << 63) - 1) + 1
                    number += 1
                    yield Numbered(number, LeaseLine(lease, max(TTL_S_MIN, -(-ttl_ms // 1000))))
                number += 1
                yield Numbered(number, KeyLine(key, value, lease))
            if not cursor:
                return
