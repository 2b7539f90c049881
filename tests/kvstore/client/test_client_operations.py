"""Transactions and batches: what expressions send, and how the answers are read."""

import asyncio
import json
from typing import Any

import pytest

from kvstore.client import (
    Client,
    Compare,
    CreateRevision,
    DeleteResult,
    Entry,
    GetResult,
    LeaseId,
    ModRevision,
    PutResult,
    TxnResult,
    Value,
    Version,
    absent,
    delete,
    exists,
    get,
    put,
    txn,
)
from kvstore.errors import (
    ConditionFailed,
    DuplicateKey,
    InvalidArgument,
    KeyNotFound,
    LeaseNotFound,
    NoQuorum,
    OutcomeUnknown,
)
from tests.support.flaky_node import FlakyNode, Seen, Step, answers, problem, unknown


def call(*script: Step, **settings: Any) -> Any:
    """A decorator: run the async function with a client of one node; what it returned, and saw."""

    def decorate(body: Any) -> tuple[Any, list[Seen]]:
        async def run() -> tuple[Any, list[Seen]]:
            async with (
                asyncio.timeout(20),
                FlakyNode(*script) as node,
                Client(node.url, **settings) as client,
            ):
                return await body(client), node.seen

        return asyncio.run(run())

    return decorate


@pytest.mark.parametrize(
    ("compare", "field", "op", "operand"),
    [
        (Value("k") == "x", "value", "=", "x"),
        (Value("k") != b"x", "value", "!=", "x"),
        (Value("k") < "x", "value", "<", "x"),
        (Value("k") > "x", "value", ">", "x"),
        (Version("k") == 3, "version", "=", 3),
        (Version("k") != 3, "version", "!=", 3),
        (CreateRevision("k") < 3, "create_revision", "<", 3),
        (ModRevision("k") > 3, "mod_revision", ">", 3),
        (ModRevision("k") >= 3, "mod_revision", ">", 2),
        (ModRevision("k") <= 3, "mod_revision", "<", 4),
        (LeaseId("k") == (1 << 62) + 1, "lease", "=", (1 << 62) + 1),
        (absent("k"), "version", "=", 0),
        (exists("k"), "version", ">", 0),
    ],
)
def test_comparisons_become_json(compare: Compare, field: str, op: str, operand: object) -> None:
    assert compare.document == {"key": "k", "field": field, "op": op, "operand": operand}


def test_ranges_and_bytes_become_json() -> None:
    assert (Value(prefix=b"\xff") == b"\xfe").document == {
        "prefix_base64": "/w==", "field": "value", "op": "=", "operand_base64": "/g==",
    }  # fmt: skip
    assert (Version(start="a", end="b") > 0).document["end"] == "b"
    with pytest.raises(InvalidArgument):
        Value("k", prefix="p")
    with pytest.raises(InvalidArgument):
        get()


def test_a_comparison_is_never_decided_here() -> None:
    with pytest.raises(TypeError, match="no truth value"):
        assert Value("k") == "x"
    with pytest.raises(TypeError, match="no truth value"):
        _ = 1 < Version("k") < 3


def item(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": value, "create_revision": 2, "mod_revision": 3, "version": 4}


DONE = {
    "succeeded": True,
    "revision": 9,
    "results": [
        {"put": {"revision": 9, "version": 1, "previous": {**item("a", "old"), "lease": "77"}}},
        {"get": {"items": [item("b", "v")], "count": 5, "more": True}},
        {"delete": {"deleted": 1, "previous": [item("c", "gone")]}},
        {"txn": {"succeeded": False, "revision": 9, "results": [{"delete": {"deleted": 0}}]}},
    ],
}


def test_a_transaction_there_and_back() -> None:
    @call(answers(DONE))
    async def outcome(client: Client) -> TxnResult:
        return await client.txn(
            Value("a") == "x",
            absent("b"),
            then=[put("a", "y", lease=5, previous=True), get(prefix="b", limit=1)],
            otherwise=[delete(start="c", end="d"), txn(exists("z"), then=[put("z", None)])],
        )

    result, (seen,) = outcome
    assert (seen.method, seen.path) == ("POST", "/v1/txn") and seen.headers["Idempotency-Key"]
    sent = json.loads(seen.body)
    assert sent["then"] == [
        {"put": {"key": "a", "value": "y", "lease": "5", "previous": True}},
        {"get": {"prefix": "b", "limit": 1}},
    ]
    assert sent["else"][0] == {"delete": {"start": "c", "end": "d"}}
    assert sent["else"][1]["txn"]["then"] == [{"put": {"key": "z", "keep_value": True}}]
    assert result.succeeded and result and result.revision == 9
    assert result.results == (
        PutResult(9, 1, 0, Entry(b"a", b"old", 2, 3, 4, 77)),
        GetResult((Entry(b"b", b"v", 2, 3, 4),), 5, True),
        DeleteResult(9, 1, (Entry(b"c", b"gone", 2, 3, 4),)),
        TxnResult(False, 9, (DeleteResult(9, 0),)),
    )


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("duplicate-key", 400, DuplicateKey),
        ("lease-not-found", 404, LeaseNotFound),
        ("key-not-found", 404, KeyNotFound),
    ],
)
def test_refused_transactions(kind: str, status: int, error: type[Exception]) -> None:
    @call(problem(status, kind))
    async def _(client: Client) -> None:
        with pytest.raises(error, match=f"it is {kind}"):
            await client.txn(then=[put("a", None)])


