"""The outside of etcd's API: paths, methods, headers, and JSON in all its spellings."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from http_api.etcd import hot, ranges
from kvstore.errors import NoQuorum, OutcomeUnknown
from tests.support.etcd_node import NOBODY, EtcdNode, error_of, etcd_node, on_node, revision
from tests.support.raw_http import connect

JSON, TEXT = "application/json", "text/plain; charset=utf-8"

# -- paths and methods ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "content_type", "body"),
    [
        ("GET", "/version", 200, JSON, b'{"etcdserver":"3.5.1","etcdcluster":"3.5.0"}'),
        ("POST", "/version", 405, TEXT, b"Method Not Allowed\n"),
        ("GET", "/health", 200, TEXT, b'{"health":"true","reason":""}'),
        ("GET", "/health?serializable=true", 200, None, b'{"health":"true","reason":""}'),
        ("POST", "/health", 405, TEXT, b"Method Not Allowed\n"),
        ("POST", "/v3/nope", 404, TEXT, b"Not Found\n"),
        ("POST", "/v3/kv/range/", 404, TEXT, b"Not Found\n"),
        ("POST", "/v3/", 404, TEXT, b"Not Found\n"),
        ("GET", "/v3/kv/range", 405, TEXT, b"Method Not Allowed\n"),
        ("PUT", "/v3/kv/range", 405, TEXT, b"Method Not Allowed\n"),
        ("GET", "/v3/maintenance/snapshot", 405, TEXT, b"Method Not Allowed\n"),
        ("DELETE", "/v3/watch", 405, TEXT, b"Method Not Allowed\n"),
        ("GET", "/v3/nope", 404, TEXT, b"Not Found\n"),
        ("OPTIONS", "/v3/kv/range", 200, None, b""),
        ("OPTIONS", "/v3/nope", 200, None, b""),
        ("OPTIONS", "/version", 200, None, b""),
        ("POST", "/v3", 301, None, b""),
    ],
)  # fmt: skip
def test_paths(
    tmp_path: Path, method: str, path: str, status: int, content_type: str | None, body: bytes
) -> None:
    async def test(node: EtcdNode) -> None:
        reply = await node.raw(path, method=method)
        assert (reply.status, reply.body) == (status, body)
        if content_type:
            assert reply.headers["content-type"] == content_type
        # The connection is still good.
        assert (await node.raw("/v3/lease/leases")).status == 200

    on_node(tmp_path, test)


def test_v3alpha_is_gone_and_v3beta_is_v3(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        assert (await node.raw("/v3alpha/kv/range", b"{}")).status == 404
        await node.ok("kv/put", key=b"k", value=b"v")
        found = await node.raw("/v3beta/kv/range?ignored=1", b'{"key":"aw=="}')
        assert found.status == 200 and found.json()["count"] == "1"
        assert not found.body.endswith(b"\n")

    on_node(tmp_path, test)


def test_headers_and_framing_of_requests_do_not_matter(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        body = b'{"key":"aw==","value":"dg=="}'
        for headers in (
            {"Content-Type": "text/html", "Accept": "image/png"},
            {"Expect": "100-continue"},
        ):
            async with connect(node.address) as other:
                if "Expect" in headers:
                    head = b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                    await other.send(head + b"Content-Length: %d\r\n\r\n" % len(body))
                    await asyncio.wait_for(other._reader.readuntil(b"100 Continue\r\n\r\n"), 10)
                    await other.send(body)
                    assert (await other.reply()).status == 200
                else:
                    reply = await other.call("POST", "/v3/kv/put", headers, body)
                    assert reply.status == 200
        async with connect(node.address) as other:
            await other.send(
                b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"5\r\n" + body[:5] + b"\r\n%x\r\n" % len(body[5:]) + body[5:] + b"\r\n0\r\n\r\n"
            )
            assert revision((await other.reply()).json()) == 4

    on_node(tmp_path, test)


def test_a_defect_is_an_error_of_etcds_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(node: EtcdNode) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError("the defect")

        monkeypatch.setattr(ranges, "select_of", broken)
        monkeypatch.setattr(hot.EtcdRange, "answer", broken)
        # The first is served by the fast lane, the second is not.
        for message in ({"key": "aw=="}, {"key": "aw==", "limit": 1}):
            caplog.clear()
            reply = await node.post("kv/range", message)
            assert error_of(reply)[:2] == (500, 2) and b"defect" not in reply.body
            assert "the defect" in caplog.text
        assert (await node.raw("/v3/lease/leases")).status == 200

    on_node(tmp_path, test)


def test_health_without_a_quorum_and_unknown_outcomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(node: EtcdNode) -> None:
        def barrier(timeout_s: float, reads: int = 1) -> None:
            raise NoQuorum("nobody answers")

        def submit(command: object, timeout_s: float) -> None:
            assert timeout_s < 7
            raise OutcomeUnknown("nobody answers")

        monkeypatch.setattr(node.replica, "barrier", barrier)
        for name in ("submit", "submit_group"):
            monkeypatch.setattr(node.replica, name, submit)
        reply = await node.raw("/health", method="GET")
        assert (reply.status, reply.json()["health"]) == (503, "false")
        reply = await node.raw("/health?serializable=true", method="GET")
        assert (reply.status, reply.json()["health"]) == (200, "true")
        timed_out = (503, 14, "etcdserver: request timed out")
        assert await node.refused("kv/put", key=b"k") == timed_out

    on_node(tmp_path, test)


def test_health_of_a_failed_node(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        node.replica.fail("the disk is gone")
        for query in ("", "?serializable=true"):
            reply = await node.raw(f"/health{query}", method="GET")
            assert (reply.status, reply.json()["health"]) == (503, "false")
        stopped = (503, 14, "etcdserver: server stopped")
        assert await node.refused("kv/put", key=b"k") == stopped

    on_node(tmp_path, test)


# -- JSON in --------------------------------------------------------------------------------

RANGE = "/v3/kv/range"


@pytest.mark.parametrize(
    "body",
    [
        b'{"key":"aw=="} trailing',
        b'{"key":"aw=="}{"key":1}',
        b'\n\t {"key":"aw=="}\n',
        b'{"key":"","key":"aw=="}',
        b'{"key":"aw==","nope":[{}]}',
        b'{"key":"\\u0061w=="}',
        b'{"key":"a\\nw==\\r\\n"}',
        b'{"key":"ax=="}',
        b'{"key":[107]}',
        b'{"key":"aw==","limit":5}',
        b'{"key":"aw==","limit":"5"}',
        b'{"key":"aw==","limit":" 5 "}',
        b'{"key":"aw==","limit":"null"}',
        b'{"key":"aw==","limit":-0}',
        b'{"key":"aw==","limit":"-5"}',
        b'{"key":"aw==","limit":9223372036854775807}',
        b'{"key":"aw==","minModRevision":"1"}',
        b'{"key":"aw==","limit":null,"sort_order":null,"keys_only":null,"range_end":null}',
        b'{"key":"aw==","sort_order":"DESCEND","sortTarget":1}',
        b'{"key":"aw==","revision":"0","nope":"\xff"}',
    ],
)
def test_json_accepted(tmp_path: Path, body: bytes) -> None:
    async def test(node: EtcdNode) -> None:
        await node.ok("kv/put", key=b"k", value=b"v")
        reply = await node.raw(RANGE, body)
        assert reply.status == 200 and reply.json()["count"] == "1"

    on_node(tmp_path, test)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "etcdserver: key is not provided"),
        (b" \n", "etcdserver: key is not provided"),
        (b"null", "etcdserver: key is not provided"),
        (b'{"KEY":"aw=="}', "etcdserver: key is not provided"),
        (b"x", "invalid character 'x' looking for beginning of value"),
        (b"{", "unexpected EOF"),
        (b'{"key":"aw=="', "unexpected EOF"),
        (b'{"key":"aw', "unexpected EOF"),
        (b'{"key":tr', "unexpected EOF"),
        (b'{"key":"aw==",}', "invalid character '}' looking for beginning of object key string"),
        (b'{"key":NaN}', "invalid character 'N' looking for beginning of value"),
        (b"[]", "json: cannot unmarshal array into Go value of type map[string]json.RawMessage"),
        (b'"a"', "json: cannot unmarshal string into Go value of type map[string]json.RawMessage"),
        (b"5", "json: cannot unmarshal number into Go value of type map[string]json.RawMessage"),
        (b"true", "json: cannot unmarshal bool into Go value of type map[string]json.RawMessage"),
        (b"[" * 100_000, None),
        (b'{"key":"aw"}', "illegal base64 data at input byte 0"),
        (b'{"key":"aw=!"}', "illegal base64 data at input byte 2"),
        (b'{"key":"a-=="}', "illegal base64 data at input byte 1"),
        (b'{"key":"a\\nw="}', "illegal base64 data at input byte 4"),
        (b'{"key":"YWJjaw"}', "illegal base64 data at input byte 4"),
        (b'{"key":"aw==x"}', "illegal base64 data at input byte 4"),
        (b'{"key":"\xc3\xa4"}', "illegal base64 data at input byte 0"),
        (b'{"key":5}', "json: cannot unmarshal number into Go value of type []uint8"),
        (b'{"limit":1.5}', "json: cannot unmarshal number 1.5 into Go value of type int64"),
        (b'{"limit":1.0}', "json: cannot unmarshal number 1.0 into Go value of type int64"),
        (b'{"limit":1e3}', None),
        (b'{"limit":"1.0"}', "json: cannot unmarshal number 1.0 into Go value of type int64"),
        (b'{"limit":"abc"}', "invalid character 'a' looking for beginning of value"),
        (b'{"limit":""}', "unexpected end of JSON input"),
        (b'{"limit":"+1"}', "invalid character '+' looking for beginning of value"),
        (b'{"limit":"010"}', "invalid character '1' after top-level value"),
        (b'{"limit":"1_0"}', "invalid character '_' after top-level value"),
        (b'{"limit":true}', "json: cannot unmarshal bool into Go value of type int64"),
        (b'{"limit":[1]}', "json: cannot unmarshal array into Go value of type int64"),
        (
            b'{"limit":9223372036854775808}',
            "json: cannot unmarshal number 9223372036854775808 into Go value of type int64",
        ),
        (
            b'{"limit":"-9223372036854775809"}',
            "json: cannot unmarshal number -9223372036854775809 into Go value of type int64",
        ),
        (b'{"limit":99999999999999999999999}', None),
        (b'{"keys_only":"true"}', "json: cannot unmarshal string into Go value of type bool"),
        (b'{"keys_only":1}', "json: cannot unmarshal number into Go value of type bool"),
        (
            b'{"sort_order":"bogus"}',
            'unknown value "\\"bogus\\"" for enum etcdserverpb.RangeRequest.SortOrder',
        ),
        (
            b'{"sort_order":"descend"}',
            'unknown value "\\"descend\\"" for enum etcdserverpb.RangeRequest.SortOrder',
        ),
        (
            b'{"sort_target":"2"}',
            'unknown value "\\"2\\"" for enum etcdserverpb.RangeRequest.SortTarget',
        ),
        (b'{"sort_target":9}', None),
        (b'{"sort_order":true}', None),
    ],
)
def test_json_refused(tmp_path: Path, body: bytes, text: str | None) -> None:
    """The texts are those of etcd 3.5.1; None: only the code is."""

    async def test(node: EtcdNode) -> None:
        reply = await node.raw(RANGE, body)
        status, code, found = error_of(reply)
        assert (status, code) == (400, 3)
        assert text is None or found == text
        assert (await node.raw(RANGE, b'{"key":"aw=="}')).status == 200

    on_node(tmp_path, test)


def test_lists_refused_and_accepted(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        reply = await node.raw("/v3/kv/txn", b'{"success":{}}')
        text = "json: cannot unmarshal object into Go value of type []json.RawMessage"
        assert error_of(reply) == (400, 3, text)
        reply = await node.raw("/v3/kv/txn", b'{"success":[],"failure":null}')
        assert reply.json()["succeeded"] is True
        for depth in (300, 5000):
            nested = b'{"success":[{"request_txn":' * depth + b"{}" + b"}]}" * depth
            assert error_of(await node.raw("/v3/kv/txn", nested))[:2] == (400, 3)

    on_node(tmp_path, test)


# -- without a quorum -----------------------------------------------------------------------


def test_without_a_quorum(tmp_path: Path) -> None:
    """Everything that needs a quorum says so, and soon; what a node can do alone it does."""

    async def run() -> None:
        members = {1: ("127.0.0.1", 0), 2: NOBODY, 3: ("127.0.0.1", 2)}
        async with etcd_node(tmp_path, members=members, request_timeout_s=0.2) as node:
            key = {"key": b"k"}
            calls: list[tuple[str, dict[str, Any]]] = [
                ("kv/put", key),
                ("kv/deleterange", key),
                ("kv/txn", {"success": [{"request_put": key}]}),
                ("kv/range", key),
                ("kv/compaction", {"revision": 1}),
                ("lease/grant", {"TTL": 5}),
                ("lease/revoke", {"ID": 5}),
                ("lease/timetolive", {"ID": 5}),
            ]
            for path, fields in calls:
                async with asyncio.timeout(2):
                    status, code, text = await node.refused(path, **fields)
                assert (status, code) == (503, 14), path
                assert text in ("etcdserver: no leader", "etcdserver: request timed out")
            # It has met nobody yet: its own state may be that of a disk that was lost.
            refused = await node.refused("kv/range", key=b"k", serializable=True)
            assert refused[:2] == (503, 14)
            await node.ok("lease/leases")
            members_ = (await node.ok("cluster/member/list"))["members"]
            assert len(members_) == 3
            status_ = await node.ok("maintenance/status")
            assert "leader" not in status_
            assert status_["errors"] == ["etcdserver: no leader"]
            reply = await node.raw("/health", method="GET")
            assert reply.status == 503
            assert reply.body == b'{"health":"false","reason":"RAFT NO LEADER"}'
            assert (await node.raw("/version", method="GET")).status == 200

    asyncio.run(run())
