"""Bad input, as a table: each case has its status, its problem type, and a sentence that helps."""

import asyncio
from typing import NamedTuple

import pytest

from kvstore.commands.commands import KEY_BYTES_MAX, VALUE_BYTES_MAX
from kvstore.errors import NoQuorum, OutcomeUnknown, Overloaded, Stopping
from tests.support.raw_http import connect


class Bad(NamedTuple):
    method: str
    target: str
    status: int
    slug: str
    says: str
    headers: dict[str, str] = {}  # noqa: RUF012
    body: bytes = b""


INVALID = "invalid-argument"
LONG = "k" * (KEY_BYTES_MAX + 1)
K = "/v1/kv/k"
CASES = [
    Bad("GET", "/v1/kv/", 400, INVALID, f"1 to {KEY_BYTES_MAX} bytes"),
    Bad("PUT", "/v1/kv/", 400, INVALID, "the key is empty"),
    Bad("PUT", f"/v1/kv/{LONG}", 400, INVALID, f"has {KEY_BYTES_MAX + 1} bytes"),
    Bad("DELETE", f"/v1/kv/{LONG}", 400, INVALID, f"1 to {KEY_BYTES_MAX} bytes"),
    Bad("GET", "/v1/kv/a%zz", 400, INVALID, "'%zz'"),
    Bad("GET", "/v1/kv/a%4", 400, INVALID, "two hexadecimal digits"),
    Bad("PUT", "/v1/kv/a%", 400, INVALID, "percent-encoding", {}, b"v"),
    Bad("GET", f"{K}?revision=x", 400, INVALID, "whole number"),
    Bad("GET", f"{K}?revision=0", 400, INVALID, "from 1 to"),
    Bad("GET", f"{K}?revision=-1", 400, INVALID, "whole number"),
    Bad("GET", f"{K}?revision=99999999999999999999", 400, INVALID, "whole number"),
    Bad("GET", f"{K}?revision=", 400, INVALID, "got ''"),
    Bad("GET", f"{K}?revision=%D9%A1", 400, INVALID, "whole number"),
    Bad("GET", f"{K}?revision=50", 400, "revision-in-future", "current revision is 3"),
    Bad("GET", f"{K}?revision=1", 410, "revision-compacted", "oldest readable revision is 2"),
    Bad("GET", f"{K}?consistency=strong", 400, INVALID, "linearizable or serializable"),
    Bad("GET", f"{K}?timeout=0", 400, INVALID, "more than 0"),
    Bad("GET", f"{K}?timeout=61", 400, INVALID, "at most 60"),
    Bad("GET", f"{K}?timeout=nan", 400, INVALID, "seconds"),
    Bad("GET", f"{K}?timeout=1e1", 400, INVALID, "seconds"),
    Bad("GET", f"{K}?colour=red", 400, INVALID, "'colour'; this call takes: revision"),
    Bad("GET", f"{K}?timeout=1&timeout=1", 400, INVALID, "more than once"),
    Bad("GET", f"{K}?timeout=%zz", 400, INVALID, "percent-encoding"),
    Bad("GET", "/v1/cluster?x=1", 400, INVALID, "this call takes: none"),
    Bad("GET", "/v1/kv/absent", 404, "key-not-found", "does not exist"),
    Bad("GET", f"{K}?revision=3&consistency=serializable&x", 400, INVALID, "'x'"),
    Bad("PUT", f"{K}?consistency=serializable", 400, "contradiction", "for reads", {}, b"v"),
    Bad("DELETE", f"{K}?consistency=serializable", 400, "contradiction", "for reads"),
    Bad("PUT", f"{K}?revision=3", 400, INVALID, "'revision'", {}, b"v"),
    Bad("PUT", K, 400, "contradiction", "send one", {"If-Match": '"3"', "If-None-Match": "*"}),
    Bad("PUT", K, 400, INVALID, "double quotes", {"If-Match": "3"}),
    Bad("PUT", K, 400, INVALID, "double quotes", {"If-Match": '"x"'}),
    Bad("PUT", K, 400, INVALID, "double quotes", {"If-Match": 'W/"3"'}),
    Bad("PUT", K, 400, INVALID, "one revision", {"If-Match": '"3", "4"'}),
    Bad("PUT", K, 400, INVALID, "from 1 to", {"If-Match": '"0"'}),
    Bad("DELETE", K, 400, INVALID, "only *", {"If-None-Match": '"3"'}),
    Bad("PUT", K, 412, "condition-failed", "at revision 3", {"If-Match": '"2"'}, b"v"),
    Bad("PUT", K, 412, "condition-failed", "at revision 3", {"If-None-Match": "*"}, b"v"),
    Bad("PUT", "/v1/kv/absent", 412, "condition-failed", "not exist", {"If-Match": "*"}, b"v"),
    Bad("DELETE", K, 412, "condition-failed", "at revision 3", {"If-Match": '"2"'}),
    Bad("GET", K, 412, "condition-failed", "at revision 3", {"If-Match": '"2"'}),
    Bad("PUT", K, 400, INVALID, "1 to 128 visible", {"Idempotency-Key": "a b"}, b"v"),
    Bad("PUT", K, 400, INVALID, "1 to 128 visible", {"Idempotency-Key": "k" * 129}, b"v"),
    Bad("PUT", K, 400, INVALID, "1 to 128 visible", {"Idempotency-Key": ""}, b"v"),
    Bad("PUT", K, 422, "idempotency-mismatch", "different", {"Idempotency-Key": "used"}, b"v"),
    Bad("PUT", K, 413, "too-large", str(VALUE_BYTES_MAX), {}, b"v" * (VALUE_BYTES_MAX + 1)),
    Bad("PUT", K, 415, "unsupported-content-encoding", "gzip", {"Content-Encoding": "gzip"}, b"v"),
    Bad("PUT", K, 417, "expectation-failed", "100-continue",
        {"Expect": "tea", "Content-Length": "4"}),
    Bad("POST", K, 405, "method-not-allowed", "takes DELETE, GET, HEAD, PUT, OPTIONS", {}, b"v"),
    Bad("PUT", "/v1/kv", 405, "method-not-allowed", "GET, HEAD, OPTIONS", {}, b"v"),
    Bad("DELETE", "/", 405, "method-not-allowed", "GET, HEAD, OPTIONS"),
    Bad("GET", "/v1/compact", 405, "method-not-allowed", "POST, OPTIONS"),
    Bad("GET", "/v2/keys", 404, "not-found", "/openapi.json"),
    Bad("OPTIONS", "/v2/keys", 404, "not-found", "/openapi.json"),
    Bad("GET", "/problems/none", 404, "not-found", "none"),
    Bad("GET", "/v1/kv?limit=0", 400, INVALID, "from 1 to 1000"),
    Bad("GET", "/v1/kv?limit=1001", 400, INVALID, "from 1 to 1000"),
    Bad("GET", "/v1/kv?order=up", 400, INVALID, "asc or desc"),
    Bad("GET", "/v1/kv?keys_only=maybe", 400, INVALID, "true or false"),
    Bad("GET", "/v1/kv?prefix=a&start=b", 400, "contradiction", "without start"),
    Bad("GET", "/v1/kv?start=b&end=a", 400, "contradiction", "greater than start"),
    Bad("GET", "/v1/kv?cursor=zzz", 400, INVALID, "not a cursor"),
    Bad("GET", "/v1/kv?cursor=%00", 400, INVALID, "not a cursor"),
    Bad("GET", f"/v1/kv?cursor=lAHEAWsB{'kZGR' * 900}", 400, INVALID, "not a cursor"),
    Bad("GET", "/v1/kv?revision=50", 400, "revision-in-future", "current revision"),
    Bad("POST", "/v1/compact", 400, INVALID, "missing"),
    Bad("POST", "/v1/compact", 400, "malformed", "JSON", {}, b"{"),
    Bad("POST", "/v1/compact", 400, INVALID, "object", {}, b"[]"),
    Bad("POST", "/v1/compact", 400, INVALID, "`rev`", {}, b'{"rev": 1}'),
    Bad("POST", "/v1/compact", 400, INVALID, "`int`", {}, b'{"revision": "1"}'),
    Bad("POST", "/v1/compact", 400, INVALID, "`int`", {}, b'{"revision": true}'),
    Bad("POST", "/v1/compact", 400, "revision-in-future", "future", {}, b'{"revision": 9}'),
    Bad("POST", "/v1/compact", 410, "revision-compacted", "compacted", {}, b'{"revision": 2}'),
    Bad("POST", "/v1/cluster/handover", 400, INVALID, "members are 1, 2", {}, b'{"to": 9}'),
    Bad("POST", "/v1/cluster/handover", 400, INVALID, "`int", {}, b'{"to": 1.5}'),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method} {case.target[:40]}")
