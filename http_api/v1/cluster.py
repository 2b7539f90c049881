"""`/v1/cluster` and `/v1/compact`: what the operator sees and does."""

from typing import Any

from aiohttp import web

from http_api.core import params
from http_api.core.bodies import fields, integer_field
from http_api.core.context import Context
from http_api.core.problems import refusal
from http_api.core.responses import Answer, json_answer
from http_api.core.router import Doc, Route
from http_api.core.store import MemberView, StatusView
from http_api.v1.kv import BODY_PROBLEMS, WRITE_PROBLEMS
from kvstore.commands.commands import Compact
from kvstore.commands.results import Compacted
from kvstore.errors import (
    InvalidArgument,
    NoQuorum,
    Overloaded,
    RevisionCompacted,
    RevisionInFuture,
    Stopping,
)

NODE_ID_MAX = (1 << 31) - 1


def cluster_document(status: StatusView) -> dict[str, Any]:
    """The cluster as one node knows it."""
    members = {member.id: member for member in status.members}
    own = members.get(status.id)
    lag = None if own is None else own.lag
    return {
        "cluster_id": status.cluster_id,
        "node": _node_document(status),
        "leader": _leader_document(status.leader, members),
        "ballot": status.ballot,
        "chosen_through": status.chosen_through,
        "applied_through": status.applied_through,
        "lag": status.chosen_through - status.applied_through if lag is None else lag,
        "revision": status.revision,
        "compacted_revision": status.compacted_revision,
        "members": [_member_document(member) for member in status.members],
    }


def _node_document(status: StatusView) -> dict[str, Any]:
    return {
        "id": status.id,
        "role": status.role,
        "ready": status.ready,
        "reason": status.reason,
        "incarnation": status.incarnation,
        "checkpointed_through": status.checkpointed_through,
        "log_first_slot": status.log_first_slot,
        "log_bytes": status.log_bytes,
        "digest": status.digest,
    }


def _leader_document(leader: int | None, members: dict[int, MemberView]) -> dict[str, Any] | None:
    if leader is None:
        return None
    member = members.get(leader)
    return {"id": leader, "client_address": None if member is None else member.client_address}


def _member_document(member: MemberView) -> dict[str, Any]:
    return {
        "id": member.id,
        "role": member.role,
        "peer_address": member.peer_address,
        "client_address": member.client_address,
        "connected": member.connected,
        "chosen_through": member.chosen_through,
        "lag": member.lag,
    }


class ClusterResource:
    """The handlers of the cluster."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, request: web.BaseRequest, _: str, query: str) -> Answer:
        """Members, roles, leader and positions, as this node knows them."""
        params.parse_query(query, ())
        return json_answer(cluster_document(self._context.replica.status()))

    async def hand_over(self, request: web.BaseRequest, _: str, query: str) -> Answer:
        """Make another node the leader: `to`, or the one that is furthest on."""
        timeout_s = self._timeout(query)
        document = fields(await self._context.bodies.read_json(request), ("to",))
        to: int | None = None
        if document.get("to") is not None:
            to = integer_field(document["to"], "to", 1, NODE_ID_MAX)
            known = sorted(member.id for member in self._context.replica.status().members)
            if to not in known:
                ids = ", ".join(map(str, known))
                raise InvalidArgument("to", f"to: there is no node {to}; the members are {ids}")
        leader = await self._context.replica.hand_over(to, timeout_s)
        return json_answer({"leader": leader})

    async def compact(self, request: web.BaseRequest, _: str, query: str) -> Answer:
        """Give up the history below a revision."""
        timeout_s = self._timeout(query)
        document = fields(await self._context.bodies.read_json(request), ("revision",))
        if "revision" not in document:
            raise InvalidArgument("revision", 'revision: missing; send {"revision": <number>}')
        revision = integer_field(document["revision"], "revision", 1, params.REVISION_MAX)
        result = await self._context.execute(request, Compact(revision), timeout_s)
        if not isinstance(result, Compacted):
            raise refusal(result)
        return json_answer({"compacted_revision": result.revision})

    def _timeout(self, query: str) -> float:
        found = params.parse_query(query, ("timeout",))
        return params.timeout(found, self._context.config)

    def routes(self) -> list[Route]:
        """The calls of this resource."""
        return [
            Route("GET", "/v1/cluster", self.get, _GET),
            Route("POST", "/v1/cluster/handover", self.hand_over, _HANDOVER),
            Route("POST", "/v1/compact", self.compact, _COMPACT),
        ]


_INTEGER = {"type": "integer"}
_MAYBE_INTEGER = {"type": ["integer", "null"]}
_TEXT = {"type": "string"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_MEMBER = {
    "type": "object",
    "properties": {
        "id": _INTEGER,
        "role": {"type": ["string", "null"], "description": "null: not known to this node"},
        "peer_address": _TEXT,
        "client_address": _MAYBE_TEXT,
        "connected": {"type": "boolean"},
        "chosen_through": _MAYBE_INTEGER,
        "lag": {"type": ["integer", "null"], "description": "Slots behind the leader"},
    },
}
_NODE = {
    "type": "object",
    "description": "The node that answers",
    "properties": {
        "id": _INTEGER,
        "role": {"type": "string", "enum": ["leader", "follower", "candidate"]},
        "ready": {"type": "boolean"},
        "reason": {"type": "string", "description": "Why it is not ready"},
        "incarnation": _TEXT,
        "checkpointed_through": _INTEGER,
        "log_first_slot": _INTEGER,
        "log_bytes": _INTEGER,
        "digest": _TEXT,
    },
}
_GET = Doc(
    "The cluster as this node knows it",
    answers={
        200: {
            "description": "Members, leader and positions",
            "properties": {
                "cluster_id": _TEXT,
                "node": _NODE,
                "leader": {
                    "type": ["object", "null"],
                    "properties": {"id": _INTEGER, "client_address": _MAYBE_TEXT},
                },
                "ballot": {"type": "string", "description": "Round and node, as in 3.1"},
                "chosen_through": _INTEGER,
                "applied_through": _INTEGER,
                "lag": {"type": "integer", "description": "Slots that this node is behind"},
                "revision": _INTEGER,
                "compacted_revision": _INTEGER,
                "members": {"type": "array", "items": _MEMBER},
            },
        }
    },
    problems=(InvalidArgument,),
)
_HANDOVER = Doc(
    "Hand leadership over",
    query=("timeout",),
    body={
        "type": "application/json",
        "required": False,
        "schema": {
            "type": "object",
            "properties": {"to": {"type": "integer", "description": "Any node if it is left out"}},
            "additionalProperties": False,
        },
    },
    answers={200: {"description": "Done", "properties": {"leader": _INTEGER}}},
    problems=(InvalidArgument, NoQuorum, Overloaded, Stopping, *BODY_PROBLEMS),
)
_COMPACT = Doc(
    "Give up the history below a revision",
    query=("timeout",),
    headers=("Idempotency-Key",),
    body={
        "type": "application/json",
        "schema": {
            "type": "object",
            "properties": {"revision": {"type": "integer", "minimum": 1}},
            "required": ["revision"],
            "additionalProperties": False,
        },
    },
    answers={
        200: {
            "description": "Done; `compacted_revision` is the oldest readable one",
            "properties": {"compacted_revision": _INTEGER},
        }
    },
    problems=(RevisionInFuture, RevisionCompacted, *WRITE_PROBLEMS, *BODY_PROBLEMS),
)
