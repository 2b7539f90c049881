"""The async client: the API's calls as methods."""

import secrets
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, Unpack
from urllib.parse import quote

import msgspec

from kvstore.client.attempts import Attempts, Request, parse_endpoints
from kvstore.client.results import (
    ClusterStatus,
    CompactResult,
    DeleteResult,
    Entry,
    HandOverResult,
    Page,
    PutResult,
    Selection,
    decode,
    decode_page,
)
from kvstore.client.verdict import Answer
from kvstore.errors import InvalidArgument, Unavailable

PAGE_ITEMS = 1000


class Client:
    """A client of one cluster. Use it from one event loop; calls may run concurrently.

    `endpoints`: base addresses of some or all nodes, a sequence or one comma-separated string; any
    node answers any call. `timeout_s`: the total deadline of a call, retries included; keep it well
    below the cluster's `idempotency_ttl_s`. `attempt_timeout_s`: when to give up on one node.

    Every write carries a random idempotency key, the same on all of its attempts, so that a retry
    after a lost answer is applied once. Keys and values are bytes; text is encoded as UTF-8.

    ::

        async with Client(["http://10.0.0.1:2379", "http://10.0.0.2:2379"]) as store:
            await store.put("counter", "1", if_absent=True)
    """

    def __init__(
        self,
        endpoints: str | list[str] | tuple[str, ...] = "http://127.0.0.1:2379",
        timeout_s: float = 10.0,
        attempt_timeout_s: float | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._attempts = Attempts(parse_endpoints(endpoints), timeout_s, attempt_timeout_s)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The base addresses, in the order in which they are tried."""
        return self._attempts.endpoints

    async def __aenter__(self) -> Self:
        """The client itself; connections open when they are needed."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._attempts.close()

    async def put(
        self,
        key: str | bytes,
        value: str | bytes,
        *,
        if_revision: int | None = None,
        if_absent: bool = False,
        if_exists: bool = False,
    ) -> PutResult:
        """Write `value`. At most one condition; ConditionFailed says what was found instead.

        ::

            entry = await store.get("counter")
            await store.put("counter", b"2", if_revision=entry.mod_revision)
        """
        headers = _write_headers(if_revision, if_absent, if_exists)
        target = _key_target(key)
        body = value.encode() if isinstance(value, str) else bytes(value)
        answer = await self._attempts.send(Request("PUT", target, (), headers, body))
        return decode(answer.body, PutResult)

    async def get(
        self, key: str | bytes, *, revision: int = 0, serializable: bool = False
    ) -> Entry | None:
        """The key's entry, or None. Linearizable unless `serializable`; `revision` looks back.

        ::

            entry = await store.get("greeting")
            text = entry.value.decode() if entry else "(nothing)"
        """
        query = _read_query(revision, serializable)
        answer = await self._attempts.send(Request("GET", _key_target(key), query))
        if answer.status == 404:
            return None
        try:
            return Entry(
                _octets(key),
                answer.body,
                int(answer.headers["X-Create-Revision"]),
                int(answer.headers["ETag"].strip('"')),
                int(answer.headers["X-Version"]),
            )
        except (KeyError, ValueError):
            raise Unavailable("the endpoint answered without the entry's revisions") from None

    async def delete(
        self, key: str | bytes, *, if_revision: int | None = None, if_exists: bool = False
    ) -> DeleteResult:
        """Remove the key. Without a condition, removing what is not there succeeds."""
        headers = _write_headers(if_revision, False, if_exists)
        answer = await self._attempts.send(Request("DELETE", _key_target(key), (), headers))
        return decode(answer.body, DeleteResult)

    async def page(
        self,
        *,
        limit: int = PAGE_ITEMS,
        cursor: str | None = None,
        **selection: Unpack[Selection],
    ) -> Page:
        """Up to `limit` entries, by key. Give `cursor` of one page to get the next.

        Repeat the same selection with a cursor; see `list` for all pages at once.
        """
        query = (*_selection_query(selection), ("limit", str(limit)))
        if cursor is not None:
            query += (("cursor", quote(cursor, safe="")),)
        return decode_page((await self._attempts.send(Request("GET", "/v1/kv", query))).body)

    async def list(
        self,
        *,
        limit: int | None = None,
        page_items: int = PAGE_ITEMS,
        **selection: Unpack[Selection],
    ) -> AsyncIterator[Entry]:
        """All selected entries, or the first `limit`, fetched page by page while you iterate.

        ::

            async for entry in store.list(prefix="users/", keys_only=True):
                print(entry.key.decode())
        """
        left, cursor = limit, None
        while left is None or left > 0:
            items = page_items if left is None else min(left, page_items)
            page = await self.page(limit=items, cursor=cursor, **selection)
            for entry in page.items:
                yield entry
            cursor = page.cursor
            left = None if left is None else left - len(page.items)
            if cursor is None:
                return

    async def status(self, endpoint: str | None = None) -> ClusterStatus:
        """The cluster as a node sees it: that of `endpoint`, asked once, or any that answers."""
        request = Request("GET", "/v1/cluster")
        if endpoint is None:
            answer = await self._attempts.send(request)
        else:
            answer = await self._attempts.send_once(endpoint, request, self._timeout_s)
        return decode(answer.body, ClusterStatus, Unavailable)

    async def compact(self, revision: int) -> CompactResult:
        """Give up history below `revision`, on all nodes."""
        answer = await self._post("/v1/compact", {"revision": revision}, once=True)
        return decode(answer.body, CompactResult)

    async def hand_over(self, to: int | None = None) -> HandOverResult:
        """Make node `to` the leader, or whichever the leader finds fit.

        Only the leader can, so it must be among the endpoints. Nothing happens if `to` leads.
        """
        if to is not None and (leader := (await self.status()).leader) and leader.id == to:
            return HandOverResult(to)
        answer = await self._post("/v1/cluster/handover", {} if to is None else {"to": to})
        return decode(answer.body, HandOverResult)

    async def _post(self, target: str, body: dict[str, int], once: bool = False) -> Answer:
        headers = (("Content-Type", "application/json"), *(_once_header() if once else ()))
        encoded = msgspec.json.encode(body)
        return await self._attempts.send(Request("POST", target, (), headers, encoded))


def _octets(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else bytes(key)


def _key_target(key: str | bytes) -> str:
    octets = _octets(key)
    if not octets:
        raise InvalidArgument("key", "key: must not be empty")
    encoded = quote(octets, safe="")
    # "." and ".." as a path segment would be resolved away.
    return "/v1/kv/" + (encoded.replace(".", "%2E") if octets in (b".", b"..") else encoded)


def _once_header() -> tuple[tuple[str, str], ...]:
    return (("Idempotency-Key", secrets.token_hex(16)),)


def _write_headers(
    if_revision: int | None, if_absent: bool, if_exists: bool
) -> tuple[tuple[str, str], ...]:
    headers = _once_header()
    if (if_revision is not None) + if_absent + if_exists > 1:
        raise InvalidArgument("condition", "give at most one of if_revision, if_absent, if_exists")
    if if_revision is not None:
        if if_revision < 1:
            raise InvalidArgument("if_revision", "if_revision: at least 1; see if_absent")
        headers += (("If-Match", f'"{if_revision}"'),)
    elif if_exists:
        headers += (("If-Match", "*"),)
    elif if_absent:
        headers += (("If-None-Match", "*"),)
    return headers


def _read_query(revision: int, serializable: bool) -> tuple[tuple[str, str], ...]:
    query: tuple[tuple[str, str], ...] = ()
    if revision:
        query += (("revision", str(revision)),)
    if serializable:
        query += (("consistency", "serializable"),)
    return query


def _selection_query(selection: Selection) -> tuple[tuple[str, str], ...]:
    query = _read_query(selection.get("revision", 0), selection.get("serializable", False))
    bounds = (
        ("prefix", selection.get("prefix")),
        ("start", selection.get("start")),
        ("end", selection.get("end")),
    )
    query += tuple((name, quote(_octets(key), safe="")) for name, key in bounds if key)
    if selection.get("descending"):
        query += (("order", "desc"),)
    if selection.get("keys_only"):
        query += (("keys_only", "true"),)
    return query
