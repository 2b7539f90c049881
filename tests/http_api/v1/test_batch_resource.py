"""Batches: each operation with its own answer, in order, in both forms."""

import asyncio
import base64
import json
import random

import pytest

from http_api.core.session import GROUP_BYTES_MAX, GROUP_MAX
from http_api.v1 import batch
from kvstore.commands.commands import Compact, Grant, Put
from kvstore.errors import NoQuorum, OutcomeUnknown, Overloaded
from tests.support.raw_http import WAIT_S, connect, request


async def chunked(reader):
    """Status, headers and the body of an answer in chunks."""
    async with asyncio.timeout(WAIT_S):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
            return int(lines[0].split()[1]), headers, body
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
        return int(lines[0].split()[1]), headers, body


async def send(served, operations, lines=False, headers=None):
    """The answers to a batch; anything but 200 as (status, problem)."""
    reader, writer = await asyncio.open_connection(*served.address)
    texts = [op if isinstance(op, str) else json.dumps(op) for op in operations]
    body = "\n".join(texts) if lines else f"[{','.join(texts)}]"
    kind = "application/x-ndjson; charset=utf-8" if lines else "application/json"
    headers = {"Content-Type": kind, **(headers or {})}
    writer.write(request("POST", "/v1/batch", headers, body.encode()))
    status, answered, got = await chunked(reader)
    writer.close()
    if status != 200:
        return status, json.loads(got)
    if lines:
        assert answered["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in got.splitlines()]
    assert answered["content-type"] == "application/json"
    return json.loads(got)


def put(key, value="v", **more):
    return {"put": {"key": key, "value": value, **more}}


def get(key, **more):
    return {"get": {"key": key, **more}}


def delete(key, **more):
    return {"delete": {"key": key, **more}}


@pytest.mark.parametrize("lines", [False, True], ids=["array", "lines"])
def test_a_mix(lines, server):
    async def run():
        async with server() as served:
            served.replica.apply(Grant(7, 60), Put(b"old", b"1"), Put(b"old", b"2"), Compact(3))
            operations = [
                put("a"), get("a"), put("a", "w", if_revision=4), get("a"), delete("a"), get("a"),
                delete("a"), put("b", if_exists=True), put("b", if_absent=True),
                put("b", if_absent=True), put("c", lease="7"), put("d", ttl_s=30),
                put("e", lease="8"), get("old", revision=2), get("old", revision=3),
                {"put": {"key_base64": "/w==", "value_base64": "/gA="}}, {"get": {"key": ""}},
                {"get": {"key_base64": "/w=="}}, {}, {"put": {"key": "x", "valeu": "y"}},
            ]  # fmt: skip
            found = await send(served, operations, lines)
            statuses = [answer["status"] for answer in found]
            assert statuses == [
                200, 200, 200, 200, 200, 404, 200, 412, 200, 412, 200, 200, 404, 410, 200, 200,
                400, 200, 400, 400,
            ]  # fmt: skip
            assert found[0]["put"] == {"revision": 4, "version": 1}
            assert found[1]["get"]["value"] == "v"
            assert found[3]["get"]["value"] == "w"
            assert found[4]["delete"]["deleted"] == 1
            assert found[6]["delete"]["deleted"] == 0
            assert found[7]["problem"]["type"] == "/problems/condition-failed"
            assert found[9]["problem"]["mod_revision"] == found[8]["put"]["revision"]
            own = int(found[11]["put"]["lease"])
            assert served.replica.state.leases.ttl_s(own) == 30
            assert served.replica.state.get(b"d").lease == own
            assert served.replica.state.get(b"c").lease == 7
            assert found[12]["problem"]["type"] == "/problems/lease-not-found"
            assert found[17]["get"]["key_base64"] == "/w=="
            assert found[17]["get"]["value_base64"] == "/gA="
            assert served.replica.keys == [b"b", b"c", b"d", b"old", b"\xff"]

    asyncio.run(run())


def test_operations_on_one_key_keep_their_order(server):
    """Against a model, with a replica that finishes what it runs at once in any order."""
    rng = random.Random(7)

    async def run():
        async with server() as served:
            execute = served.replica.execute

            async def late(command, timeout_s):
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
                return await execute(command, timeout_s)

            served.replica.execute = late
            for _ in range(30):
                model = {item.key: item.value for item in
                         served.replica.state.range(b"", None, limit=100).items}  # fmt: skip
                operations, expected = [], []
                for number in range(40):
                    key, value = rng.choice("abcde"), str(number)
                    kind = rng.choice("pgd")
                    if kind == "p":
                        operations.append(put(key, value))
                        model[key.encode()] = value.encode()
                        expected.append(None)
                    elif kind == "g":
                        operations.append(get(key))
                        held = model.get(key.encode())
                        expected.append(404 if held is None else held.decode())
                    else:
                        operations.append(delete(key))
                        expected.append(int(model.pop(key.encode(), None) is not None))
                found = await send(served, operations)
                for operation, answer, wanted in zip(operations, found, expected, strict=True):
                    if "get" in operation:
                        got = answer.get("get", {}).get("value", answer["status"])
                        assert got == wanted
                    elif "delete" in operation:
                        assert answer["delete"]["deleted"] == wanted

    asyncio.run(run())


def test_distinct_keys_run_together(server):
    async def run():
        async with server() as served:
            groups = groups_of(served.replica)
            found = await send(served, [put(str(number)) for number in range(600)])
            assert [answer["status"] for answer in found] == [200] * 600
            assert groups == [GROUP_MAX, GROUP_MAX, 600 - 2 * GROUP_MAX]
            large = "v" * (GROUP_BYTES_MAX // 3)
            found = await send(served, [put(str(number), large) for number in range(5)])
            assert [answer["status"] for answer in found] == [200] * 5
            assert groups[3:] == [2, 2, 1]

    asyncio.run(run())


def groups_of(replica):
    """How many writes came together, as they come; all of a batch wait for the last of them."""
    groups, submit_group = [], replica.submit_group

    def submitted(commands, timeout_s):
        groups.append(len(commands))
        return submit_group(commands, timeout_s)

    replica.submit_group = submitted
    return groups


def test_where_few_may_wait_groups_are_small(server):
    async def run():
        async with server(pending_requests_max=20) as served:
            groups = groups_of(served.replica)
            found = await send(served, [put(str(number)) for number in range(30)])
            assert [answer["status"] for answer in found] == [200] * 30
            assert groups == [20, 10]

    asyncio.run(run())


def test_a_group_that_is_refused_is_told_for_each(server):
    async def run():
        async with server() as served:
            submit_group = served.replica.submit_group

            def full(commands, timeout_s):
                if commands[0].key != b"0":
                    raise Overloaded("full")
                return submit_group(commands, timeout_s)

            served.replica.submit_group = full
            found = await send(served, [put(str(number)) for number in range(GROUP_MAX + 2)])
            assert [answer["status"] for answer in found] == [200] * GROUP_MAX + [503] * 2
            assert found[-1]["problem"]["outcome"] == "not-applied"
            assert len(served.replica.keys) == GROUP_MAX

    asyncio.run(run())


def test_large_values_are_streamed(server):
    async def run():
        async with server() as served:
            served.replica.apply(Put(b"large", b"x" * (1 << 20)))
            found = await send(served, [get("large")] * 64)
            assert {len(answer["get"]["value"]) for answer in found} == {1 << 20}

    asyncio.run(run())


def test_failures_are_each_operations_own(server):
    async def run():
        async with server() as served:
            served.replica.apply(Put(b"k", b"v"))
            for error, status, outcome in ((NoQuorum("cut off"), 503, "not-applied"),
                                           (OutcomeUnknown("late"), 504, "unknown")):  # fmt: skip
                served.replica.fails_with = error
                found = await send(served, [put("a"), get("k"), put(""), delete("k")])
                assert [answer["status"] for answer in found] == [status, status, 400, status]
                assert found[0]["problem"]["outcome"] == outcome
                assert found[2]["problem"]["outcome"] == "not-applied"

    asyncio.run(run())


def test_idempotency_key(server):
    async def run():
        async with server() as served:
            headers = {"Idempotency-Key": "once"}
            operations = [put("a"), put("a", "w"), delete("b"), put("c", ttl_s=30), get("a")]
            first = await send(served, operations, headers=headers)
            assert await send(served, operations, headers=headers) == first
            assert served.replica.state.revision == 4
            operations[1] = put("a", "other")
            found = await send(served, operations, headers=headers)
            assert [answer["status"] for answer in found] == [200, 422, 200, 200, 200]

    asyncio.run(run())


@pytest.mark.parametrize("lines", [False, True], ids=["array", "lines"])
def test_empty_and_largest_batches(lines, server):
    async def run():
        async with server() as served:
            assert await send(served, [], lines) == []
            largest = [put(str(number), "") for number in range(1000)]
            assert len(await send(served, largest, lines)) == 1000
            status, problem = await send(served, [*largest, get("k")], lines)
            assert (status, problem["type"]) == (400, "/problems/too-many-operations")
            assert served.replica.state.revision == 1001

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "lines", "status", "slug"),
    [
        (b"", False, 400, "malformed"),
        (b"{}", False, 400, "invalid-argument"),
        (b"[1", False, 400, "malformed"),
        (b'{"put":{"key":"a","value":""}}\n{"get"', True, 400, "malformed"),
        (b'[{"put":{"key":"a","value":""}}]x', False, 400, "malformed"),
        (b"[" * 10_000, False, 400, "malformed"),
        (b"[" * 100_000, False, 400, "invalid-argument"),
        (b" " * (batch.BATCH_BYTES_MAX + 1), False, 413, "too-large"),
    ],
)
def test_a_body_that_cannot_be_read_does_nothing(body, lines, status, slug, server):
    async def run():
        async with server() as served, connect(served.address) as c:
            headers = {"Content-Type": batch.NDJSON} if lines else {}
            reply = await c.call("POST", "/v1/batch", headers, body)
            assert (reply.status, reply.json()["type"]) == (status, f"/problems/{slug}")
            assert served.replica.keys == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("operation", "says"),
    [
        ({"put": {"key": "a"}}, "value"),
        (put("a", value_base64="YQ=="), "not both"),
        (put("a", if_absent=True, if_exists=True), "one of"),
        (put("a", if_revision=0), "if_revision"),
        (put("a", lease="7", ttl_s=5), "not both"),
        (put("a", lease="x"), "lease"),
        (put("k" * 961), "961"),
        (put("a", "v" * ((1 << 20) + 1)), "1048577"),
        ({"put": {"key": "a", "value": ""}, "get": {"key": "a"}}, "exactly one"),
        ({"delete": {"prefix": ""}}, "prefix"),
        (7, "operation 0"),
    ],
)
def test_operations_that_cannot_be(operation, says, server):
    async def run():
        async with server() as served:
            found = await send(served, [operation, put("b", base64.b64encode(b"").decode())])
            assert [answer["status"] for answer in found] == [400, 200]
            assert says in found[0]["problem"]["detail"]
            assert served.replica.keys == [b"b"]

    asyncio.run(run())


def test_a_defect_in_the_middle_breaks_the_answer_off(server, monkeypatch, caplog):
    """Half an answer must not look like a whole one, nor be followed by a second head."""
    monkeypatch.setattr(batch, "BYTES_PER_WRITE", 1)
    item_document, calls = batch.item_document, []

    def broken(item):
        calls.append(item)
        if len(calls) == 2:
            raise RuntimeError("a defect")
        return item_document(item)

    monkeypatch.setattr(batch, "item_document", broken)

    async def run():
        async with server() as served:
            served.replica.apply(Put(b"k", b"v"))
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await send(served, [get("k"), get("k")])

    asyncio.run(run())
    assert "a defect" in caplog.text
