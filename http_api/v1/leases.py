"""`/v1/leases`: keys that are deleted unless somebody keeps them alive."""

import asyncio
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from http_api.core import params
from http_api.core.context import Context
from http_api.core.problems import refusal
from http_api.core.responses import Answer, json_answer
from http_api.core.router import Doc, Route
from http_api.v1.documents import (
    BASE64,
    TEXT,
    LeaseIdText,
    lease_id,
    new_lease,
    parse,
    text_or_base64,
)
from http_api.v1.kv import BODY_PROBLEMS, READ_PROBLEMS, WRITE_PROBLEMS
from kvstore.commands.commands import Grant, Revoke
from kvstore.commands.operations import only
from kvstore.commands.results import Granted, LeaseTaken, Revoked
from kvstore.errors import (
    InvalidArgument,
    LeaseExists,
    LeaseNotFound,
    NoQuorum,
    Overloaded,
    RevisionCompacted,
    RevisionInFuture,
    Stopping,
)
from kvstore.replica.ambient import check_read
from kvstore.state.lease_table import LEASE_TTL_S_MAX, LEASE_TTL_S_MIN

GRANT_BYTES_MAX = 4096
LIMIT_MAX = 10_000
"""Leases in one listing, and keys in the description of one lease."""


class GrantRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`ttl_s`: seconds that it lasts unless it is kept alive. `id`: chosen here by default."""

    ttl_s: Annotated[int, Meta(ge=1, le=LEASE_TTL_S_MAX)]
    id: LeaseIdText | None = None


_decoder = msgspec.json.Decoder(GrantRequest)


class LeasesResource:
    """The handlers of leases."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def grant(self, request: web.BaseRequest, _: str, query: str) -> Answer:
        """Begin a lease."""
        timeout_s = self._timeout(query)
        wanted = parse(_decoder, await self._context.bodies.read(request, GRANT_BYTES_MAX))
        ttl_s = max(wanted.ttl_s, LEASE_TTL_S_MIN)
        once = params.idempotency_key(request)
        while True:
            lease = new_lease(once) if wanted.id is None else lease_id(wanted.id, "id")
            result = await self._context.execute(request, Grant(lease, ttl_s), timeout_s)
            if not isinstance(result, LeaseTaken) or wanted.id is not None or once is not None:
                break
        if not isinstance(result, Granted):
            raise refusal(result)
        return json_answer({"id": str(result.lease), "ttl_s": result.ttl_s}, 201)

    async def page(self, request: web.BaseRequest, _: str, query: str) -> Answer:
        """All leases, page by page, in no order that means anything."""
        found = params.parse_query(query, ("limit", "cursor", "consistency", "timeout"))
        limit = LIMIT_MAX
        if "limit" in found:
            limit = params.integer(found["limit"], "limit", 1, LIMIT_MAX)
        after = None
        if "cursor" in found:
            after = lease_id(found["cursor"].decode("utf-8", "replace"), "cursor")
        options = params.read_options(found, self._context.config)
        state = await self._context.readable(options)
        leases: list[dict[str, Any]] = []
        cursor = None
        for lease, ttl_s in state.leases.all():
            # The table orders negative ids behind all others.
            if after is not None and (lease < 0, lease) <= (after < 0, after):
                continue
            if len(leases) == limit:
                cursor = leases[-1]["id"]
                break
            leases.append({"id": str(lease), "ttl_s": ttl_s})
        return json_answer({"leases": leases, "cursor": cursor})

    async def get(self, request: web.BaseRequest, text: str, query: str) -> Answer:
        """How long it has left, and its keys."""
        lease, timeout_s = self._lease(text), self._timeout(query)
        replica = self._context.replica
        held, _ = await asyncio.gather(
            replica.leasing.look(lease, timeout_s), replica.read_barrier(timeout_s)
        )
        if held is None:
            raise LeaseNotFound(lease)
        state = replica.state
        keys = state.leases.keys(lease)
        for key in keys if state.auth.enabled else ():
            check_read(state.auth, key, only(key))
        return json_answer(
            {
                "id": str(lease),
                "ttl_s": held.ttl_s,
                "left_s": round(held.left_s, 3),
                "keys": [dict((text_or_base64("key", key),)) for key in keys[:LIMIT_MAX]],
                "more": len(keys) > LIMIT_MAX,
            }
        )

    async def keep_alive(self, request: web.BaseRequest, text: str, query: str) -> Answer:
        """Its full time again from now."""
        lease, timeout_s = self._lease(text), self._timeout(query)
        held = await self._context.replica.leasing.renew(lease, timeout_s)
        if held is None:
            raise LeaseNotFound(lease)
        return json_answer({"id": str(lease), "ttl_s": held.ttl_s})

    async def revoke(self, request: web.BaseRequest, text: str, query: str) -> Answer:
        """End it now, and delete its keys."""
        lease, timeout_s = self._lease(text), self._timeout(query)
        result = await self._context.execute(request, Revoke(lease), timeout_s)
        if not isinstance(result, Revoked):
            raise refusal(result)
        return json_answer({"revision": result.revision, "deleted": result.deleted})

    def _lease(self, text: str) -> int:
        return lease_id(params.percent_decode(text, "id").decode("utf-8", "replace"), "id")

    def _timeout(self, query: str) -> float:
        found = params.parse_query(query, ("timeout",))
        return params.timeout(found, self._context.config)

    def routes(self) -> list[Route]:
        """The calls of this resource."""
        return [
            Route("POST", "/v1/leases", self.grant, _GRANT),
            Route("GET", "/v1/leases", self.page, _LIST),
            Route("GET", "/v1/leases/{id}", self.get, _GET),
            Route("DELETE", "/v1/leases/{id}", self.revoke, _REVOKE),
            Route("POST", "/v1/leases/{id}/keep-alive", self.keep_alive, _KEEP_ALIVE),
        ]


