"""`/v1/incidents` and `/v1/node/incidents`: what nodes kept by themselves of their consensus.

Each node keeps what it noticed itself. Those of all nodes that are near in time are one incident,
and are handed out as one document of the form that `kvstore incident show` reads.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from http_api.core import params
from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.responses import Answer, answer, json_answer
from http_api.incidents.kept import NEAR_MS
from http_api.incidents.neighbours import Heard
from http_api.v1.overview import gather
from kvstore.errors import InvalidArgument, PathNotFound

FORMAT = 1
"""Of a document with the recordings of several nodes."""
AT_MS_MAX = (1 << 53) - 1
JSON = b"application/json"


def _list(ask: Ask[None]) -> list[dict[str, Any]]:
    kept = ask.facilities.incidents.all()
    return [{"at_ms": one.at_ms, "causes": one.causes, "bytes": one.size} for one in kept]


def together(heard: Sequence[Heard]) -> list[dict[str, Any]]:
    """What the nodes kept, oldest first, as incidents: `at_ms` is that of the first to keep it."""
    kept = sorted(
        (one["at_ms"], node.id, list(one["causes"]))
        for node in heard
        for one in (node.document or {}).get("incidents", ())
    )
    found: list[dict[str, Any]] = []
    for at_ms, node, causes in kept:
        told = {"node": node, "at_ms": at_ms, "causes": causes}
        last = found[-1] if found else None
        if last is None or at_ms - last["at_ms"] > NEAR_MS or node in last["nodes"]:
            found.append({"at_ms": at_ms, "nodes": [node], "kept": [told]})
        else:
            last["nodes"].append(node)
            last["kept"].append(told)
    return found


def _at_ms(ask: Ask[None]) -> int:
    ask.options()
    raw = params.percent_decode(ask.parameter, "at_ms")
    return params.integer(raw, "at_ms", 0, AT_MS_MAX)


async def _near(ask: Ask[None], at_ms: int) -> dict[str, Any]:
    kept = ask.facilities.incidents.nearest(at_ms)
    if kept is None:
        return {"at_ms": None, "causes": [], "recording": None}
    try:
        text = await asyncio.to_thread(ask.facilities.incidents.read, kept)
    except (OSError, EOFError, ValueError) as error:
        return {"at_ms": kept.at_ms, "causes": [f"cannot be read: {error}"], "recording": None}
    return {"at_ms": kept.at_ms, "causes": kept.causes, "recording": text}


# -- handlers -------------------------------------------------------------------------------


async def list_node(ask: Ask[None]) -> Answer:
    """What this node kept."""
    ask.options()
    return json_answer({"incidents": _list(ask)})


async def get_node(ask: Ask[None]) -> Answer:
    """The recording that this node kept near a moment."""
    return json_answer(await _near(ask, _at_ms(ask)))


async def list_all(ask: Ask[None]) -> Answer:
    """What all nodes kept."""
    ask.options()
    heard = await gather(ask, "/v1/node/incidents", {"incidents": _list(ask)})
    silent = {str(one.id): one.trouble for one in heard if one.document is None}
    return json_answer({"incidents": together(heard), "silent": silent})


async def get_all(ask: Ask[None]) -> Answer:
    """The recordings that all nodes kept near a moment, as one document."""
    at_ms = _at_ms(ask)
    heard = await gather(ask, f"/v1/node/incidents/{at_ms}", await _near(ask, at_ms))
    if not any(one.document and one.document.get("recording") for one in heard):
        raise PathNotFound(f"no node that answers kept anything near {at_ms}; see /v1/incidents")
    pieces = []
    for document in _of_nodes(heard):
        pieces.append(orjson.dumps(document))
        await ask.session.rest()
    return answer(200, b'{"format":%d,"nodes":[%s]}' % (FORMAT, b",".join(pieces)), JSON)


def _of_nodes(heard: Sequence[Heard]) -> Iterator[dict[str, Any]]:
    for one in heard:
        if one.document is None:
            yield {"id": one.id, "error": one.trouble}
        elif (text := one.document.get("recording")) is None:
            yield {"id": one.id, "error": "it kept nothing at that time"}
        else:
            yield {"id": one.id, "recording": text, "causes": one.document["causes"]}


# -- their description ----------------------------------------------------------------------

_TIME = {"type": "integer", "description": "By the node's clock, in ms since 1970"}
_CAUSES = {"type": "array", "items": {"type": "string"}}
_KEPT = {
    "type": "object",
    "properties": {"node": {"type": "integer"}, "at_ms": _TIME, "causes": _CAUSES},
}
_LIST_NODE = Doc(
    "What this node kept by itself: when, why, how many bytes",
    answers={
        200: {
            "description": "Oldest first",
            "properties": {"incidents": {"type": "array", "items": {"type": "object"}}},
        }
    },
    problems=(InvalidArgument,),
)
_GET_NODE = Doc(
    "The recording that this node kept near a moment",
    answers={
        200: {
            "description": "nulls if it kept none",
            "properties": {
                "at_ms": {"type": ["integer", "null"]},
                "causes": _CAUSES,
                "recording": {
                    "type": ["string", "null"],
                    "description": "As of /v1/node/recording",
                },
            },
        }
    },
    problems=(InvalidArgument,),
)
_LIST_ALL = Doc(
    "What all nodes kept by themselves, gathered by this one",
    answers={
        200: {
            "description": "Oldest first; `silent` says why some did not answer",
            "properties": {
                "incidents": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "at_ms": _TIME,
                            "nodes": {"type": "array", "items": {"type": "integer"}},
                            "kept": {"type": "array", "items": _KEPT},
                        },
                    },
                },
                "silent": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        }
    },
    problems=(InvalidArgument,),
)
_GET_ALL = Doc(
    "The recordings that all nodes kept near a moment: a file for `kvstore incident show`",
    answers={
        200: {
            "description": "The recording of each node, or why there is none",
            "properties": {
                "format": {"type": "integer"},
                "nodes": {"type": "array", "items": {"type": "object"}},
            },
        }
    },
    problems=(InvalidArgument, PathNotFound),
)
CALLS = (
    Call("GET", "/v1/node/incidents", list_node, Need.CLUSTER, _LIST_NODE),
    Call("GET", "/v1/node/incidents/{at_ms}", get_node, Need.CLUSTER, _GET_NODE),
    Call("GET", "/v1/incidents", list_all, Need.CLUSTER, _LIST_ALL),
    Call("GET", "/v1/incidents/{at_ms}", get_all, Need.CLUSTER, _GET_ALL),
)
