"""Every call of etcd's API, by its row: documented, bounded, and refused as the row says."""

import asyncio
from enum import Enum, auto
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from http_api.callers.authentication import Access
from http_api.core.calls import ADMINISTRATIVE, Need
from http_api.etcd.calls import AnyEtcdCall, SizeRule, StreamCall
from http_api.etcd.errors import RESOURCE_EXHAUSTED, status_of
from http_api.etcd.routes import etcd_calls
from kvstore.errors import Reason, auth_error
from tests.support.etcd_node import EtcdNode, encoded, on_node
from tests.support.guarded_node import Guarded, guarded

REFUSALS = (Reason.NO_USER, Reason.BAD_TOKEN, Reason.DENIED)
WATCH_CODES = {3: "InvalidArgument", 7: "PermissionDenied", 16: "Unauthenticated"}
"""How a refused watch names the codes."""


class Takes(Enum):
    """What a message takes of its sender, where the row needs a caller."""

    NOTHING = auto()
    USER = auto()
    RIGHT = auto()
    """Which the user of `Guarded` does not have."""


class Sample(NamedTuple):
    """A message for a call."""

    fields: dict[str, Any]
    takes: Takes = Takes.RIGHT


LEADER = {"leader": {"name": b"z", "key": b"z/7", "rev": 1, "lease": 7}}
SAMPLES = {
    "kv/range": Sample({"key": b"z"}),
    "kv/put": Sample({"key": b"z"}),
    "kv/deleterange": Sample({"key": b"z"}),
    "kv/txn": Sample({"success": [{"request_put": {"key": b"z"}}]}),
    "kv/compaction": Sample({"revision": 2}, Takes.USER),
    "lease/grant": Sample({"TTL": 60}, Takes.NOTHING),
    "lease/revoke": Sample({"ID": 8}),
    "lease/timetolive": Sample({"ID": 7}),
    "lease/leases": Sample({}),
    "lease/keepalive": Sample({"ID": 7}),
    "kv/lease/revoke": Sample({"ID": 9}),
    "kv/lease/timetolive": Sample({"ID": 7}),
    "kv/lease/leases": Sample({}),
    "watch": Sample({"create_request": {"key": b"z"}}),
    "lock/lock": Sample({"name": b"zlock", "lease": 7}),
    "lock/unlock": Sample({"key": b"zlock/7"}),
    "election/campaign": Sample({"name": b"z", "lease": 7}),
    "election/leader": Sample({"name": b"z"}),
    "election/observe": Sample({"name": b"z"}),
    "election/proclaim": Sample(LEADER),
    "election/resign": Sample(LEADER),
    "cluster/member/list": Sample({}),
    "cluster/member/add": Sample({}),
    "cluster/member/remove": Sample({}),
    "cluster/member/update": Sample({}),
    "cluster/member/promote": Sample({}),
    "maintenance/status": Sample({}),
    "maintenance/alarm": Sample({}, Takes.NOTHING),
    "maintenance/hash": Sample({}),
    "maintenance/defragment": Sample({}),
    "maintenance/snapshot": Sample({}),
    "maintenance/transfer-leadership": Sample({}),
    "maintenance/downgrade": Sample({}, Takes.NOTHING),
    "auth/enable": Sample({}),
    "auth/status": Sample({}),
    "auth/authenticate": Sample({}),
    "auth/user/add": Sample({"name": "new", "password": "x"}),
    "auth/user/get": Sample({"name": "root"}),
    "auth/user/list": Sample({}),
    "auth/user/delete": Sample({"name": "nobody"}),
    "auth/user/changepw": Sample({"name": "nobody", "password": "x"}),
    "auth/user/grant": Sample({"user": "nobody", "role": "r"}),
    "auth/user/revoke": Sample({"name": "nobody", "role": "r"}),
    "auth/role/add": Sample({"name": "new"}),
    "auth/role/get": Sample({"role": "root"}),
    "auth/role/list": Sample({}),
    "auth/role/delete": Sample({"role": "none"}),
    "auth/role/grant": Sample({"name": "none", "perm": {"key": b"z"}}),
    "auth/role/revoke": Sample({"role": "none", "key": b"z"}),
    "auth/disable": Sample({}),
}
"""In the order in which they are sent: what ends authentication comes last."""

Outcome = tuple[int, int, str] | None
"""HTTP status, code and text of an error; None for anything else."""


def rows_of(node: EtcdNode) -> dict[str, AnyEtcdCall]:
    calls = etcd_calls(Access(node.replica, 1.0))
    rows = {call.name: call for call in calls}
    assert len(rows) == len(calls)
    return rows


