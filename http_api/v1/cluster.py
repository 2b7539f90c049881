"""`/v1/cluster` and `/v1/compact`: what the operator sees and does."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from http_api.core import params
from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.problems import refusal
from http_api.core.responses import Answer, json_answer
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
from kvstore.replica.status import ConfigurationStatus, MemberStatus, ReplicaStatus

NODE_ID_MAX = (1 << 31) - 1
BODY_BYTES_MAX = 65_536


def cluster_document(status: ReplicaStatus) -> dict[str, Any]:
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
        "members": [member_document(member, status.clock_ms) for member in status.members],
        "configuration": configuration_document(status.configuration),
    }


def _node_document(status: ReplicaStatus) -> dict[str, Any]:
    return {
        "id": status.id,
        "name": status.name,
        "role": status.role,
        "ready": status.ready,
        "reason": status.reason,
        "warnings": list(status.warnings),
        "incarnation": status.incarnation,
        "checkpointed_through": status.checkpointed_through,
        "log_first_slot": status.log_first_slot,
        "log_bytes": status.log_bytes,
        "state_bytes": status.state_bytes,
        "out_of_space": status.out_of_space,
        "digest": status.digest,
    }


def _leader_document(leader: int | None, members: dict[int, MemberStatus]) -> dict[str, Any] | None:
    if leader is None:
        return None
    member = members.get(leader)
    return {"id": leader, "client_address": None if member is None else member.client_address}


def member_document(member: MemberStatus, now_ms: int) -> dict[str, Any]:
    """One member as one node knows it, when the log's clock shows `now_ms`."""
    return {
        "id": member.id,
        "name": member.name,
        "kind": member.kind,
        "role": None if member.kind == "expected" else member.role,
        "peer_address": member.peer_address,
        "client_address": member.client_address,
        "connected": member.connected,
        "link": member.link,
        "silent_s": None if member.silent_s is None else round(member.silent_s, 3),
        "chosen_through": member.chosen_through,
        "lag": member.lag,
        "incarnation": member.incarnation,
        "replaces": member.replaces,
        "since_ms": member.since_ms,
        "member_s": max(now_ms - member.since_ms, 0) // 1000,
    }


def configuration_document(found: ConfigurationStatus | None) -> dict[str, Any] | None:
    """Who votes; None until the cluster has formed."""
    return None if found is None else msgspec.to_builtins(found)


# -- handlers -------------------------------------------------------------------------------


class HandoverRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`to`: the node that is to lead; any that is able to if it is left out."""

    to: Annotated[int, Meta(ge=1, le=NODE_ID_MAX)] | None = None


class CompactRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`revision`: the oldest that stays readable."""

    revision: Annotated[int, Meta(ge=1, le=params.REVISION_MAX)]


async def get(ask: Ask[None]) -> Answer:
    """Members, roles, leader and positions, as this node knows them."""
    ask.options()
    return json_answer(cluster_document(ask.session.status()))


async def hand_over(ask: Ask[HandoverRequest]) -> Answer:
    """Make another node the leader: `to`, or the one that is furthest on."""
    timeout_s = params.timeout(ask.options(), ask.config)
    to = (await ask.read()).to
    if to is not None:
        known = sorted(member.id for member in ask.session.status().members)
        if to not in known:
            ids = ", ".join(map(str, known))
            raise InvalidArgument("to", f"to: there is no node {to}; the members are {ids}")
    return json_answer({"leader": await ask.session.hand_over(to, timeout_s)})


async def compact(ask: Ask[CompactRequest]) -> Answer:
    """Give up the history below a revision."""
    timeout_s = params.timeout(ask.options(), ask.config)
    revision = (await ask.read()).revision
    result = await ask.execute(Compact(revision), timeout_s)
    if not isinstance(result, Compacted):
        raise refusal(result)
    return json_answer({"compacted_revision": result.revision})


