"""The calls on keys: read, write, list, transactions, batches, history."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack
from urllib.parse import quote

import msgspec

from kvstore.client.answers import (
    decode,
    decode_batch,
    decode_history,
    decode_page,
    decode_put,
    decode_txn,
)
from kvstore.client.attempts import Attempts, Request, parse_endpoints
from kvstore.client.credentials import Credentials
from kvstore.client.learning import Learning
from kvstore.client.operations import (
    Compare,
    ModRevision,
    Operation,
    may_write,
    put,
    transaction_document,
)
from kvstore.client.requests import (
    Pairs,
    key_target,
    octets,
    once_header,
    read_query,
    selection_query,
    whole,
    write_headers,
)
from kvstore.client.results import (
    BatchResult,
    DeleteResult,
    Entry,
    Event,
    History,
    Page,
    PutResult,
    Selection,
    TxnResult,
)
from kvstore.client.tls import client_tls
from kvstore.client.verdict import HttpReply
from kvstore.errors import (
    ConditionFailed,
    InvalidArgument,
    OutcomeUnknown,
    Overloaded,
    RevisionCompacted,
    Unavailable,
)

PAGE_ITEMS = 1000
HISTORY_ITEMS = 100
BATCH_OPERATIONS_MAX = 1000
"""The API takes no more in one request."""

_AGAIN_S = 0.02
"""A number that somebody else has just written is read again after up to so long."""
_DIGITS_MAX = 4_000
_JSON = (("Content-Type", "application/json"),)


class Keys:
    """What `Client` can do with keys."""

    def __init__(
        self,
        endpoints: str | list[str] | tuple[str, ...] = "http://127.0.0.1:2379",
        timeout_s: float = 10.0,
        attempt_timeout_s: float | None = None,
        *,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        ca: str | None = None,
        cert: str | tuple[str, str] | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        tls = client_tls(ca, cert)
        self._attempts = Attempts(
            parse_endpoints(endpoints, secure=tls is not None),
            timeout_s,
            attempt_timeout_s,
            Credentials(user, password, token),
            tls,
        )
        self._learning = Learning(self._attempts)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The base addresses, in the order in which they are tried: first those that were given,
        then those of other members, as they come and go."""
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
        """Close the connections. Calls that still wait, and later ones, raise RuntimeError."""
        self._learning.close()
        await self._attempts.close()

    async def put(
        self,
        key: str | bytes,
        value: str | bytes,
        *,
        if_revision: int | None = None,
        if_absent: bool = False,
        if_exists: bool = False,
        ttl_s: int | None = None,
        lease: int = 0,
    ) -> PutResult:
        """Write `value`. At most one condition; ConditionFailed says what was found instead.

        The key goes with its lease: that of id `lease`, or after `ttl_s` seconds one of its own,
        whose id is in the result. Raises LeaseNotFound.

        ::

            entry = await store.get("counter")
            await store.put("counter", b"2", if_revision=entry.mod_revision)
        """
        headers = write_headers(if_revision, if_absent, if_exists)
        target = key_target(key)
        body = octets(value, "value")
        if ttl_s is not None and lease:
            raise InvalidArgument("ttl_s", "give ttl_s or lease, not both")
        query: Pairs = () if ttl_s is None else (("ttl", str(whole(ttl_s, "ttl_s"))),)
        query += (("lease", str(lease)),) if whole(lease, "lease") else ()
        answer = await self._attempts.send(Request("PUT", target, query, headers, body))
        return decode_put(answer.body)

    async def increment(self, key: str | bytes, by: int = 1) -> int:
        """Add to the whole number, in decimal, that the key holds; a key that does not exist counts
        as 0. The new value. Others may add at the same time: each addition counts once. The key
        stays on the lease that holds it.

        Raises InvalidArgument if the key holds something else, Unavailable if others were faster
        until the deadline, and like `put`.
        """
        whole(by, "by")
        deadline_s = asyncio.get_running_loop().time() + self._timeout_s
        while True:
            entry = await self.get(key)
            value = by + (0 if entry is None else _number(entry.value))
            if await self._put_over(entry, key, str(value)):
                return value
            if asyncio.get_running_loop().time() >= deadline_s:
                raise Overloaded("others wrote this key all the time")
            await asyncio.sleep(random.uniform(0, _AGAIN_S))

    async def _put_over(self, entry: Entry | None, key: str | bytes, value: str) -> bool:
        """Write a key that is still as it was read, and leave its lease as it is; False if it is
        not. To name the lease would take rights on all that it holds."""
        if entry is not None and entry.lease:
            unchanged = ModRevision(key) == entry.mod_revision
            done = await self.txn(unchanged, then=[put(key, value, keep_lease=True)])
            return done.succeeded
        revision = None if entry is None else entry.mod_revision
        try:
            await self.put(key, value, if_revision=revision, if_absent=entry is None)
        except ConditionFailed:
            return False
        return True

    async def get(
        self, key: str | bytes, *, revision: int = 0, serializable: bool = False
    ) -> Entry | None:
        """The key's entry, or None. Linearizable unless `serializable`; `revision` looks back.

        ::

            entry = await store.get("greeting")
            text = entry.value.decode() if entry else "(nothing)"
        """
        query = read_query(revision, serializable)
        answer = await self._attempts.send(Request("GET", key_target(key), query))
        if answer.status == 404:
            return None
        try:
            return Entry(
                octets(key, "key"),
                answer.body,
                int(answer.headers["X-Create-Revision"]),
                int(answer.headers["ETag"].strip('"')),
                int(answer.headers["X-Version"]),
                int(answer.headers.get("X-Lease", 0)),
            )
        except (KeyError, ValueError):
            raise Unavailable("the endpoint answered without the entry's revisions") from None

    async def delete(
        self, key: str | bytes, *, if_revision: int | None = None, if_exists: bool = False
    ) -> DeleteResult:
        """Remove the key. Without a condition, removing what is not there succeeds."""
        headers = write_headers(if_revision, False, if_exists)
        answer = await self._attempts.send(Request("DELETE", key_target(key), (), headers))
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
        query = (*selection_query(selection), ("limit", str(whole(limit, "limit"))))
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

    async def txn(
        self,
        *compares: Compare,
        then: Sequence[Operation] = (),
        otherwise: Sequence[Operation] = (),
    ) -> TxnResult:
        """If all compares hold do `then`, else `otherwise`; at once, and all of it or nothing.

        ::

            moved = await store.txn(
                Value("from") == "10", absent("to"),
                then=[delete("from"), put("to", "10")],
            )
            print(moved.succeeded, moved.revision, moved.results)
        """
        return await self.txn_document(transaction_document(compares, then, otherwise))

    async def txn_document(self, document: dict[str, Any]) -> TxnResult:
        """The same, given as the JSON of `POST /v1/txn`."""
        writes = may_write(document)
        body = msgspec.json.encode(document)
        headers = _JSON + (once_header() if writes else ())
        request = Request("POST", "/v1/txn", (), headers, body, not writes)
        answer = await self._attempts.send(request)
        return decode_txn(answer.body, OutcomeUnknown if writes else Unavailable)

    async def batch(self, operations: Sequence[Operation]) -> tuple[BatchResult, ...]:
        """Many operations in few requests: each with its own result, in order, not atomic.

        An operation that was refused has its error in place of a result. What could not be done in
        time is tried again, each write at most once. If a request fails as a whole, that is
        raised; operations before it may have been applied.

        ::

            for result in await store.batch([put("a", "1"), get("b"), delete("c")]):
                print(result)
        """
        results: tuple[BatchResult, ...] = ()
        for begin in range(0, len(operations), BATCH_OPERATIONS_MAX):
            part = operations[begin : begin + BATCH_OPERATIONS_MAX]
            only_reads = not any(operation.writes for operation in part)
            body = msgspec.json.encode([operation.document for operation in part])
            headers = _JSON + (() if only_reads else once_header())
            request = Request("POST", "/v1/batch", (), headers, body, only_reads)
            results += await self._batch(request, len(part))
        return results

    async def _batch(self, request: Request, count: int) -> tuple[BatchResult, ...]:
        results: tuple[BatchResult, ...] = ()

        def check(answer: HttpReply) -> None:
            nonlocal results
            results = decode_batch(answer.body, count)
            # Sent again as a whole, under the same key: what was applied is answered alike.
            for kind in (OutcomeUnknown, Unavailable):
                for result in results:
                    if isinstance(result, kind):
                        raise result

        try:
            await self._attempts.send(request, check=check)
        except (OutcomeUnknown, Unavailable) as error:
            if not results:
                raise
            if isinstance(error, OutcomeUnknown):
                # The attempt without an answer may have applied what an earlier one refused.
                doubt = (Unavailable, OutcomeUnknown)
                return tuple(error if isinstance(r, doubt) else r for r in results)
        return results

    async def history_page(
        self, key: str | bytes, *, limit: int = HISTORY_ITEMS, revision: int = 0
    ) -> History:
        """Up to `limit` of the key's changes, newest first, those after `revision` left out."""
        items = str(whole(limit, "limit"))
        query: Pairs = (("history", ""), ("limit", items), *read_query(revision, False))
        answer = await self._attempts.send(Request("GET", key_target(key), query))
        if answer.status == 404:
            return History(octets(key, "key"), (), False, 0)
        return decode_history(answer.body, octets(key, "key"))

    async def history(self, key: str | bytes, *, limit: int | None = None) -> AsyncIterator[Event]:
        """The key's changes, newest first, as far as they are not compacted.

        ::

            async for event in store.history("greeting"):
                print(event.revision, "deleted" if event.deleted else event.value)
        """
        left, revision = limit, 0
        while left is None or left > 0:
            items = HISTORY_ITEMS if left is None else min(left, HISTORY_ITEMS)
            try:
                page = await self.history_page(key, limit=items, revision=revision)
            except RevisionCompacted:
                return  # what was left has been compacted meanwhile
            for event in page.events:
                yield event
            if not page.more or not page.events:
                return
            revision = page.events[-1].revision - 1
            left = None if left is None else left - len(page.events)

    async def _post(self, target: str, body: Mapping[str, Any], once: bool = False) -> HttpReply:
        return await self._send("POST", target, body, once)

    async def _send(
        self, method: str, target: str, body: Mapping[str, Any] | None = None, once: bool = False
    ) -> HttpReply:
        headers = (() if body is None else _JSON) + (once_header() if once else ())
        encoded = None if body is None else msgspec.json.encode(body)
        return await self._attempts.send(Request(method, target, (), headers, encoded))


def _number(value: bytes) -> int:
    """The whole number that a value is. Raises InvalidArgument."""
    text = value.decode("ascii", "replace").strip()
    if len(text) > _DIGITS_MAX or not text.removeprefix("-").isdecimal():
        raise InvalidArgument("key", f"key: it holds no whole number: {value[:40]!r}")
    return int(text)
