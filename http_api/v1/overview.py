"""`/v1/node` and `/v1/overview`: what the dashboard and `kvstore doctor` show of nodes and cluster.

A node reports of itself. The overview is the reports of all nodes, gathered by the one that is
asked, and what is wrong according to them.
"""

import asyncio
from collections.abc import Mapping
from time import time_ns
from typing import Any

import orjson
from aiohttp import hdrs, web

from http_api.core.browsers import stream_headers
from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.connections import connections_max
from http_api.core.load import COLUMNS, PERIOD_S
from http_api.core.responses import Answer, json_answer, stream_head
from http_api.core.streams import StreamLink
from http_api.incidents.findings import findings
from http_api.incidents.neighbours import Heard
from http_api.v1.backups import summaries
from http_api.v1.cluster import cluster_document
from http_api.v1.health import FORMATS, formats, server_version
from http_api.v1.watch import EVENT_STREAM, sse
from kvstore.errors import InvalidArgument, Overloaded, Stopping
from kvstore.replica.status import ReplicaStatus

LIVE_PATH = "/v1/overview/live"
LIVE_S = 1.0
"""How often a live overview is sent."""


def report(ask: Ask[None]) -> dict[str, Any]:
    """What this node says of itself."""
    session, config = ask.session, ask.config
    recent = session.recent
    status = session.status()
    return {
        "at_ms": time_ns() // 1_000_000,
        "version": server_version(),
        "formats": formats(),
        "uptime_s": round(ask.facilities.uptime_s, 1),
        "quorum": write_quorum(status),
        "voters": voters(status),
        "connections_max": connections_max(config),
        "log_lines_dropped": session.log_lines_dropped,
        "cluster": cluster_document(status),
        "load": ask.facilities.load.last(),
        "round_trips_ms": {
            str(peer): round(1000 * seconds, 3) for peer, seconds in recent.round_trips_s.items()
        },
        "leaders": [change._asdict() for change in recent.changes],
        "slots": recent.slots(),
        "backups": summaries(session.known_backups()),
        "incidents": [one.at_ms for one in ask.facilities.incidents.all()],
    }


def voters(status: ReplicaStatus) -> list[int]:
    """The members that have a vote."""
    if status.configuration is not None:
        return sorted(status.configuration.voters)
    return sorted(member.id for member in status.members)


def write_quorum(status: ReplicaStatus) -> int:
    """How many of them a write needs."""
    if status.configuration is not None:
        return status.configuration.phase2
    return len(status.members) // 2 + 1


def _urls(ask: Ask[None]) -> dict[int, str | None]:
    status = ask.session.status()
    return {m.id: m.client_address for m in status.members if m.id != status.id}


async def gather(ask: Ask[None], target: str, own: Mapping[str, Any]) -> list[Heard]:
    """What each node answers to `GET target`; this one's answer is `own`."""
    authorization = ask.request.headers.get(hdrs.AUTHORIZATION)
    caller = ask.session.caller
    if authorization is None and caller is not None:  # its certificate said who it is
        authorization = f"Bearer {await ask.facilities.logins.lend(caller)}"
    others = await ask.facilities.neighbours.ask(_urls(ask), target, authorization)
    return sorted([Heard(ask.session.status().id, dict(own)), *others], key=lambda one: one.id)


async def overview(ask: Ask[None]) -> dict[str, Any]:
    """The reports of all nodes, and what is wrong."""
    # As it goes over the wire, so that this node's own report is like the others'.
    own = orjson.loads(_encode(report(ask)))
    heard = await gather(ask, "/v1/node", own)
    return {
        "asked": own["cluster"]["node"]["id"],
        "nodes": [one._asdict() for one in heard],
        "findings": [one._asdict() for one in findings(heard)],
    }


def _encode(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, default=_plain)


def _plain(value: Any) -> Any:
    return {name: getattr(value, name) for name in value.__struct_fields__}


# -- handlers -------------------------------------------------------------------------------


async def get_node(ask: Ask[None]) -> Answer:
    """This node's report."""
    ask.options()
    return json_answer(orjson.loads(_encode(report(ask))))


async def get_load(ask: Ask[None]) -> Answer:
    """The last hour of this node's load."""
    ask.options()
    return json_answer({"period_s": PERIOD_S, "columns": ask.facilities.load.columns()})


async def get_loads(ask: Ask[None]) -> Answer:
    """The last hour of the load of every node."""
    ask.options()
    own = {"period_s": PERIOD_S, "columns": ask.facilities.load.columns()}
    heard = await gather(ask, "/v1/node/load", own)
    return json_answer({"nodes": [one._asdict() for one in heard]})


async def get_overview(ask: Ask[None]) -> Answer:
    """All nodes' reports."""
    ask.options()
    return json_answer(await overview(ask))


