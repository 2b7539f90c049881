"""What the fast lane serves, it answers byte for byte as aiohttp's lane does; what is not for it,
it declines. Each case goes down both lanes of two servers with the same history."""

import asyncio
import re
from base64 import b64encode
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from http_api.callers.tokens import Tokens
from http_api.etcd import hot
from http_api.etcd.decode import decode
from http_api.etcd.errors import EtcdError
from http_api.etcd.kv import remove_of, select_of, transaction_of, write_of
from http_api.etcd.messages import DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest
from kvstore.commands.accounts import (
    AddRole,
    AddUser,
    AuthChange,
    Enable,
    GrantPermission,
    GrantRole,
    Permission,
    Right,
)
from kvstore.commands.commands import Administer, AsUser, Compact, Delete, Grant, Put
from kvstore.commands.operations import Select, only
from kvstore.errors import (
    KvError,
    NoQuorum,
    OutcomeUnknown,
    Overloaded,
    Stopping,
    StorageError,
)
from kvstore.state.rights import ITSELF, Caller
from tests.http_api.conftest import Served, Server
from tests.support.raw_http import WAIT_S, Connection, connect, request

_DATE = re.compile(rb"Date: [^\r]*\r\n")
KIB = 1 << 10
HOT, DECLINED = True, False


class Case(NamedTuple):
    """A request, and whether it is for the fast lane."""

    data: bytes
    hot: bool


def native(method: str, key: str, body: bytes = b"", hot: bool = HOT, **headers: str) -> Case:
    """Of one key. A PUT names its length, also of nothing."""
    data = request(method, f"/v1/kv/{key}", headers, body)
    if method == "PUT" and not body:
        data = data.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n", 1)
    return Case(data, hot)


def etcd(name: str, body: Any, hot: bool = HOT, prefix: str = "/v3/", **headers: str) -> Case:
    """A message, as bytes or as a document."""
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    return Case(request("POST", f"{prefix}kv/{name}", headers, text), hot)


def b64(data: bytes) -> str:
    return b64encode(data).decode()


K, NONE, V = b64(b"k"), b64(b"none"), b64(b"value")
LONGEST, LONGER = b64(b"k" * 960), b64(b"k" * 961)


def txn(compare: Any, success: Any = (), failure: Any = (), hot: bool = HOT) -> Case:
    return etcd("txn", {"compare": compare, "success": success, "failure": failure}, hot)


PUT = {"request_put": {"key": K, "value": V}}
READ = {"requestRange": {"key": K}}
DELETE = {"requestDeleteRange": {"key": NONE}}
EXISTS = {"key": K, "target": "CREATE", "result": "GREATER", "create_revision": "0"}