def test_only_transactions_that_write_leave_doubt() -> None:
    @call(unknown, timeout_s=0.2)
    async def outcome(client: Client) -> None:
        with pytest.raises(NoQuorum):
            await client.txn(exists("a"), then=[get("a"), txn(then=[get("b")])])
        with pytest.raises(OutcomeUnknown):
            await client.txn(exists("a"), then=[get("a"), txn(otherwise=[delete("b")])])

    assert "Idempotency-Key" not in outcome[1][0].headers


def batch_problem(status: int, kind: str) -> dict[str, Any]:
    return {"status": status, "problem": {"type": f"/problems/{kind}", "mod_revision": 3}}


OPERATIONS = [put("a", "1", if_revision=2), get("b"), get("c"), delete("d")]


def test_a_batch_answers_each_operation() -> None:
    written = {"status": 200, "put": {"revision": 4, "version": 2}}

    @call(
        answers(
            [
                batch_problem(412, "condition-failed"),
                {"status": 200, "get": item("b", "v")},
                batch_problem(404, "key-not-found"),
                written,
            ]
        )
    )
    async def outcome(client: Client) -> Any:
        return await client.batch(OPERATIONS)

    results, (seen,) = outcome
    assert json.loads(seen.body)[0] == {"put": {"key": "a", "value": "1", "if_revision": 2}}
    assert isinstance(results[0], ConditionFailed) and results[0].mod_revision == 3
    assert results[1:] == (GetResult((Entry(b"b", b"v", 2, 3, 4),), 1), GetResult((), 0),
                           PutResult(4, 2))  # fmt: skip


def test_what_a_batch_could_not_do_in_time_is_sent_again_under_its_key() -> None:
    done = {"status": 200, "put": {"revision": 4, "version": 2}}

    @call(answers([done, batch_problem(503, "no-quorum")]), answers([done, done]))
    async def outcome(client: Client) -> Any:
        return await client.batch([put("a", "1"), put("b", "1")])

    results, seen = outcome
    assert results == (PutResult(4, 2), PutResult(4, 2))
    assert len({request.headers["Idempotency-Key"] for request in seen}) == 1 < len(seen)


@pytest.mark.parametrize(("then", "error"), [([], NoQuorum), (["drop"], OutcomeUnknown)])
def test_what_a_batch_never_did_is_certain_only_if_every_attempt_says_so(
    then: list[Step], error: type[Exception]
) -> None:
    done = {"status": 200, "put": {"revision": 4, "version": 2}}
    first = answers([done, batch_problem(503, "no-quorum")])

    @call(first, *then, timeout_s=0.3)
    async def outcome(client: Client) -> Any:
        return await client.batch([put("a", "1"), put("b", "1")])

    results, _ = outcome
    assert results[0] == PutResult(4, 2) and type(results[1]) is error


def test_large_batches_are_cut() -> None:
    @call(
        answers([{"status": 200, "get": item("b", "v")}] * 1000),
        answers([{"status": 200, "get": item("b", "v")}]),
    )
    async def outcome(client: Client) -> Any:
        return await client.batch([get("b")] * 1001)

    assert len(outcome[0]) == 1001 and len(outcome[1]) == 2


def test_history_follows_revisions() -> None:
    def page(revision: int, more: bool) -> Step:
        event = {"type": "put", "value": "v", "create_revision": 1, "mod_revision": revision}
        gone = {"type": "delete", "mod_revision": revision - 1}
        return answers({"key": "k", "items": [event, gone], "more": more, "compacted_revision": 1})

    @call(page(9, True), page(5, False))
    async def outcome(client: Client) -> Any:
        return [event async for event in client.history("k")]

    events, seen = outcome
    assert [(event.revision, event.deleted) for event in events] == [
        (9, False), (8, True), (5, False), (4, True),
    ]  # fmt: skip
    assert events[0].key == b"k" and "revision=7" in seen[1].query


def test_put_with_a_lease() -> None:
    @call(answers({"revision": 4, "version": 2, "lease": "99"}))
    async def outcome(client: Client) -> Any:
        with pytest.raises(InvalidArgument):
            await client.put("k", "v", ttl_s=3, lease=4)
        await client.put("k", "v", lease=4)
        return await client.put("k", "v", ttl_s=3)

    result, seen = outcome
    assert result.lease == 99
    assert "lease=4" in seen[0].query and "ttl=3" in seen[1].query
