"""`/v1/node/slots/{slot}` and `/v1/slots/{slot}`: the messages of one slot, and its commands.

Commands name keys, so these calls are for administrators.
"""

from typing import Any

from http_api.core import params
from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.responses import Answer, json_answer
from http_api.v1.overview import gather
from kvstore.commands.describe import describe_value
from kvstore.errors import InvalidArgument
from kvstore.replica.recorder import Recorded

SLOT_MAX = (1 << 53) - 1
EVENTS_MAX = 400


def _slot(ask: Ask[None]) -> int:
    ask.options()
    raw = params.percent_decode(ask.parameter, "slot")
    return params.integer(raw, "slot", 1, SLOT_MAX)


def _document(ask: Ask[None], slot: int) -> dict[str, Any]:
    recent = ask.session.recent
    wall_ms, now_s = recent.clock.wall_ms(), recent.clock.monotonic()
    value = ask.session.slot_value(slot)
    events = recent.of_slot(slot)[-EVENTS_MAX:]
    return {
        "slot": slot,
        "commands": None if value is None else describe_value(value),
        "events": [_event(one, wall_ms - 1000 * (now_s - one.at_s)) for one in events],
    }


def _event(one: Recorded, at_ms: float) -> dict[str, Any]:
    return {
        "at_ms": round(at_ms, 3),
        "name": one.name,
        "message": one.what,
        "peer": one.peer or None,
        "ballot": None if one.ballot is None else str(one.ballot),
    }


async def of_node(ask: Ask[None]) -> Answer:
    """What this node recorded of a slot."""
    return json_answer(_document(ask, _slot(ask)))


async def of_cluster(ask: Ask[None]) -> Answer:
    """What all nodes recorded of it."""
    slot = _slot(ask)
    heard = await gather(ask, f"/v1/node/slots/{slot}", _document(ask, slot))
    return json_answer({"slot": slot, "nodes": [one._asdict() for one in heard]})


_TEXT = {"type": "string"}
_INTEGER = {"type": "integer"}
_EVENT = {
    "type": "object",
    "properties": {
        "at_ms": {"type": "number", "description": "By the node's clock, since 1970"},
        "name": {"type": "string", "description": "sent, received, own, proposed or applied"},
        "message": _TEXT,
        "peer": {"type": ["integer", "null"]},
        "ballot": {"type": ["string", "null"]},
    },
}
_NODE_PROPERTIES: dict[str, Any] = {
    "slot": _INTEGER,
    "commands": {
        "type": ["array", "null"],
        "items": _TEXT,
        "description": "null: no longer in the log, or not yet",
    },
    "events": {"type": "array", "items": _EVENT},
}
_NODE_DOC = Doc(
    "What this node recorded of a slot, and the slot's commands",
    answers={200: {"description": "Messages and commands", "properties": _NODE_PROPERTIES}},
    problems=(InvalidArgument,),
)
_CLUSTER_DOC = Doc(
    "What all nodes recorded of a slot",
    answers={
        200: {
            "description": "As of /v1/node/slots/{slot}, for each node",
            "properties": {
                "slot": _INTEGER,
                "nodes": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "id": _INTEGER,
                            "document": {"type": ["object", "null"]},
                            "trouble": _TEXT,
                        },
                    },
                },
            },
        }
    },
    problems=(InvalidArgument,),
)

CALLS = (
    Call("GET", "/v1/node/slots/{slot}", of_node, Need.ROOT, _NODE_DOC),
    Call("GET", "/v1/slots/{slot}", of_cluster, Need.ROOT, _CLUSTER_DOC),
)