_ID = {"type": "string", "description": "A 64-bit number"}
_TTL_S = {"type": "integer", "description": "Seconds that it lasts unless it is kept alive"}
_LEASE = {"id": _ID, "ttl_s": _TTL_S}
_ASK_PROBLEMS = (InvalidArgument, LeaseNotFound, NoQuorum, Overloaded, Stopping)
_GRANT = Doc(
    "Grant a lease",
    query=("timeout",),
    headers=("Idempotency-Key",),
    body={"type": "application/json", "schema": {"$ref": "#/components/schemas/GrantRequest"}},
    answers={201: {"description": "It began", "properties": _LEASE}},
    problems=(LeaseExists, *WRITE_PROBLEMS, *BODY_PROBLEMS),
)
_LIST = Doc(
    "List leases",
    query=("limit", "cursor", "consistency", "timeout"),
    answers={
        200: {
            "description": "A page of leases",
            "properties": {
                "leases": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": _LEASE,
                        "required": list(_LEASE),
                    },
                },
                "cursor": {
                    "type": ["string", "null"],
                    "description": "Send it to get the next page; null at the end",
                },
            },
        }
    },
    problems=tuple(p for p in READ_PROBLEMS if p not in (RevisionInFuture, RevisionCompacted)),
    limit_max=LIMIT_MAX,
)
_GET = Doc(
    "Look at a lease",
    query=("timeout",),
    answers={
        200: {
            "description": "What is left of it, and the keys that end with it",
            "properties": {
                **_LEASE,
                "left_s": {"type": "number", "description": "Seconds until it ends"},
                "keys": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"key": TEXT, "key_base64": BASE64},
                        "additionalProperties": False,
                    },
                },
                "more": {"type": "boolean", "description": f"It has over {LIMIT_MAX} keys"},
            },
        }
    },
    problems=_ASK_PROBLEMS,
)
_KEEP_ALIVE = Doc(
    "Keep a lease alive",
    query=("timeout",),
    answers={200: {"description": "It has its full time again", "properties": _LEASE}},
    problems=_ASK_PROBLEMS,
)
_REVOKE = Doc(
    "End a lease and delete its keys",
    query=("timeout",),
    headers=("Idempotency-Key",),
    answers={
        200: {
            "description": "It has ended",
            "properties": {
                "revision": {"type": "integer", "description": "The store's revision"},
                "deleted": {"type": "integer", "description": "Keys deleted"},
            },
        }
    },
    problems=(LeaseNotFound, *WRITE_PROBLEMS),
)
