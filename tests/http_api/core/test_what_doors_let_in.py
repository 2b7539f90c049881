"""Whatever a door for clients lets in, a leader takes from a follower that relays it: one function
(`kvstore.commands.sound`) says what a command must fulfil, for clients and for peers.

Otherwise one client, by a request that is legal, makes the leader drop a follower's link.
"""

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest

from http_api.core.session import Session
from http_api.limits.slices import ReadTurns
from kvstore.commands.accounts import NAME_BYTES_MAX, AddUser
from kvstore.commands.batches import Bundle
from kvstore.commands.binary import decode_bundle, encode
from kvstore.commands.commands import (
    IDEMPOTENCY_KEY_BYTES_MAX,
    KEY_BYTES_MAX,
    Administer,
    Command,
    Compact,
    Delete,
    Grant,
    Once,
    Put,
)
from kvstore.commands.operations import Transaction, TxnPut
from kvstore.commands.sound import check_sound
from kvstore.errors import InvalidArgument
from tests.http_api.conftest import Server
from tests.support.memory_replica import MemoryReplica
from tests.support.raw_http import connect, request

LOWEST = -(1 << 63)
HIGHEST = (1 << 63) - 1
LONGEST = b"k" * KEY_BYTES_MAX
TOO_LONG = b"k" * 3000
NAME = "n" * NAME_BYTES_MAX


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def nested(levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(levels):
        document = {"success": [{"requestTxn": document}]}
    return document


Headers = dict[str, str]
ONCE: Headers = {"Idempotency-Key": "i" * IDEMPOTENCY_KEY_BYTES_MAX}
ETCD: list[tuple[str, Any]] = [
    ("kv/put", {"key": b64(LONGEST), "value": b64(b"v" * (1 << 20)), "lease": LOWEST}),
    ("kv/put", {"key": b64(LONGEST + b"k")}),
    ("kv/put", {"key": ""}),
    ("kv/put", {"key": b64(b"k"), "lease": str(HIGHEST), "prev_kv": True}),
    ("kv/deleterange", {"key": b64(TOO_LONG), "range_end": b64(TOO_LONG + b"k")}),
    ("kv/deleterange", {"key": b64(LONGEST), "prev_kv": True}),
    ("kv/deleterange", {"key": b64(TOO_LONG)}),
    ("kv/deleterange", {"key": b64(b"\xff" * KEY_BYTES_MAX), "range_end": "AA=="}),
    ("kv/compaction", {"revision": LOWEST}),
    ("kv/compaction", {"revision": HIGHEST}),
    ("kv/txn", nested(127)),
    ("kv/txn", nested(128)),
    ("kv/txn", nested(129)),
    ("kv/txn", {"compare": [{"key": b64(TOO_LONG), "range_end": b64(TOO_LONG), "lease": LOWEST,
                             "target": "LEASE"}],
                "success": [{"requestPut": {"key": b64(LONGEST), "lease": LOWEST}}],
                "failure": [{"requestDeleteRange": {"key": b64(TOO_LONG)}}]}),
    ("kv/txn", {"success": [{"requestPut": {"key": b64(TOO_LONG)}}]}),
    ("lease/grant", {"ID": LOWEST, "TTL": LOWEST}),
    ("lease/grant", {"ID": HIGHEST, "TTL": 9_000_000_000}),
    ("lease/grant", {"ID": 1, "TTL": HIGHEST}),
    ("lease/revoke", {"ID": LOWEST}),
    ("lock/lock", {"name": b64(LONGEST)}),
    ("lock/lock", {"name": b64(b"n" * (KEY_BYTES_MAX - 1 - 17)), "lease": LOWEST}),
    ("election/campaign", {"name": b64(LONGEST), "value": b64(b"v")}),
    ("auth/user/add", {"name": NAME, "options": {"no_password": True}}),
    ("auth/user/add", {"name": NAME + "n", "options": {"no_password": True}}),
    ("auth/user/delete", {"name": NAME + "n"}),
    ("auth/user/grant", {"user": NAME, "role": NAME}),
    ("auth/user/grant", {"user": NAME, "role": NAME + "n"}),
    ("auth/role/add", {"role": NAME, "name": NAME}),
    ("auth/role/grant", {"name": NAME, "perm": {"key": b64(LONGEST),
                                                "range_end": b64(LONGEST + b"k")}}),
    ("auth/role/grant", {"name": NAME, "perm": {"key": b64(TOO_LONG)}}),
    ("auth/role/revoke", {"role": NAME, "key": b64(TOO_LONG)}),
    ("auth/role/revoke", {"role": NAME, "key": b64(LONGEST), "range_end": b64(LONGEST + b"k")}),
]  # fmt: skip
NATIVE: list[tuple[str, str, Headers, bytes]] = [
    ("PUT", f"/v1/kv/{LONGEST.decode()}", {}, b"v" * (1 << 20)),
    ("PUT", f"/v1/kv/{LONGEST.decode()}k", {}, b"v"),
    ("PUT", f"/v1/kv/{LONGEST.decode()}?lease={LOWEST}", ONCE, b"v"),
    ("PUT", f"/v1/kv/k?lease={LOWEST + 1}", ONCE, b"v"),
    ("PUT", "/v1/kv/k?ttl=9000000000", ONCE, b"v"),
    ("PUT", "/v1/kv/k?ttl=9000000001", ONCE, b"v"),
    ("PUT", "/v1/kv/k", {"Idempotency-Key": "i" * (IDEMPOTENCY_KEY_BYTES_MAX + 1)}, b"v"),
    ("PUT", "/v1/kv/k", {"If-Match": f'"{HIGHEST}"'}, b"v"),
    ("PUT", "/v1/kv/k", {"If-Match": f'"{HIGHEST + 1}"'}, b"v"),
    ("DELETE", f"/v1/kv/{LONGEST.decode()}", ONCE, b""),
    ("DELETE", f"/v1/kv/{LONGEST.decode()}k", ONCE, b""),
    ("POST", "/v1/batch", ONCE,
     json.dumps([{"put": {"key": LONGEST.decode(), "value": "v", "lease": str(LOWEST + 1)}}]
                + [{"put": {"key": f"{n}", "value": "v", "ttl_s": 9_000_000_000}}
                   for n in range(990)]
                + [{"put": {"key": LONGEST.decode() + "k", "value": "v"}}]).encode()),
    ("POST", "/v1/leases", ONCE, json.dumps({"ttl_s": 9_000_000_000, "id": LOWEST + 1}).encode()),
    ("POST", "/v1/leases", {}, json.dumps({"ttl_s": 9, "id": str(LOWEST)}).encode()),
    ("DELETE", f"/v1/leases/{LOWEST + 1}", {}, b""),
    ("POST", "/v1/compact", {}, json.dumps({"revision": HIGHEST}).encode()),
    ("POST", "/v1/txn", ONCE, json.dumps(
        {"compare": [{"start": LONGEST.decode() + "k", "field": "lease", "operand": LOWEST + 1}],
         "then": [{"delete": {"prefix": LONGEST.decode()}},
                  {"put": {"key": LONGEST.decode(), "value": "v", "lease": LOWEST + 1}}],
         "else": [{"delete": {"start": "a", "end": LONGEST.decode() + "k"}}]}).encode()),
    ("POST", "/v1/txn", {}, json.dumps({"then": [{"delete": {"key": "k" * 961}}]}).encode()),
]  # fmt: skip


def test_what_is_let_in_a_leader_takes_from_a_follower(server: Server) -> None:
    asyncio.run(_ask_everything(server))


async def _ask_everything(server: Server) -> None:
    async with server() as served:
        seen: list[Command] = []
        one, group = served.replica.submit, served.replica.submit_group

        def submit(command: Command, timeout_s: float) -> Any:
            seen.append(command)
            return one(command, timeout_s)

        def submit_group(commands: Sequence[Command], timeout_s: float) -> Any:
            seen.extend(commands)
            return group(commands, timeout_s)

        served.replica.submit = submit  # type: ignore[method-assign]
        served.replica.submit_group = submit_group  # type: ignore[method-assign]
        asked = [
            ("POST", f"/v3/{path}", {}, json.dumps(document).encode()) for path, document in ETCD
        ]
        let_in = 0
        for method, path, headers, body in asked + NATIVE:
            seen.clear()
            async with connect(served.address) as connection:
                await connection.send(request(method, path, headers, body))
                status = await connection.status()
            assert seen or status in (200, 400), (path, body, status)
            for command in seen:
                [decoded] = decode_bundle(encode(Bundle(2, 1, 1, 1, (command,)))).commands
                check_sound(decoded)
            let_in += len(seen)
        assert let_in > 1000


UNSOUND: list[Any] = [
    Put(TOO_LONG, b""),
    Put(b"k", b"", lease=1 << 63),
    Delete(b""),
    Grant(1, 1 << 64),
    Compact(-1 << 64),
    Transaction((), (TxnPut(TOO_LONG, b""),)),
    Once(b"i" * 200, Delete(b"k")),
    Administer(AddUser(NAME + "n", None)),
]


@pytest.mark.parametrize("command", UNSOUND, ids=lambda c: type(c).__name__)
def test_a_session_lets_nothing_else_through(command: Any) -> None:
    """Whatever a handler forgets: it is an error of the one who asks, and not of the node."""

    async def body() -> None:
        replica = MemoryReplica()
        try:
            with pytest.raises(InvalidArgument):
                Session(replica, None, ReadTurns()).submit(command, 1)
            assert replica.state.applied_through == 0
        finally:
            replica.close()

    asyncio.run(body())