_INTEGER = {"type": "integer"}
_MAYBE_INTEGER = {"type": ["integer", "null"]}
_TEXT = {"type": "string"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_IDS = {"type": "array", "items": _INTEGER}
MEMBER = {
    "type": "object",
    "properties": {
        "id": _INTEGER,
        "name": _TEXT,
        "kind": {
            "type": "string",
            "enum": ["voter", "learner", "expected"],
            "description": "expected: added, and has not come yet",
        },
        "role": {"type": ["string", "null"], "description": "null: not known to this node"},
        "peer_address": _TEXT,
        "client_address": _MAYBE_TEXT,
        "connected": {"type": "boolean", "description": "Heard lately"},
        "link": {"type": "string", "description": "up, or since when it is not, and why"},
        "silent_s": {
            "type": ["number", "null"],
            "description": "Seconds since it was heard; null: never",
        },
        "chosen_through": _MAYBE_INTEGER,
        "lag": {"type": ["integer", "null"], "description": "Slots behind the leader"},
        "incarnation": {"type": "string", "description": "One life of its disk"},
        "replaces": {"type": "integer", "description": "Who goes once it votes, 0: nobody"},
        "since_ms": {"type": "integer", "description": "When it came; 0: with the cluster"},
        "member_s": {"type": "integer", "description": "Seconds since then, by the log's clock"},
    },
}
CONFIGURATION = {
    "type": ["object", "null"],
    "description": "Who votes; null until the cluster has formed",
    "properties": {
        "number": {"type": "integer", "description": "Counts the changes of the members"},
        "voters": _IDS,
        "learners": _IDS,
        "phase1": {"type": "integer", "description": "Promises that a new leader needs"},
        "phase2": {"type": "integer", "description": "Acceptances that a write needs"},
        "distance": {"type": "integer", "description": "Slots until a change governs"},
        "under_way": {"type": "string", "description": "Where a change leads; empty: none"},
    },
}
_NODE = {
    "type": "object",
    "description": "The node that answers",
    "properties": {
        "id": _INTEGER,
        "name": _TEXT,
        "role": {"type": "string", "enum": ["leader", "follower", "candidate"]},
        "ready": {"type": "boolean"},
        "reason": {"type": "string", "description": "Why it is not ready"},
        "warnings": {
            "type": "array",
            "items": _TEXT,
            "description": "What an operator must mend although the node may still serve",
        },
        "incarnation": _TEXT,
        "checkpointed_through": _INTEGER,
        "log_first_slot": _INTEGER,
        "log_bytes": _INTEGER,
        "state_bytes": _INTEGER,
        "out_of_space": {"type": "string", "description": "Why what grows is refused, or empty"},
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
                "members": {"type": "array", "items": MEMBER},
                "configuration": CONFIGURATION,
            },
        }
    },
    problems=(InvalidArgument,),
)
_HANDOVER = Doc(
    "Hand leadership over",
    query=("timeout",),
    answers={200: {"description": "Done", "properties": {"leader": _INTEGER}}},
    problems=(InvalidArgument, NoQuorum, Overloaded, Stopping, *BODY_PROBLEMS),
)
_COMPACT = Doc(
    "Give up the history below a revision",
    query=("timeout",),
    headers=("Idempotency-Key",),
    answers={
        200: {
            "description": "Done; `compacted_revision` is the oldest readable one",
            "properties": {"compacted_revision": _INTEGER},
        }
    },
    problems=(RevisionInFuture, RevisionCompacted, *WRITE_PROBLEMS, *BODY_PROBLEMS),
)

CALLS = (
    Call("GET", "/v1/cluster", get, Need.CALLER, _GET),
    Call(
        "POST", "/v1/cluster/handover", hand_over, Need.CLUSTER, _HANDOVER,
        BODY_BYTES_MAX, HandoverRequest, empty_body=True,
    ),
    Call(
        "POST", "/v1/compact", compact, Need.CLUSTER, _COMPACT,
        BODY_BYTES_MAX, CompactRequest, empty_body=True,
    ),
)  # fmt: skip
