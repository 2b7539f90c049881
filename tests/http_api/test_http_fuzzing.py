"""Anything at all at the client port, on real sockets: each connection is answered or closed in
time, nothing raises on the loop, and the server holds no more afterwards than before."""

import asyncio
from contextlib import AbstractContextManager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from http_api import server
from http_api.core import bodies
from http_api.fast_lane import lane as fast_lane
from http_api.fast_lane.hot_requests import HotRequest
from tests.http_api.conftest import Served, serve_memory
from tests.http_api.test_both_lanes import CASES, prepared
from tests.support.examples import TIMES
from tests.support.fuzzed import Fuzzed, fuzzed
from tests.support.nearly_right import DEADLINE_S, Visit, send, visits
from tests.support.raw_http import connect, request

pytestmark = pytest.mark.proof

HOT = [case.data for case in CASES.values() if case.hot and len(case.data) < 4096]
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
CHUNKED = {"Transfer-Encoding": "chunked"}
OTHERS = [
    *(case.data for case in CASES.values() if not case.hot and len(case.data) < 4096),
    request("PUT", "/v1/kv/k", CHUNKED) + b"3\r\none\r\n0\r\n\r\n",
    request("PUT", "/v1/kv/k", {"Expect": "100-continue"}, b"one"),
    request("PUT", "/v1/kv/k", {"Content-Encoding": "gzip"}, b"\x1f\x8b\x08\0\0\0\0\0"),
    request("GET", "/v1/kv?prefix=&limit=2", {"Accept": "application/x-ndjson"}),
    request("GET", "/v1/kv/k", {"Connection": "close"}),
    request("POST", "/v1/batch", {}, b'{"operations":[{"put":{"key":"k","value":"1"}}]}'),
    request("POST", "/v1/txn", {}, b'{"compare":[],"then":[{"get":{"key":"k"}}]}'),
    request("POST", "/v1/leases", {}, b'{"ttl":60}'),
    request("GET", "/v1/watch?prefix=", {"Last-Event-ID": "1"}),
    request("POST", "/v3/watch", {}, b'{"create_request":{"key":"aw=="}}'),
    request("GET", "/v3/watch", UPGRADE),
    request("GET", "/v1/auth", {"Authorization": "Basic dTp4"}),
    request("HEAD", "/"),
    request("OPTIONS", "*"),
    b"GET /healthz HTTP/1.0\r\n\r\n",
]
PIECES = [
    b"\r\n", b"\r\n\r\n", b"\n", b"\0", b":", b" ", b"%", b"{", b'"', b"\\", b"\xff", b"\x16\3\1",
    b"Content-Length: 3\r\n", b"Content-Length: 99\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Host: x\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"HTTP/1.1", b"a" * 9000,
]  # fmt: skip
some_visits = visits(st.sampled_from(HOT) | st.sampled_from(OTHERS), PIECES)
brief_visits = some_visits.filter(lambda visit: b"/v3/watch" not in visit.stream)
"""Without streams that wait for further documents of their client, for as long as it stays."""


class Place(Fuzzed[Served]):
    """A server that holds what the cases ask for."""

    def __init__(self, runner: asyncio.Runner, what: Served, told: list[str]) -> None:
        super().__init__(runner, what, told)
        prepared(what)

    async def serve(self) -> None:
        async with connect(self.what.address) as connection:
            assert (await connection.call("PUT", "/v1/kv/well", body=b"1")).status == 200
            assert (await connection.call("GET", "/v1/kv/well")).body == b"1"
            assert (await connection.call("GET", "/healthz")).status == 200

    async def visit(self, visit: Visit, silent: bool) -> None:
        """Who falls silent goes once he has been answered."""
        reader, writer = await asyncio.open_connection(*self.what.address)
        try:
            await send(writer, visit, silent=silent)
            with suppress(ConnectionError):
                async with asyncio.timeout(DEADLINE_S):
                    while answer := await reader.read(1 << 16):
                        # etcd answers 500 with its code 2 to what is no JSON, and so do we there.
                        assert b"HTTP/1.1 500" not in answer or b'"code":2,' in answer, answer
                        if silent:
                            break
        finally:
            writer.close()

    def nothing_held(self) -> bool:
        http = self.what.http
        lanes, facilities = http._lanes, http.facilities
        assert lanes is not None
        return not (
            http._connections()
            or lanes.parts
            or lanes.in_work
            or len(facilities.streams)
            or facilities.outgoing.bytes
            or facilities.bodies._free_bytes != facilities.config.pending_bytes_max
        )


def place() -> AbstractContextManager[Place]:
    return fuzzed("client port", serve_memory(), Place)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server waits for nobody for long."""
    monkeypatch.setattr(server, "KEEPALIVE_S", 1.0)
    monkeypatch.setattr(server, "LINGER_S", 0.1)
    monkeypatch.setattr(fast_lane, "REST_S", 0.1)
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.3)


def test_who_sends_anything_at_all_leaves_no_trace() -> None:
    with place() as here:

        @settings(max_examples=60 * TIMES)
        @given(st.lists(some_visits, min_size=1, max_size=6))
        def come(some: list[Visit]) -> None:
            here.take(some, silent=False)

        come()


def test_who_falls_silent_is_answered_or_sent_away() -> None:
    with place() as here:

        @settings(max_examples=3 * TIMES)
        @given(st.lists(brief_visits, min_size=10, max_size=20))
        def come(some: list[Visit]) -> None:
            here.take(some, silent=True)

        come()


def test_the_fast_lane_takes_a_request_however_it_comes_or_none() -> None:
    """What is taken of a beginning is taken of the whole, and ends there."""
    with place() as here:
        lanes = here.what.http._lanes
        assert lanes is not None
        requests = lanes.requests

        @settings(max_examples=300 * TIMES)
        @given(visits(st.sampled_from(HOT), PIECES))
        def come(visit: Visit) -> None:
            here.visits += 1
            whole = requests.find(visit.stream, 0)
            for cut in visit.cuts:
                begun = requests.find(visit.stream[: cut % (len(visit.stream) + 1)], 0)
                if isinstance(begun, HotRequest):
                    assert isinstance(whole, HotRequest) and whole.end == begun.end

        come()