async def first_answer(node: EtcdNode, head: str, body: bytes = b"") -> tuple[int, Any]:
    """HTTP status and the first document of the answer; nobody waits for the rest of a stream."""
    reader, writer = await asyncio.open_connection(*node.address)
    try:
        writer.write(f"{head}\r\n\r\n".encode() + body)
        async with asyncio.timeout(20):
            received = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if "transfer-encoding: chunked" in received:
                size = int(await reader.readuntil(b"\r\n"), 16)
            else:
                size = int(received.partition("content-length: ")[2].partition("\r\n")[0])
            document = orjson.loads(await reader.readexactly(size) or b"{}")
        return int(received.split()[1]), document
    finally:
        writer.close()


def head_of(row: AnyEtcdCall, token: str, body_bytes: int) -> str:
    authorization = f"Authorization: {token}\r\n" if token else ""
    return f"{row.method} {row.path} HTTP/1.1\r\nHost: t\r\n{authorization}" + (
        f"Content-Length: {body_bytes}"
    )


async def outcome(node: EtcdNode, row: AnyEtcdCall, token: str) -> Outcome:
    body = orjson.dumps(encoded(SAMPLES[row.name].fields))
    status, document = await first_answer(node, head_of(row, token, len(body)), body)
    match document:
        case {"error": {"http_code": status, "grpc_code": code, "message": text}}:
            return status, code, text
        case {"error": text, "code": code}:
            return status, code, text
        case {"result": {"canceled": True, "cancel_reason": text}}:
            return status, 0, text
    assert status == 200, document
    return None


def told(row: AnyEtcdCall, reason: Reason) -> Outcome:
    """How the row tells a refusal."""
    if row.name == "watch":  # the stream stays open for other watches
        status = status_of(auth_error(reason))
        return 200, 0, f"rpc error: code = {WATCH_CODES[status.code]} desc = {status.text}"
    status = status_of(row.told(auth_error(reason)))
    return status.http_status, status.code, status.text


def expected(row: AnyEtcdCall) -> tuple[Reason | None, Reason | None, Reason | None]:
    """Why it is refused without a token, with a bad one, and to a user without rights."""
    match row.need, SAMPLES[row.name].takes:
        case Need.OPEN, _:
            return None, None, None
        case (Need.NAMED, _) | (Need.CALLER, Takes.NOTHING | Takes.USER):
            return Reason.NO_USER, Reason.BAD_TOKEN, None
    return Reason.NO_USER, Reason.BAD_TOKEN, Reason.DENIED


def test_every_call_is_refused_as_its_row_says(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        rows = rows_of(on.node)
        assert set(SAMPLES) == set(rows)
        await on.ok("lease/grant", on.root, TTL=60, ID=7)
        for lease in (8, 9):
            await on.ok("lease/grant", on.root, TTL=60, ID=lease)
            await on.ok("kv/put", on.root, key=b"z%d" % lease, lease=lease)
        for name in SAMPLES:
            row = rows[name]
            refusals = {told(row, reason) for reason in REFUSALS}
            for token, reason in zip(("", "bad.1", on.user), expected(row), strict=True):
                found = await outcome(on.node, row, token)
                if reason is None:
                    assert found not in refusals, (name, token)
                else:
                    assert found == told(row, reason), (name, token)
            assert await outcome(on.node, row, on.root) not in refusals, name

    guarded(tmp_path, test)


def test_every_call_is_served_while_authentication_is_off(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await node.ok("lease/grant", TTL=60, ID=7)
        rows = rows_of(node)
        for name in SAMPLES:
            row = rows[name]
            refusals = {told(row, reason) for reason in REFUSALS}
            assert await outcome(node, row, "") not in refusals, name
            bad = await outcome(node, row, "bad.1")
            if row.need in (Need.OPEN, Need.NAMED):
                assert bad not in refusals, name
            else:
                assert bad == told(row, Reason.BAD_TOKEN), name

    on_node(tmp_path, test)


def test_every_row_says_what_it_must(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        for name, row in rows_of(node).items():
            assert row.method == "POST" and row.path == f"/v3/{name}"
            summary = row.doc.summary
            assert summary.endswith(".") and len(summary) < 100 and "\n" not in summary, name
            assert row.message is not None and row.message() is not None
            assert row.body_bytes_max > 0
            assert isinstance(row, StreamCall) == (row.size is SizeRule.DOCUMENT), name
            assert row.need in ADMINISTRATIVE or not row.at_apply, name

    on_node(tmp_path, test)


def test_every_body_is_bounded(tmp_path: Path) -> None:
    """By what its head announces: nothing of it is waited for."""

    async def test(node: EtcdNode) -> None:
        for name, row in rows_of(node).items():
            if row.size is SizeRule.DOCUMENT:
                continue
            head = head_of(row, "", row.body_bytes_max + 1)
            status, document = await first_answer(node, head)
            assert (status, document["code"]) == (429, RESOURCE_EXHAUSTED), name

    on_node(tmp_path, test)