def test_bad_input(case, server):
    async def run():
        async with server() as served, connect(served.address) as connection:
            await connection.call("PUT", "/v1/kv/k", body=b"one")
            await connection.call("PUT", "/v1/kv/k", {"Idempotency-Key": "used"}, b"two")
            await connection.call("POST", "/v1/compact", body=b'{"revision": 2}')
            reply = await connection.call(case.method, case.target, case.headers, case.body)
            assert reply.status == case.status, reply
            assert reply.headers["content-type"] == "application/problem+json"
            problem = reply.json()
            assert problem["status"] == case.status
            assert problem["type"] == f"/problems/{case.slug}"
            assert case.says in problem["detail"]
            assert problem["title"]
            assert problem["outcome"] == "not-applied"
            if case.status == 405:
                assert reply.headers["allow"] in problem["detail"]
            if case.status == 412:
                assert problem["mod_revision"] == (0 if "absent" in case.target else 3)
            assert served.replica.state.revision == 3, "a refused request changed the state"
            if reply.headers.get("connection") != "close":
                assert (await connection.call("GET", "/v1/kv/k")).body == b"two"

    asyncio.run(run())


FAILURES = [
    (NoQuorum("no leader is known"), 503, "no-quorum", "not-applied"),
    (Overloaded("too many requests"), 503, "overloaded", "not-applied"),
    (Stopping("shutting down"), 503, "stopping", "not-applied"),
    (OutcomeUnknown("timed out"), 504, "outcome-unknown", "unknown"),
    (RuntimeError("a defect"), 500, "unexpected", "unknown"),
    (ConnectionError("a defect"), 500, "unexpected", "unknown"),
]


