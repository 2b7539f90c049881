"""`/v1/leases`: keys that are deleted unless somebody keeps them alive."""

import asyncio
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from http_api.core import params
from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.problems import refusal
from http_api.core.responses import Answer, json_answer
from http_api.v1.documents import (
    BASE64,
    TEXT,
    LeaseIdText,
    lease_id,
    new_lease,
    text_or_base64,
)
from http_api.v1.kv import BODY_PROBLEMS, READ_PROBLEMS, WRITE_PROBLEMS
from kvstore.commands.commands import Grant, Revoke
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
from kvstore.state.lease_table import LEASE_TTL_S_MAX, LEASE_TTL_S_MIN

GRANT_BYTES_MAX = 4096
LIMIT_MAX = 10_000
"""Leases in one listing, and keys in the description of one lease."""


class GrantRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`ttl_s`: seconds that it lasts unless it is kept alive. `id`: chosen here by default."""

    ttl_s: Annotated[int, Meta(ge=1, le=LEASE_TTL_S_MAX)]
    id: LeaseIdText | None = None


# -- handlers -------------------------------------------------------------------------------


async def grant(ask: Ask[GrantRequest]) -> Answer:
    """Begin a lease."""
    timeout_s = params.timeout(ask.options(), ask.config)
    wanted = await ask.read()
    ttl_s = max(wanted.ttl_s, LEASE_TTL_S_MIN)
    once = ask.idempotency_key()
    while True:
        lease = new_lease(once) if wanted.id is None else lease_id(wanted.id, "id")
        result = await ask.execute(Grant(lease, ttl_s), timeout_s)
        if not isinstance(result, LeaseTaken) or wanted.id is not None or once is not None:
            break
    if not isinstance(result, Granted):
        raise refusal(result)
    return json_answer({"id": str(result.lease), "ttl_s": result.ttl_s}, 201)


async def page(ask: Ask[None]) -> Answer:
    """All leases, page by page, in no order that means anything."""
    found = ask.options()
    limit = LIMIT_MAX
    if "limit" in found:
        limit = params.integer(found["limit"], "limit", 1, LIMIT_MAX)
    after = None
    if "cursor" in found:
        after = lease_id(found["cursor"].decode("utf-8", "replace"), "cursor")
    await ask.session.readable(*params.read_options(found, ask.config))
    leases: list[dict[str, Any]] = []
    async for piece in ask.session.lease_pieces(limit + 1, after):
        leases += ({"id": str(lease), "ttl_s": ttl_s} for lease, ttl_s in piece)
    more = len(leases) > limit
    del leases[limit:]
    cursor = leases[-1]["id"] if more else None
    return json_answer({"leases": leases, "cursor": cursor})


async def get(ask: Ask[None]) -> Answer:
    """How long it has left, and its keys."""
    lease, timeout_s = _named(ask)
    held, _ = await asyncio.gather(
        ask.session.look(lease, timeout_s), ask.session.read_barrier(timeout_s)
    )
    if held is None:
        raise LeaseNotFound(lease)
    keys = await ask.session.lease_keys(lease)
    return json_answer(
        {
            "id": str(lease),
            "ttl_s": held.ttl_s,
            "left_s": round(held.left_s, 3),
            "keys": [dict((text_or_base64("key", key),)) for key in keys[:LIMIT_MAX]],
            "more": len(keys) > LIMIT_MAX,
        }
    )


async def keep_alive(ask: Ask[None]) -> Answer:
    """Its full time again from now."""
    lease, timeout_s = _named(ask)
    held = await ask.session.renew(lease, timeout_s)
    if held is None:
        raise LeaseNotFound(lease)
    return json_answer({"id": str(lease), "ttl_s": held.ttl_s})


async def revoke(ask: Ask[None]) -> Answer:
    """End it now, and delete its keys."""
    lease, timeout_s = _named(ask)
    result = await ask.execute(Revoke(lease), timeout_s)
    if not isinstance(result, Revoked):
        raise refusal(result)
    return json_answer({"revision": result.revision, "deleted": result.deleted})


def _named(ask: Ask[None]) -> tuple[int, float]:
    """The lease in the path, and the time-out."""
    text = params.percent_decode(ask.parameter, "id").decode("utf-8", "replace")
    return lease_id(text, "id"), params.timeout(ask.options(), ask.config)


_ID = {"type": "string", "description": "A 64-bit number"}
_TTL_S = {"type": "integer", "description": "Seconds that it lasts unless it is kept alive"}
_LEASE = {"id": _ID, "ttl_s": _TTL_S}
_ASK_PROBLEMS = (InvalidArgument, LeaseNotFound, NoQuorum, Overloaded, Stopping)
_GRANT = Doc(
    "Grant a lease",
    query=("timeout",),
    headers=("Idempotency-Key",),
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

CALLS = (
    Call("POST", "/v1/leases", grant, Need.CALLER, _GRANT, GRANT_BYTES_MAX, GrantRequest),
    Call("GET", "/v1/leases", page, Need.CALLER, _LIST),
    Call("GET", "/v1/leases/{id}", get, Need.CALLER, _GET),
    Call("DELETE", "/v1/leases/{id}", revoke, Need.CALLER, _REVOKE),
    Call("POST", "/v1/leases/{id}/keep-alive", keep_alive, Need.CALLER, _KEEP_ALIVE),
)