async def live(ask: Ask[None]) -> web.StreamResponse:
    """The overview again and again, until the client goes or the server stops."""
    ask.options()
    if ask.request.method == hdrs.METH_HEAD:
        return stream_head(EVENT_STREAM)
    response = web.StreamResponse(
        headers={
            **stream_headers(ask.request, EVENT_STREAM),
            hdrs.CACHE_CONTROL: "no-store",
            "X-Accel-Buffering": "no",
        }
    )
    link = StreamLink(ask.request)

    async def serve() -> None:
        await response.prepare(ask.request)
        while True:
            await link.send(sse("overview", await overview(ask), None))
            await asyncio.sleep(LIVE_S)

    try:
        await ask.streams.run(link, serve())
        await response.write_eof()
    except ConnectionError:
        if not link.closed:
            raise
    except Stopping:
        if not (response.prepared and ask.streams.stopping):
            raise
    return response


# -- their description ----------------------------------------------------------------------

_NUMBER = {"type": "number"}
_INTEGER = {"type": "integer"}
_TEXT = {"type": "string"}
_SLOT = {
    "type": "object",
    "properties": {
        "slot": _INTEGER,
        "state": {"type": "string", "enum": ["proposed", "accepted", "chosen", "applied"]},
        "ballot": _TEXT,
        "accepted_by": {"type": "array", "items": _INTEGER},
        "commands": {"type": ["integer", "null"], "description": "null: not applied yet"},
        "no_op": {"type": ["boolean", "null"]},
        "bytes": _INTEGER,
    },
}
_CHANGE = {
    "type": "object",
    "properties": {
        "at_ms": _INTEGER,
        "leader": {"type": ["integer", "null"], "description": "null: none was known"},
        "ballot": _TEXT,
        "reason": _TEXT,
    },
}
_REPORT: dict[str, Any] = {
    "at_ms": {"type": "integer", "description": "This node's clock, since 1970"},
    "version": _TEXT,
    "formats": FORMATS,
    "uptime_s": _NUMBER,
    "quorum": {"type": "integer", "description": "Nodes that a write needs"},
    "voters": {"type": "array", "items": _INTEGER},
    "connections_max": _INTEGER,
    "log_lines_dropped": _INTEGER,
    "cluster": {"type": "object", "description": "As of /v1/cluster"},
    "load": {
        "type": "object",
        "description": "The last two seconds: " + ", ".join(COLUMNS),
        "additionalProperties": _NUMBER,
    },
    "round_trips_ms": {
        "type": "object",
        "description": "As leader, of the last heartbeat to each peer",
        "additionalProperties": _NUMBER,
    },
    "leaders": {"type": "array", "items": _CHANGE},
    "slots": {"type": "array", "items": _SLOT},
    "incidents": {
        "type": "array",
        "description": "When it kept something by itself; told by /v1/incidents",
        "items": _INTEGER,
    },
    "backups": {
        "type": "array",
        "description": "Names and ages of backups; places are told by /v1/backups",
        "items": {"type": "object"},
    },
}
_OVERVIEW: dict[str, Any] = {
    "asked": {"type": "integer", "description": "The node that answers"},
    "nodes": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "id": _INTEGER,
                "document": {"type": ["object", "null"], "description": "As of /v1/node"},
                "trouble": {"type": "string", "description": "Why it did not answer"},
            },
        },
    },
    "findings": {
        "type": "array",
        "description": "What is wrong, the worst first",
        "items": {
            "type": "object",
            "properties": {
                "severity": {"type": "string", "enum": ["bad", "warn"]},
                "kind": _TEXT,
                "node": {"type": ["integer", "null"]},
                "text": _TEXT,
                "advice": _TEXT,
            },
        },
    },
}
_NODE_DOC = Doc(
    "What this node says of itself: cluster, load, last slots, who led",
    answers={200: {"description": "The report", "properties": _REPORT}},
    problems=(InvalidArgument,),
)
_LOAD_DOC = Doc(
    "The load of this node in the last hour, a row every two seconds",
    answers={
        200: {
            "description": "Columns of equal length, oldest first",
            "properties": {
                "period_s": _NUMBER,
                "columns": {
                    "type": "object",
                    "additionalProperties": {"type": "array", "items": _NUMBER},
                },
            },
        }
    },
    problems=(InvalidArgument,),
)
_LOADS_DOC = Doc(
    "The load of every node in the last hour, gathered by this one",
    answers={
        200: {
            "description": "As of /v1/node/load, for each node",
            "properties": {"nodes": _OVERVIEW["nodes"]},
        }
    },
    problems=(InvalidArgument,),
)
_OVERVIEW_DOC = Doc(
    "The reports of all nodes, gathered by this one, and what is wrong",
    answers={200: {"description": "The overview", "properties": _OVERVIEW}},
    problems=(InvalidArgument,),
)
_LIVE_DOC = Doc(
    "The overview every second, as Server-Sent Events named `overview`",
    answers={200: {"description": "Events", "type": EVENT_STREAM}},
    problems=(InvalidArgument, Overloaded, Stopping),
)

CALLS = (
    Call("GET", "/v1/node", get_node, Need.CALLER, _NODE_DOC),
    Call("GET", "/v1/node/load", get_load, Need.CALLER, _LOAD_DOC),
    Call("GET", "/v1/load", get_loads, Need.CALLER, _LOADS_DOC),
    Call("GET", "/v1/overview", get_overview, Need.CALLER, _OVERVIEW_DOC),
    Call("GET", LIVE_PATH, live, Need.CALLER, _LIVE_DOC),
)
