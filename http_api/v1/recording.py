"""`GET /v1/node/recording`: the flight recorder of this node, as newline-delimited JSON.

The first line says whose recording it is and relates its monotonic clock to the wall clock; each
further line is one thing that happened. Keys and values are not in it, but log lines are.
"""

from itertools import islice
from typing import Any

import orjson

from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.responses import Answer, answer
from http_api.core.session import Session
from http_api.v1.cluster import cluster_document
from http_api.v1.health import server_version
from http_api.v1.overview import write_quorum
from kvstore.errors import InvalidArgument
from kvstore.replica.recorder import Recorded

FORMAT = 1
NDJSON = b"application/x-ndjson"
EVENTS_PER_SLICE = 1000


def _head(session: Session) -> dict[str, Any]:
    recent, status = session.recent, session.status()
    return {
        "format": FORMAT,
        "node": status.id,
        "at_s": recent.clock.monotonic(),
        "wall_ms": recent.clock.wall_ms(),
        "version": server_version(),
        "quorum": write_quorum(status),
        "cluster": cluster_document(status),
        "leaders": [change._asdict() for change in recent.changes],
    }


def _line(one: Recorded) -> bytes:
    ballot = None if one.ballot is None else str(one.ballot)
    return orjson.dumps([round(one.at_s, 6), *one[1:4], ballot, *one[5:]])


async def record(session: Session) -> bytes:
    """All that is kept, in slices between which the loop goes on."""
    lines = [orjson.dumps(_head(session))]
    events = session.recent.everything()
    while piece := list(islice(events, EVENTS_PER_SLICE)):
        lines += map(_line, piece)
        await session.rest()
    return b"\n".join([*lines, b""])


async def get(ask: Ask[None]) -> Answer:
    """The recording."""
    ask.options()
    return answer(200, await record(ask.session), NDJSON)


_DOC = Doc(
    "The flight recorder of this node: a head, then one line for each thing that happened",
    answers={
        200: {
            "description": "Lines of JSON: an object, then arrays of time in seconds, name, "
            "message or text, peer, ballot, slot, number, more",
            "type": NDJSON.decode(),
        }
    },
    problems=(InvalidArgument,),
)
CALLS = (Call("GET", "/v1/node/recording", get, Need.CLUSTER, _DOC),)