@pytest.mark.parametrize(
    ("error", "status", "slug", "outcome"), FAILURES, ids=[case[2] for case in FAILURES]
)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_failed_writes_say_whether_they_may_have_happened(
    method, error, status, slug, outcome, server, caplog
):
    async def run():
        async with server() as served, connect(served.address) as connection:
            served.replica.fails_with = error
            reply = await connection.call(method, "/v1/kv/k", body=b"v")
            assert reply.status == status
            assert (reply.json()["type"], reply.json()["outcome"]) == (f"/problems/{slug}", outcome)
            assert ("retry-after" in reply.headers) == (status == 503)
            served.replica.fails_with = None
            assert (await connection.call("PUT", "/v1/kv/k", body=b"v")).status == 200

    asyncio.run(run())
    assert ("a defect" in caplog.text) == (status == 500)


def test_failed_reads_changed_nothing(server):
    async def run():
        async with server() as served, connect(served.address) as connection:
            await connection.call("PUT", "/v1/kv/k", body=b"v")
            served.replica.fails_with = RuntimeError("a defect")
            reply = await connection.call("GET", "/v1/kv/k")
            assert (reply.status, reply.json()["outcome"]) == (500, "not-applied")
            assert b"a defect" not in reply.body, "inner details are for the log"
            served.replica.fails_with = NoQuorum("cut off")
            assert (await connection.call("GET", "/v1/kv/k")).status == 503
            local = await connection.call("GET", "/v1/kv/k?consistency=serializable")
            assert (local.status, local.body) == (200, b"v")

    asyncio.run(run())