NATIVE = {
    "get": native("GET", "k"),
    "get of nothing": native("GET", "none"),
    "get with a lease": native("GET", "held"),
    "get of no key": native("GET", "%zz"),
    "get of a slash": native("GET", "a/b"),
    "get of a long key": native("GET", "k" * 961),
    "put": native("PUT", "k", b"1"),
    "put of nothing": native("PUT", "empty"),
    "put of much": native("PUT", "much", b"1" * (60 * KIB)),
    "put of no key": native("PUT", "%", b"1"),
    "odd": native("GET", "k", b"", DECLINED, X_Odd="1"),
    "query": native("GET", "k?revision=2", b"", DECLINED),
    "condition": native("PUT", "k", b"1", DECLINED, **{"If-None-Match": "*"}),
    "delete": native("DELETE", "gone"),
    "delete of nothing": native("DELETE", "none"),
    "delete of no key": native("DELETE", "%zz"),
    "delete with a condition": native("DELETE", "k", b"", DECLINED, **{"If-Match": "*"}),
    "delete with a body": native("DELETE", "none", b"x", DECLINED),
}
ETCD = {
    "put": etcd("put", {"key": K, "value": V}),
    "put of nothing": etcd("put", {"key": K}),
    "put with spaces": etcd("put", b' { "key" : "%s"\n, "value":"" }\t' % K.encode()),
    "put with escapes": etcd("put", rb'{"k\u0065y":"YWI\/","value":"\u0061w=="}'),
    "put twice": etcd("put", b'{"key":"aw==","key":"eA=="}'),
    "put with a lease": etcd("put", {"key": K, "value": V, "lease": "7"}),
    "put with a lease as a number": etcd("put", {"key": K, "value": V, "lease": 7}),
    "put with no such lease": etcd("put", {"key": K, "lease": "8"}),
    "put with a lease below 0": etcd("put", {"key": K, "lease": -8}),
    "put of the longest key": etcd("put", {"key": LONGEST, "value": V}),
    "put of a longer key": etcd("put", {"key": LONGER, "value": V}, DECLINED),
    "put of no key": etcd("put", {"value": V}, DECLINED),
    "put of an empty key": etcd("put", {"key": ""}, DECLINED),
    "put of null": etcd("put", {"key": None}, DECLINED),
    "put for what was": etcd("put", {"key": K, "value": V, "prev_kv": True}, DECLINED),
    "put with more": etcd("put", {"key": K, "other": 1}, DECLINED),
    "put with bad base64": etcd("put", {"key": "a"}, DECLINED),
    "put with bad base64 at its end": etcd("put", {"key": "a==="}, DECLINED),
    "put with line ends in base64": etcd("put", {"key": "aw\n=="}, DECLINED),
    "put with a fraction": etcd("put", b'{"key":"aw==","lease":7.0}', DECLINED),
    "put with bytes as numbers": etcd("put", {"key": [107]}, DECLINED),
    "put with two documents": etcd("put", b'{"key":"aw=="}{}', DECLINED),
    "put with bad JSON": etcd("put", b'{"key":', DECLINED),
    "put with no JSON": etcd("put", b"\xff", DECLINED),
    "put with too many fields": etcd("put", b'{"key":"aw=="%s}' % (b',"key":""' * 9000), DECLINED),
    "put with an odd header": etcd("put", {"key": K}, DECLINED, X_Odd="1"),
    "put with a token": etcd("put", {"key": K}, DECLINED, Authorization="x.1"),
    "put for a leader": etcd("put", {"key": K}, DECLINED, **{"Grpc-Metadata-Hasleader": "true"}),
    "put by another prefix": etcd("put", {"key": K, "value": V}, HOT, "/v3beta/"),
    "put by no prefix": etcd("put", {"key": K, "value": V}, DECLINED, "/v3alpha/"),
    "put of 20 KiB": etcd("put", {"key": K, "value": b64(b"1" * (20 * KIB))}),
    "range": etcd("range", {"key": K}),
    "range of nothing": etcd("range", {"key": NONE}),
    "range of an empty value": etcd("range", {"key": b64(b"empty")}),
    "range of a leased key": etcd("range", {"key": b64(b"held")}),
    "range, serializable": etcd("range", {"key": K, "serializable": True}),
    "range, not serializable": etcd("range", {"key": K, "serializable": False}),
    "range of the longest key": etcd("range", {"key": LONGEST}),
    "range of a longer key": etcd("range", {"key": LONGER}, DECLINED),
    "range of no key": etcd("range", {}, DECLINED),
    "range to an end": etcd("range", {"key": K, "range_end": b64(b"l")}, DECLINED),
    "range at a revision": etcd("range", {"key": K, "revision": "2"}, DECLINED),
    "range with a limit": etcd("range", {"key": K, "limit": 0}, DECLINED),
    "range, serializable or not": etcd("range", {"key": K, "serializable": "x"}, DECLINED),
    "get": Case(request("GET", "/v3/kv/range"), DECLINED),
    "deleterange": etcd("deleterange", {"key": b64(b"gone too")}),
    "deleterange of nothing": etcd("deleterange", {"key": NONE}),
    "deleterange of no key": etcd("deleterange", {}, DECLINED),
    "deleterange of a longer key": etcd("deleterange", {"key": LONGER}, DECLINED),
    "deleterange to an end": etcd("deleterange", {"key": NONE, "rangeEnd": K}, DECLINED),
    "deleterange for what was": etcd("deleterange", {"key": NONE, "prev_kv": True}, DECLINED),
    "txn": txn([EXISTS], [PUT], [READ]),
    "txn that fails": txn([{**EXISTS, "result": "LESS"}], [PUT], [DELETE]),
    "txn in camel case": txn(
        [{"key": K, "target": "MOD", "result": "NOT_EQUAL", "modRevision": 0}],
        [{"requestPut": {"key": K, "value": V, "lease": "7"}}],
    ),
    "txn of a value": txn([{"key": K, "target": "VALUE", "value": V}], [PUT], [READ]),
    "txn of a version": txn([{"key": K, "target": "VERSION", "version": "9"}], [PUT], [PUT]),
    "txn of a version by default": txn([{"key": NONE}], [DELETE], [PUT]),
    "txn that deletes": txn([EXISTS], [{"request_delete_range": {"key": K}}], [PUT]),
    "txn with no such lease": txn([EXISTS], [{"request_put": {"key": NONE, "lease": 8}}], [PUT]),
    "txn that reads": txn([EXISTS], [READ], [], DECLINED),
    "txn that does nothing": txn([EXISTS], [], [], DECLINED),
    "txn without a compare": txn([], [PUT], [], DECLINED),
    "txn with two compares": txn([EXISTS, EXISTS], [PUT], [], DECLINED),
    "txn with two operations": txn([EXISTS], [PUT, READ], [], DECLINED),
    "txn with both names": txn(
        [{"key": K, "target": "MOD", "mod_revision": 1, "modRevision": 1}], [PUT], [], DECLINED
    ),
    "txn of two in one": txn([EXISTS], [{**PUT, **READ}], [], DECLINED),
    "txn of a lease": txn([{"key": K, "target": "LEASE"}], [PUT], [], DECLINED),
    "txn by numbers": txn([{"key": K, "target": 2, "result": 1}], [PUT], [], DECLINED),
    "txn of no key": txn([{"target": "MOD"}], [PUT], [], DECLINED),
    "txn of an empty operation": txn([EXISTS], [{}], [PUT], DECLINED),
    "txn of a longer key": txn([EXISTS], [{"request_put": {"key": LONGER}}], [], DECLINED),
}
CASES = {f"native {name}": case for name, case in NATIVE.items()}
CASES |= {f"etcd {name}": case for name, case in ETCD.items()}


