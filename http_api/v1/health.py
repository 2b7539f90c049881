"""`/healthz`, `/readyz`, `/metrics` and `/v1/version`: for orchestrators, Prometheus and people."""

import platform
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.responses import Answer, answer, json_answer
from kvstore.errors import InvalidArgument, NotReady
from kvstore.peers.frames import PROTOCOL_VERSION
from kvstore.storage.data_dir import FORMAT

DISTRIBUTION = "paxos-kvstore"


def server_version() -> str:
    """The installed version; "unknown" when run from a tree that was not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def formats() -> dict[str, int]:
    """What a later release must be able to read if it is to take this one's place."""
    return {"data": FORMAT, "protocol": PROTOCOL_VERSION}


async def alive(ask: Ask[None]) -> Answer:
    """200 while the loop and its threads turn, else 503 and what does not."""
    ask.options()
    if stalled := ask.session.status().stalled:
        raise NotReady(stalled)
    return json_answer({"status": "ok"})


async def ready(ask: Ask[None]) -> Answer:
    """200 while the node serves, else 503 and why not."""
    ask.options()
    status = ask.session.status()
    if not status.ready:
        raise NotReady(status.reason or "the node does not serve yet")
    return json_answer({"status": "ready"})


async def metrics(ask: Ask[None]) -> Answer:
    """Everything for Prometheus, in its text format. Any query is accepted: scrapers send some."""
    body = generate_latest(ask.session.metrics)
    return answer(200, body, CONTENT_TYPE_PLAIN_0_0_4.encode())


async def show_version(ask: Ask[None]) -> Answer:
    """What runs here."""
    ask.options()
    return json_answer(
        {
            "name": DISTRIBUTION,
            "version": server_version(),
            "python": platform.python_version(),
            "formats": formats(),
        }
    )


FORMATS = {
    "type": "object",
    "description": "Of its data directory, and of what nodes say to each other",
    "properties": {"data": {"type": "integer"}, "protocol": {"type": "integer"}},
}
_STATUS = {"status": {"type": "string"}}
_ALIVE = Doc(
    "Whether the process is at work: its loop and its threads turn",
    answers={200: {"description": "It does", "properties": _STATUS}},
    problems=(InvalidArgument, NotReady),
)
_READY = Doc(
    "Whether the node serves reads and writes",
    answers={200: {"description": "It does", "properties": _STATUS}},
    problems=(InvalidArgument, NotReady),
)
_METRICS = Doc(
    "Metrics in Prometheus's text format",
    answers={200: {"description": "All metrics", "type": "text/plain"}},
)
_VERSION = Doc(
    "What runs here",
    answers={
        200: {
            "description": "Name, versions and formats",
            "properties": {
                "name": {"type": "string"},
                "version": {"type": "string"},
                "python": {"type": "string"},
                "formats": FORMATS,
            },
        }
    },
    problems=(InvalidArgument,),
)

CALLS = (
    Call("GET", "/healthz", alive, Need.OPEN, _ALIVE),
    Call("GET", "/readyz", ready, Need.OPEN, _READY),
    Call("GET", "/metrics", metrics, Need.METRICS, _METRICS),
    Call("GET", "/v1/version", show_version, Need.CALLER, _VERSION),
)
