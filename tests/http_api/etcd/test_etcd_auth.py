"""Users, roles and what callers may do in etcd's API, on a real replica."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import orjson

from tests.support.etcd_node import EtcdNode, b64, encoded, on_node, without_header
from tests.support.etcd_stream import Stream
from tests.support.guarded_node import (
    BAD_MANAGEMENT,
    BAD_TOKEN,
    DENIED,
    NO_USER,
    OFF,
    ROLE_UNKNOWN,
    USER_UNKNOWN,
    Guarded,
    guarded,
    send,
)

# -- while it is off ------------------------------------------------------------------------


def test_users_and_roles_while_off(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        assert without_header(await node.ok("auth/status")) == {"authRevision": "1"}
        assert await node.refused("auth/authenticate", name="root", password="x") == OFF
        assert await node.refused("auth/enable") == (
            400, 9, "etcdserver: root user does not exist",
        )  # fmt: skip
        assert (await node.ok("auth/disable")).keys() == {"header"}
        assert (await node.ok("auth/user/add", name="root", password="x")).keys() == {"header"}
        assert await node.refused("auth/enable") == (
            400, 9, "etcdserver: root user does not have root role",
        )  # fmt: skip
        exists = (400, 9, "etcdserver: user name already exists")
        assert await node.refused("auth/user/add", name="root", password="x") == exists
        assert await node.refused("auth/user/add", password="x") == NO_USER
        assert await node.refused("auth/role/add") == (400, 3, "etcdserver: role name is empty")
        await node.ok("auth/role/add", name="r")
        exists = (400, 9, "etcdserver: role name already exists")
        assert await node.refused("auth/role/add", name="r") == exists
        for path, more in (("get", {}), ("delete", {}), ("changepw", {"password": "x"})):
            refused = await node.refused(f"auth/user/{path}", name="nobody", **more)
            assert refused == USER_UNKNOWN
        for path in ("add", "changepw"):
            refused = await node.refused(f"auth/user/{path}", name="root")
            assert refused == (400, 3, "password: must not be empty")
        for path in ("get", "delete", "revoke"):
            assert await node.refused(f"auth/role/{path}", role="none") == ROLE_UNKNOWN
        grant = "auth/user/grant"
        assert await node.refused(grant, user="nobody", role="r") == USER_UNKNOWN
        assert await node.refused(grant, user="root", role="none") == ROLE_UNKNOWN
        assert await node.refused("auth/role/grant", name="none", perm={}) == ROLE_UNKNOWN
        assert await node.refused("auth/role/grant", name="r") == (
            400, 3, "etcdserver: permission not given",
        )  # fmt: skip
        assert await node.refused("auth/role/revoke", role="r", key=b"k") == (
            400, 9, "etcdserver: permission is not granted to the role",
        )  # fmt: skip
        assert await node.refused("auth/user/revoke", name="root", role="r") == (
            400, 9, "etcdserver: role is not granted to the user",
        )  # fmt: skip
        assert without_header(await node.ok("auth/status")) == {"authRevision": "3"}

    on_node(tmp_path, test)


def test_what_is_shown_of_users_and_roles(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        for name in ("x", "b", "root"):
            await node.ok("auth/role/add", name=name)
            await node.ok("auth/user/add", name=name, options={"no_password": True})
        for role in ("x", "b"):
            await node.ok("auth/user/grant", user="x", role=role)
        for perm in (
            {"permType": "READWRITE", "key": b"m", "range_end": b"n"},
            {"permType": "WRITE", "key": b"c"},
            {"key": b"a", "range_end": b"\0"},
            {"permType": "READ", "key": b"m", "range_end": b"n"},
        ):
            await node.ok("auth/role/grant", name="x", perm=perm)
        shown = without_header(await node.ok("auth/role/get", role="x"))
        assert shown == {
            "perm": [
                {"key": b64(b"a"), "range_end": b64(b"\0")},
                {"permType": "WRITE", "key": b64(b"c")},
                {"key": b64(b"m"), "range_end": b64(b"n")},
            ]
        }
        await node.ok("auth/role/revoke", role="x", key=b"m", range_end=b"n")
        assert len((await node.ok("auth/role/get", role="x"))["perm"]) == 2
        assert (await node.ok("auth/role/get", role="b")).keys() == {"header"}
        assert (await node.ok("auth/user/get", name="x"))["roles"] == ["b", "x"]
        assert (await node.ok("auth/user/get", name="b")).keys() == {"header"}
        assert (await node.ok("auth/user/list"))["users"] == ["b", "root", "x"]
        assert (await node.ok("auth/role/list"))["roles"] == ["b", "root", "x"]
        await node.ok("auth/role/delete", role="b")
        assert (await node.ok("auth/user/get", name="x"))["roles"] == ["x"]
        await node.ok("auth/user/delete", name="x")
        assert (await node.ok("auth/user/list"))["users"] == ["b", "root"]

    on_node(tmp_path, test)


def test_a_bad_token_while_off(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async def status(path: str, **fields: Any) -> int:
            return (await send(node, path, "bad.1", "Authorization", fields)).status

        for path in ("kv/range", "kv/put", "kv/deleterange"):
            assert await status(path, key=b"k") == 401
            assert await status(path) == 400
        for path in ("kv/txn", "auth/status", "auth/user/list", "lease/grant"):
            assert await status(path) == 401
        assert await status("auth/authenticate") == 400
        for path in ("cluster/member/list", "maintenance/status", "lease/leases"):
            assert await status(path) == 200

    on_node(tmp_path, test)


# -- what callers may do --------------------------------------------------------------------

WITHOUT_RIGHT: list[tuple[str, dict[str, Any]]] = [
    ("kv/range", {"key": b"z"}),
    ("kv/range", {"key": b"z", "serializable": True}),
    ("kv/range", {"key": b"z", "revision": 99}),
    ("kv/range", {"key": b"a", "range_end": b"z"}),
    ("kv/range", {"key": b"\0", "range_end": b"\0"}),
    ("kv/range", {"key": b"b", "range_end": b"a"}),
    ("kv/range", {"key": b"c"}),
    ("kv/put", {"key": b"b"}),
    ("kv/put", {"key": b"c", "prev_kv": True, "value": b"1"}),
    ("kv/deleterange", {"key": b"b"}),
    ("kv/deleterange", {"key": b"a", "range_end": b"c"}),
    ("kv/deleterange", {"key": b"c", "prev_kv": True}),
    ("kv/txn", {"compare": [{"key": b"z"}]}),
    ("kv/txn", {"compare": [{"key": b"a", "range_end": b"\0"}]}),
    ("kv/txn", {"success": [{"request_range": {"key": b"z"}}]}),
    ("kv/txn", {"success": [{"request_put": {"key": b"z"}}]}),
    ("kv/txn", {"failure": [{"request_delete_range": {"key": b"z"}}]}),
    ("kv/txn", {"success": [{"request_txn": {"success": [{"request_put": {"key": b"z"}}]}}]}),
]


def test_keys_outside_of_the_users_ranges(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        for path, fields in WITHOUT_RIGHT:
            assert await on.refused(path, on.user, **fields) == DENIED, (path, fields)
            assert await on.refused(path, **fields) == NO_USER, (path, fields)
            assert await on.refused(path, "bad.1", **fields) == BAD_TOKEN, (path, fields)
        found = await on.ok("kv/range", on.root, key=b"\0", range_end=b"\0")
        assert [kv["mod_revision"] for kv in found["kvs"]] == ["2", "3"]
        for path in ("kv/range", "kv/put", "kv/deleterange"):
            missing = (400, 3, "etcdserver: key is not provided")
            for token in ("", "bad.1", on.user):
                assert await on.refused(path, token) == missing

    guarded(tmp_path, test)


def test_keys_inside_of_the_users_ranges(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        assert (await on.ok("kv/range", on.user, key=b"a", range_end=b"c"))["count"] == "1"
        replaced = await on.ok("kv/put", on.user, key=b"a", value=b"2", prev_kv=True)
        assert replaced["prev_kv"]["value"] == b64(b"1")
        await on.ok("kv/put", on.user, key=b"c", value=b"2")
        success = [{"request_put": {"key": b"ab"}}, {"request_range": {"key": b"b"}}]
        compare = [{"key": b"a", "target": "VERSION", "version": 2}]
        done = await on.ok("kv/txn", on.user, compare=compare, success=success)
        assert done["succeeded"] is True
        gone = await on.ok("kv/deleterange", on.user, key=b"a", range_end=b"b")
        assert gone["deleted"] == "2"

    guarded(tmp_path, test)


def test_nothing_works_without_a_token_but_to_ask_for_one(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        await on.ok("lease/grant", on.root, TTL=60, ID=7)
        for path, fields in (
            ("kv/txn", {}),
            ("lease/grant", {"TTL": 60}),
            ("lease/timetolive", {"ID": 7}),
            ("lease/leases", {}),
            ("lease/revoke", {"ID": 7}),
            ("lease/keepalive", {"ID": 7}),
            ("cluster/member/list", {}),
            ("maintenance/status", {}),
            ("maintenance/alarm", {}),
            ("auth/status", {}),
            ("auth/user/list", {}),
            ("auth/role/list", {}),
            ("auth/disable", {}),
            ("auth/user/get", {}),
        ):
            for token, (_, _, text) in (("", NO_USER), ("bad.1", BAD_TOKEN)):
                reply = await send(on.node, path, token, "Authorization", fields)
                assert reply.status >= 400 and text.encode() in reply.body, (path, token)
        for path in ("/version", "/health"):
            assert (await on.native("GET", path)).status == 200
        assert await on.refused("auth/user/add", name="x", password="x") == NO_USER
        assert (await on.ok("lease/leases", on.user))["leases"] == [{"ID": "7"}]

    guarded(tmp_path, test)


def test_leases_with_keys(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        await on.ok("lease/grant", on.root, TTL=60, ID=7)
        await on.ok("lease/grant", on.root, TTL=60, ID=8)
        await on.ok("kv/put", on.root, key=b"z", lease=7)
        await on.ok("kv/put", on.user, key=b"a", lease=8)
        assert await on.refused("kv/put", on.user, key=b"a", lease=7) == DENIED
        assert await on.refused("lease/revoke", ID=8) == NO_USER
        assert await on.refused("lease/revoke", "bad.1", ID=8) == BAD_TOKEN
        assert await on.refused("lease/revoke", on.user, ID=7) == DENIED
        assert await on.refused("lease/timetolive", ID=8, keys=True) == NO_USER
        assert await on.refused("lease/timetolive", on.user, ID=7, keys=True) == DENIED
        shown = await on.ok("lease/timetolive", on.user, ID=8, keys=True)
        assert shown["keys"] == [b64(b"a")]
        assert (await on.ok("lease/timetolive", on.user, ID=7))["grantedTTL"] == "60"
        await on.ok("lease/revoke", on.user, ID=8)

    guarded(tmp_path, test)


def test_administration(tmp_path: Path) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("auth/enable", {}),
        ("auth/disable", {}),
        ("auth/status", {}),
        ("auth/user/add", {"name": "x", "password": "x"}),
        ("auth/user/get", {"name": "root"}),
        ("auth/user/get", {"name": "nobody"}),
        ("auth/user/list", {}),
        ("auth/user/delete", {"name": "root"}),
        ("auth/user/grant", {"user": "u", "role": "root"}),
        ("auth/user/revoke", {"name": "root", "role": "root"}),
        ("auth/user/changepw", {"name": "root", "password": "x"}),
        ("auth/role/add", {"name": "x"}),
        ("auth/role/get", {"role": "root"}),
        ("auth/role/get", {"role": "none"}),
        ("auth/role/list", {}),
        ("auth/role/delete", {"role": "r"}),
        ("auth/role/grant", {"name": "r", "perm": {"key": b"z"}}),
        ("auth/role/revoke", {"role": "r", "key": b"c"}),
        ("cluster/member/add", {"peerURLs": ["http://1.1.1.1:1"]}),
        ("cluster/member/remove", {"ID": 1}),
        ("cluster/member/update", {"ID": 1}),
        ("cluster/member/promote", {"ID": 1}),
        ("maintenance/transfer-leadership", {}),
    ]

    async def test(on: Guarded) -> None:
        before = await on.ok("auth/status", on.root)
        for path, fields in calls:
            assert await on.refused(path, on.user, **fields) == DENIED, path
            assert await on.refused(path, **fields) == NO_USER, path
        assert await on.ok("auth/status", on.root) == before
        for path in ("defragment", "hash"):
            text = "auth: permission denied"
            assert await on.refused(f"maintenance/{path}", on.user) == (500, 2, text)
            text = "auth: user name is empty"
            assert await on.refused(f"maintenance/{path}") == (500, 2, text)
            await on.ok(f"maintenance/{path}", on.root)
        snapshot = await send(on.node, "maintenance/snapshot", on.user, "Authorization", {})
        assert snapshot.status == 500 and b"auth: permission denied" in snapshot.body
        assert (await on.ok("auth/user/get", on.user, name="u"))["roles"] == ["r"]
        assert len((await on.ok("auth/role/get", on.user, role="r"))["perm"]) == 3
        await on.ok("auth/user/grant", on.root, user="u", role="root")
        await on.ok("auth/user/list", on.user)

    guarded(tmp_path, test)


def test_root_cannot_be_lost_while_on(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        root = {"name": "root", "role": "root"}
        assert await on.refused("auth/user/delete", on.root, name="root") == BAD_MANAGEMENT
        assert await on.refused("auth/role/delete", on.root, role="root") == BAD_MANAGEMENT
        assert await on.refused("auth/user/revoke", on.root, **root) == BAD_MANAGEMENT
        await on.ok("auth/disable", on.root)
        await on.ok("auth/user/delete", name="root")

    guarded(tmp_path, test)


def test_compaction_takes_a_user(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        assert await on.refused("kv/compaction", revision=2) == NO_USER
        await on.ok("kv/compaction", on.user, revision=2)
        replica = on.node.replica
        replica._admission.compact(3)
        async with asyncio.timeout(60):
            while replica.state.compacted_revision < 3:
                await asyncio.sleep(0.005)

    guarded(tmp_path, test)


def test_watches(tmp_path: Path) -> None:
    nobody = "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"
    bad = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
    denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"

    async def test(on: Guarded) -> None:
        for token, fields, reason in (
            ("", {"key": b"a"}, nobody),
            ("bad.1", {"key": b"a"}, bad),
            (on.user, {"key": b"z"}, denied),
            (on.user, {"key": b"a", "range_end": b"z"}, denied),
            (on.user, {"key": b"c"}, denied),
        ):
            message = without_header(await on.watch(token, **fields))
            assert message == {
                "watch_id": "-1", "created": True, "canceled": True, "cancel_reason": reason,
            }  # fmt: skip
        for token, key, end in ((on.user, b"a", b"c"), (on.root, b"\0", b"\0")):
            message = await on.watch(token, key=key, range_end=end)
            assert without_header(message) == {"created": True}

    guarded(tmp_path, test)


def test_locks_and_elections(tmp_path: Path) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("lock/lock", {"name": b"z", "lease": 7}),
        ("lock/unlock", {"key": b"z"}),
        ("election/campaign", {"name": b"z", "lease": 7}),
        ("election/leader", {"name": b"z"}),
        ("election/proclaim", {"leader": {"name": b"z", "key": b"z", "lease": 7}}),
    ]

    async def test(on: Guarded) -> None:
        await on.ok("lease/grant", on.root, TTL=60, ID=7)
        for path, fields in calls:
            for token, (_, _, text) in ((on.user, DENIED), ("", NO_USER), ("bad.1", BAD_TOKEN)):
                assert await on.refused(path, token, **fields) == (500, 2, text), path
        lock = await on.ok("lock/lock", on.user, name=b"a", lease=7)
        await on.ok("lock/unlock", on.user, key=base64.b64decode(lock["key"]))

    guarded(tmp_path, test)


def test_an_observer_that_loses_its_right(tmp_path: Path) -> None:
    """It is shown no later leader: each read is judged by itself, as in etcd."""
    body = orjson.dumps(encoded({"name": b"a"}))

    async def test(on: Guarded) -> None:
        await on.ok("lease/grant", on.root, TTL=60, ID=7)
        won = await on.ok("election/campaign", on.root, name=b"a", lease=7)
        reader, writer = await asyncio.open_connection(*on.node.address)
        head = f"POST /v3/election/observe HTTP/1.1\r\nHost: t\r\nAuthorization: {on.user}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        opened = Stream(reader, writer)
        assert (await opened.message())["kv"]["key"] == won["leader"]["key"]
        await on.ok("auth/role/revoke", on.root, role="r", key=b"a", range_end=b"b")
        await on.ok("election/resign", on.root, leader=won["leader"])
        error = orjson.loads(await opened.chunk())["error"]
        assert (error["grpc_code"], error["message"]) == (2, DENIED[2])
        assert await opened.chunk() == b""
        writer.close()

    guarded(tmp_path, test)