# -- one request after the other ------------------------------------------------------------


async def raw(connection: Connection) -> bytes:
    """The next answer as it came, but for the time of day."""
    head = await connection.until(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    body = b""
    if length is not None and int(length[1]):
        body = await asyncio.wait_for(connection._reader.readexactly(int(length[1])), WAIT_S)
    return _DATE.sub(b"", head) + body


def prepared(served: Served) -> None:
    """Something to read."""
    served.replica.apply(
        Grant(7, 60), Put(b"k", b"first"), Put(b"held", b"1", None, 7), Put(b"empty", b"")
    )
    served.replica.apply(Put(b"gone", b"1"), Put(b"gone too", b"1"))


Prepare = Callable[[Served], None]


async def compare(server: Server, cases: dict[str, Case], prepare: Prepare) -> None:
    """Send each case down both lanes."""
    async with AsyncExitStack() as stack:
        fast, slow = [await stack.enter_async_context(server()) for _ in range(2)]
        for served in (fast, slow):
            prepare(served)
        slowly = await stack.enter_async_context(connect(slow.address))
        assert (await slowly.call("GET", "/healthz")).status == 200  # aiohttp's from here on
        for name, case in cases.items():
            async with connect(fast.address) as fastly:
                for connection in (fastly, slowly):
                    await connection.send(case.data)
                assert await raw(fastly) == await raw(slowly), name
                assert bool(fast.http._lanes.open) == case.hot, name
            async with asyncio.timeout(WAIT_S):
                while fast.http._lanes.open:
                    await asyncio.sleep(0)
        assert fast.replica.state.digest == slow.replica.state.digest
        assert counts(fast) == counts(slow)


def counts(served: Served) -> dict[tuple[str, str], dict[int, int]]:
    """How many answers of which status each meter has counted."""
    meters = served.http._metrics._meters
    return {(m.route, m.method): m.statuses for m in meters if m.statuses and m.route != "/healthz"}


def test_both_lanes_give_the_same_answers(server: Server) -> None:
    asyncio.run(compare(server, CASES, prepared))


PLAIN = (
    "native get", "native put", "native put of no key", "native delete", "etcd put",
    "etcd put with a lease", "etcd range", "etcd range, serializable", "etcd deleterange",
    "etcd txn",
)  # fmt: skip


class Odd(Exception):
    """A defect."""


@pytest.mark.parametrize(
    "error",
    [
        NoQuorum("nobody"),
        Overloaded("full"),
        Stopping("stops"),
        OutcomeUnknown("late"),
        StorageError("damaged"),
        Odd("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_both_lanes_tell_the_same_errors(server: Server, error: Exception) -> None:
    def failing(served: Served) -> None:
        prepared(served)
        served.replica.fails_with = error

    asyncio.run(compare(server, {name: CASES[name] for name in PLAIN}, failing))


def test_both_lanes_refuse_what_a_node_has_that_is_behind(server: Server) -> None:
    def behind(served: Served) -> None:
        prepared(served)
        served.replica.joined = False

    asyncio.run(compare(server, {name: CASES[name] for name in PLAIN}, behind))


def guarded(served: Served) -> None:
    """Authentication is on."""
    prepared(served)
    changes: tuple[AuthChange, ...] = (
        AddUser("root", b"x"), GrantRole("root", "root"), Enable(b"secret"),
    )  # fmt: skip
    for change in changes:
        served.replica.apply(AsUser(ITSELF, 0, Administer(change)))
    assert served.replica.state.auth.enabled


def test_both_lanes_ask_for_the_same_rights(server: Server) -> None:
    """Who names nobody gets the same refusal. A large message of nobody's is declined, and so is
    a bad key: who asks is looked at first."""
    declined = {"etcd put of 20 KiB", "native get of a long key"}
    declined |= {f"native {call} of no key" for call in ("get", "put", "delete")}
    cases = {n: c._replace(hot=c.hot and n not in declined) for n, c in CASES.items()}
    asyncio.run(compare(server, cases, guarded))


NOW = 9
"""The auth revision after that."""


def with_users(served: Served) -> None:
    """And "u" may read and write all of these keys but "k"."""
    guarded(served)
    changes: tuple[AuthChange, ...] = (
        AddUser("u", b"x"), AddRole("r"), GrantRole("u", "r"), AddUser("nobody", b"x"),
        GrantPermission("r", Permission(Right.READ_WRITE, b"", b"k")),
        GrantPermission("r", Permission(Right.READ_WRITE, b"k\0", b"\0")),
    )  # fmt: skip
    for change in changes:
        served.replica.apply(AsUser(ITSELF, 0, Administer(change)))
    assert served.replica.state.auth.revision == NOW


def sent_by(authorization: str, case: Case, hot: bool) -> Case:
    header = b"\r\nAuthorization: %s\r\n" % authorization.encode()
    return Case(case.data.replace(b"\r\n", header, 1), hot)


@pytest.mark.parametrize("user", ["root", "u", "nobody"])
def test_both_lanes_serve_who_has_a_token(server: Server, user: str) -> None:
    """With the same rights. Only a bad key is looked at in the other lane, since who asks is looked
    at first; a large message of somebody's is taken."""
    token = Tokens().issue(Caller(user, NOW), b"secret")
    bad = {"native get of a long key"} | {f"native {c} of no key" for c in ("get", "put", "delete")}
    cases = {}
    for name, case in CASES.items():
        if name != "etcd put with a token":
            bearer = "Bearer " if name.startswith("native") and len(name) % 2 else ""
            cases[name] = sent_by(bearer + token, case, case.hot and name not in bad)
    asyncio.run(compare(server, cases, with_users))


def test_what_proves_nobody_is_for_the_other_lane(server: Server) -> None:
    """As is a password, and a token that this node does not know yet."""
    token = Tokens().issue(Caller("u", NOW), b"secret")
    proofs = {
        "no token": "x",
        "another secret": Tokens().issue(Caller("u", NOW), b"other"),
        "nobody": Tokens().issue(Caller("deleted", NOW), b"secret"),
        "password": "Basic " + b64(b"u:x"),
        "another scheme": f"Digest {token}",
        "two": f"{token}\r\nAuthorization: {token}",
        "later": Tokens().issue(Caller("u", 1 << 40), b"secret"),
        "old": Tokens(wall=lambda: 1e9).issue(Caller("u", NOW), b"secret"),
    }
    cases = {
        f"{name}, {call}": sent_by(proof, CASES[call], DECLINED)
        for name, proof in proofs.items()
        for call in ("native get", "native put", "etcd put", "etcd range")
        if not (name == "two" and call.startswith("native"))
    }
    cases["etcd's, as a bearer"] = sent_by(f"Bearer {token}", CASES["etcd put"], DECLINED)
    asyncio.run(compare(server, cases, with_users))


def test_while_authentication_is_off_only_etcds_api_looks_at_tokens(server: Server) -> None:
    cases = {
        f"{call} by {proof}": sent_by(proof, CASES[call], call.startswith("native"))
        for call in ("native get", "native put", "etcd put", "etcd range")
        for proof in ("x", "Basic x", "Bearer x.y")
    }
    asyncio.run(compare(server, cases, prepared))


def test_a_node_that_has_not_formed_names_no_cluster(server: Server) -> None:
    def unformed(served: Served) -> None:
        prepared(served)
        status = served.replica.status()
        served.replica.status = lambda: msgspec.structs.replace(status, cluster_id="")  # type: ignore

    cases = {name: CASES[f"etcd {name}"] for name in ("put", "range", "txn")}
    asyncio.run(compare(server, cases, unformed))


def test_a_compacted_history_changes_nothing(server: Server) -> None:
    def compacted(served: Served) -> None:
        prepared(served)
        served.replica.apply(Compact(served.replica.state.revision))

    asyncio.run(compare(server, {name: CASES[name] for name in PLAIN}, compacted))


# -- messages -------------------------------------------------------------------------------

_texts = st.sampled_from(["", "aw==", "eA", "a===", "YWI/", "aw==\n", "====", LONGER, "é"])
_numbers = st.sampled_from(
    [0, 1, -1, -0.0, 5.0, 1 << 63, (1 << 63) - 1, -(1 << 63), "0", "7", "-0", "-7", "07", " 7 ",
     "+7", "7.0", "", "9223372036854775807", "9" * 19, True, None]
)  # fmt: skip
_anything = st.one_of(_texts, _numbers, st.sampled_from([[], {}, [107], False]))


def fields(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of these fields, mostly with sound values."""
    return st.fixed_dictionaries({}, optional={n: v | _anything for n, v in values.items()})


_keys = st.sampled_from([K, NONE, LONGEST])
_puts = fields(key=_keys, value=_keys, lease=_numbers, prev_kv=st.booleans())
_ranges = fields(key=_keys, serializable=st.booleans(), limit=_numbers)
_deletions = fields(key=_keys, prev_kv=st.booleans(), range_end=_keys)
_only_keys = fields(key=_keys)
_compares = fields(
    key=_keys,
    target=st.sampled_from(["VERSION", "CREATE", "MOD", "VALUE", "LEASE", 0, 2]),
    result=st.sampled_from(["EQUAL", "GREATER", "LESS", "NOT_EQUAL", "?", 1]),
    version=_numbers,
    create_revision=_numbers,
    createRevision=_numbers,
    mod_revision=_numbers,
    modRevision=_numbers,
    value=_keys,
)
_operations = fields(
    request_put=_puts,
    requestPut=_puts,
    request_range=_only_keys,
    requestRange=_only_keys,
    request_delete_range=_only_keys,
    requestDeleteRange=_only_keys,
)
_txns = fields(
    compare=st.lists(_compares, max_size=2),
    success=st.lists(_operations, max_size=2),
    failure=st.lists(_operations, max_size=2),
)


def other_lane(name: str, body: bytes) -> object:
    """What aiohttp's lane asks of the store, or the error that it tells."""
    try:
        match name:
            case "put":
                put = write_of(decode(PutRequest, body))
                assert put.value is not None and put.lease is not None
                return None if put.previous else Put(put.key, put.value, lease=put.lease)
            case "deleterange":
                remove = remove_of(decode(DeleteRangeRequest, body))
                plain = remove.end == only(remove.start) and not remove.previous
                return Delete(remove.start) if plain else None
            case "range":
                message = decode(RangeRequest, body)
                plain = select_of(message) == Select(message.key, only(message.key))
                return hot.WantedKey(message.key, message.serializable) if plain else None
            case _:
                return transaction_of(decode(TxnRequest, body))
    except KvError as error:
        return error


CALLS = {
    "put": hot.EtcdPut,
    "range": hot.EtcdRange,
    "deleterange": hot.EtcdDelete,
    "txn": hot.EtcdTxn,
}


def check_message(name: str, body: bytes) -> None:
    """What is taken means the same in the other lane."""
    call = CALLS[name]
    asked = call.what(call.__new__(call), b"", body)
    if asked is not None:
        assert asked == other_lane(name, body)


@given(
    st.one_of(
        st.tuples(st.just("put"), _puts),
        st.tuples(st.just("range"), _ranges),
        st.tuples(st.just("deleterange"), _deletions),
        st.tuples(st.just("txn"), _txns),
    )
)
def test_what_is_taken_means_the_same_in_the_other_lane(case: tuple[str, dict[str, Any]]) -> None:
    name, message = case
    check_message(name, orjson.dumps(message))


_pieces = st.sampled_from(
    [b'"', b"{", b"}", b",", b":", b" ", b"\n", b"\\", b"key", b"a", b"=", b"\xff", b"0"]
)
_cuts = st.tuples(st.integers(0, 200), st.integers(0, 2), _pieces)


@given(
    st.sampled_from([(n, c) for n, c in ETCD.items() if c.hot]),
    st.lists(_cuts, max_size=3),
)
def test_a_damaged_message_means_the_same_in_the_other_lane(
    case: tuple[str, Case], cuts: list[tuple[int, int, bytes]]
) -> None:
    head, _, body = case[1].data.partition(b"\r\n\r\n")
    for at, dropped, piece in cuts:
        body = body[:at] + piece + body[at + dropped :]
    name = head.partition(b" HTTP")[0].rpartition(b"/")[2].decode()
    check_message(name, body)


def test_most_plain_messages_are_taken() -> None:
    """So that the two tests above compare something."""
    taken = [n for n, c in ETCD.items() if c.hot]
    assert len(taken) > 25
    with pytest.raises(EtcdError):
        raise_of(other_lane("put", b"{"))


def raise_of(found: object) -> None:
    if isinstance(found, Exception):
        raise found
