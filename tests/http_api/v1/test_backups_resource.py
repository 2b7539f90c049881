"""Backups say how far they are; who has the scope says so and sees it, and nobody forges it."""

import json
import time
from pathlib import Path
from typing import Any

from kvstore.backup.marks import MARKS_MAX
from tests.support.etcd_node import EtcdNode, on_node
from tests.support.guarded_node import Guarded, guarded

PATH = "/v1/backups/shop"


def mark(age_s: float = 0.0, **more: Any) -> bytes:
    time_ms = int((time.time() - age_s) * 1000)
    document = {"place": "/b/shop", "continuous": True, "revision": 7, "time_ms": time_ms, **more}
    return json.dumps(document).encode()


async def keeper(on: Guarded) -> str:
    """The token of a user who has the scope backup, and no right on any key."""
    for path, body in (("users/keeper", b'{"password":"keeps"}'), ("roles/keeper", b"")):
        assert (await on.native("PUT", f"/v1/{path}", on.root, body)).status == 200
    for path, body in (
        ("roles/keeper", b'{"scope":"backup"}'),
        ("users/keeper", b'{"role":"keeper"}'),
    ):
        assert (await on.native("POST", f"/v1/{path}/grant", on.root, body)).status == 200
    login = b'{"user":"keeper","password":"keeps"}'
    token = (await on.native("POST", "/v1/auth/login", "", login)).json()["token"]
    assert isinstance(token, str)
    return token


async def metrics(on: Guarded) -> list[str]:
    text = (await on.native("GET", "/metrics", on.root)).body.decode()
    return [line for line in text.splitlines() if line.startswith("kvstore_backup_")]


def test_a_backup_is_known_until_it_is_forgotten(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        who = await keeper(on)
        failed = {"time_ms": 1, "ok": False, "said": "one key differs"}
        body = mark(90, fresh_s=60, base_revision=3, base_ms=5, next_ms=9, drill=failed)
        assert (await on.native("PUT", PATH, who, body)).status == 200
        (found,) = (await on.native("GET", "/v1/backups", who)).json()["backups"]
        assert found["name"] == "shop" and found["late"] and 90 <= found["age_s"] < 150
        assert found["drill"] == {**failed, "next_ms": None}
        overview = (await on.native("GET", "/v1/overview", on.user)).json()
        kinds = {one["kind"] for one in overview["findings"]}
        assert {"backup-late", "drill-failed"} <= kinds
        assert "/b/shop" not in json.dumps(overview), "places are for who makes backups"
        age, late, drill = await metrics_of(on)
        assert 90 <= age < 150 and late == 1 and drill == 0
        assert (await on.native("DELETE", PATH, who)).json() == {"forgotten": True}
        assert (await on.native("DELETE", PATH, who)).json() == {"forgotten": False}
        assert (await on.native("GET", "/v1/backups", who)).json() == {"backups": []}
        assert await metrics(on) == []

    async def metrics_of(on: Guarded) -> list[float]:
        return [float(line.split()[-1]) for line in await metrics(on)]

    guarded(tmp_path, test)


def test_nobody_without_the_scope_writes_or_sees_it(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        who = await keeper(on)
        for method, path in (("GET", "/v1/backups"), ("PUT", PATH), ("DELETE", PATH)):
            body = mark() if method == "PUT" else b""
            assert (await on.native(method, path, on.user, body)).status == 403
            assert (await on.native(method, path, "", body)).status == 401
        assert (await on.native("PUT", PATH, who, mark())).status == 200
        key = "/v1/kv/kvstore-backups%2Fshop"
        assert (await on.native("PUT", key, who, b"{}")).status == 403, (
            "the key itself is not theirs"
        )

    guarded(tmp_path, test)


def test_what_is_no_mark_is_refused_or_left_out(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        for bad in (b"", b"{}", b"[]", mark(revision=-1), mark(other=1), mark(place="")):
            assert (await node.connection.call("PUT", PATH, {}, bad)).status == 400
        assert (
            await node.connection.call("PUT", "/v1/backups/" + 129 * "n", {}, mark())
        ).status == 400
        later = json.loads(mark()) | {"of_a_later_release": 1, "drill": None}
        values = {"odd": b"\xff\x00", "list": b"[1]", "later": json.dumps(later).encode()}
        for name, value in values.items():
            key = f"/v1/kv/kvstore-backups%2F{name}"
            assert (await node.connection.call("PUT", key, {}, value)).status == 200
        found = (await node.connection.call("GET", "/v1/backups")).json()["backups"]
        assert [one["name"] for one in found] == ["later"]
        for number in range(MARKS_MAX - 1):
            path = f"/v1/backups/n{number}"
            assert (await node.connection.call("PUT", path, {}, mark())).status == 200
        assert (await node.connection.call("PUT", "/v1/backups/more", {}, mark())).status == 400
        assert (await node.connection.call("PUT", "/v1/backups/n0", {}, mark())).status == 200

    on_node(tmp_path, test)
