"""Cluster, health, metrics, description and page."""

import asyncio
import re

import pytest

from kvstore.errors import KINDS
from tests.support.raw_http import connect


def test_cluster(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            found = (await c.call("GET", "/v1/cluster")).json()
            assert found["leader"] == {"id": 1, "client_address": "127.0.0.1:2"}
            assert found["node"]["role"] == "leader"
            assert (found["ballot"], found["lag"]) == ("1.1", 0)
            assert found["chosen_through"] == found["applied_through"] == 7
            assert [member["id"] for member in found["members"]] == [1, 2]
            assert found["members"][1]["lag"] is None

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "leader"), [(b"", 2), (b"{}", 2), (b'{"to": 1}', 1), (b'{"to": null}', 2)]
)
def test_hand_over(body, leader, server):
    async def run():
        async with server() as served, connect(served.address) as c:
            reply = await c.call("POST", "/v1/cluster/handover", body=body)
            assert (reply.status, reply.json()) == (200, {"leader": leader})

    asyncio.run(run())


def test_compact(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            for value in (b"one", b"two"):
                await c.call("PUT", "/v1/kv/k", body=value)
            reply = await c.call("POST", "/v1/compact", body=b'{"revision": 3}')
            assert (reply.status, reply.json()) == (200, {"compacted_revision": 3})
            gone = await c.call("GET", "/v1/kv/k?revision=2")
            assert (gone.status, gone.json()["compacted_revision"]) == (410, 3)

    asyncio.run(run())


def test_health(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            assert (await c.call("GET", "/healthz")).status == 200
            assert (await c.call("GET", "/readyz")).status == 200
            served.replica.reason = "no leader yet"
            reply = await c.call("GET", "/readyz")
            assert (reply.status, reply.json()["detail"]) == (503, "no leader yet")
            assert (await c.call("GET", "/healthz")).status == 200
            served.replica.stalled = "the ticker was last at work 11 s ago"
            reply = await c.call("GET", "/healthz")
            assert (reply.status, reply.json()["detail"]) == (503, served.replica.stalled)
            assert "version" in (await c.call("GET", "/v1/version")).json()

    asyncio.run(run())


def test_metrics(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            for _ in range(3):
                await c.call("PUT", "/v1/kv/k", body=b"v")
            await c.call("GET", "/v1/kv/none")
            await c.call("GET", "/nowhere")
            reply = await c.call("GET", "/metrics")
            assert reply.headers["content-type"].startswith("text/plain")
            text = reply.body.decode()
            name = "kvstore_http_requests_total"
            assert f'{name}{{method="PUT",route="/v1/kv/{{key}}",status="200"}} 3.0' in text
            assert f'{name}{{method="GET",route="/v1/kv/{{key}}",status="404"}} 1.0' in text
            assert f'{name}{{method="any",route="unmatched",status="404"}} 1.0' in text
            name = "kvstore_http_request_duration_seconds_bucket"
            assert f'{name}{{le="+Inf",method="PUT",route="/v1/kv/{{key}}"}} 3.0' in text

    asyncio.run(run())


def test_options_and_head_on_every_path(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            for call in served.http.calls:
                path = re.sub(r"\{\w+\}", "no-quorum", call.path)
                reply = await c.call("OPTIONS", path)
                assert reply.status == 204
                assert {call.method, "OPTIONS"} <= set(reply.headers["allow"].split(", "))
                if call.method == "GET":
                    assert "HEAD" in reply.headers["allow"]
                endless = call.path in ("/v1/watch", "/v1/overview/live", "/v1/snapshot")
                if call.method == "GET" and not endless:
                    got = await c.call("GET", path)
                    headed = await c.call("HEAD", path)
                    assert (headed.status, headed.body) == (got.status, b"")
                    assert headed.headers["content-type"] == got.headers["content-type"]
            assert (await c.call("OPTIONS", "*")).status == 204

    asyncio.run(run())


def test_openapi_covers_every_route(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            found = (await c.call("GET", "/openapi.json")).json()
            described = {
                (method.upper(), path)
                for path, operations in found["paths"].items()
                for method in operations
            }
            assert described == {(call.method, call.path) for call in served.http.calls}
            ids = set()
            for operations in found["paths"].values():
                for operation in operations.values():
                    ids.add(operation["operationId"])
                    assert operation["summary"]
                    assert "500" in operation["responses"]
                    assert {"200", "201", "204"} & set(operation["responses"])
            assert len(ids) == len(described)
            put = found["paths"]["/v1/kv/{key}"]["put"]
            client = {"400", "401", "403", "404", "408", "409", "412", "413", "415", "417", "422"}
            assert set(put["responses"]) == {"200", "500", "503", "504"} | client
            assert "Retry-After" in put["responses"]["503"]["headers"]

    asyncio.run(run())


def test_every_problem_type_resolves(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            for kind in KINDS.values():
                found = (await c.call("GET", kind.type)).json()
                assert (found["status"], found["meaning"]) == (kind.status, kind.meaning)

    asyncio.run(run())
    assert len({kind.slug for kind in KINDS.values()}) == len(KINDS)


def test_page_needs_nothing_from_outside(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            reply = await c.call("GET", "/")
            assert reply.headers["content-type"] == "text/html; charset=utf-8"
            assert "default-src 'none'" in reply.headers["content-security-policy"]
            assert b"/v1/cluster" in reply.body
            assert not re.search(rb"https?://|//[a-z]+\.", reply.body)

    asyncio.run(run())
