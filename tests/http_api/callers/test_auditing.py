"""Every administrative call and every denial leaves a record, on both APIs, and no secret does."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from http_api.core.calls import ADMINISTRATIVE
from http_api.etcd.routes import etcd_calls
from http_api.server import native_calls
from kvstore.audit_log import verify
from kvstore_cli.main import main
from tests.support.etcd_node import on_node
from tests.support.guarded_node import Guarded, guard, log_in, send
from tests.support.raw_http import connect, request

SECRETS = (b"root's", b"u's", b"new password", b"value 1")


def audited(path: Path, test: Any, **settings: str) -> list[dict[str, Any]]:
    """The records that a test left, which are whole and without secrets."""
    log = path / "audit.jsonl"

    async def run(node: Any) -> None:
        await test(await guard(node))

    on_node(path, run, audit_log=str(log), **settings)
    lines = log.read_bytes().splitlines()
    assert verify(lines).fault == ""
    for secret in SECRETS:
        assert secret not in log.read_bytes(), secret
    return [orjson.loads(line) for line in lines]


def test_administration_and_denials(tmp_path: Path) -> None:
    sent: list[tuple[str, int]] = []

    async def test(on: Guarded) -> None:
        for call in native_calls():
            if call.need not in ADMINISTRATIVE or call.path.endswith(("disable", "rotate")):
                continue
            target = call.path.replace("{name}", "nobody")
            for token in (on.root, on.user, ""):
                headers = {"Authorization": token} if token else None
                async with connect(on.node.address) as connection:
                    await connection.send(request(call.method, target, headers))
                    sent.append((f"{call.method} {call.path}", await connection.status()))
        on.root = await log_in(on.node, "root", "root's")
        for row in etcd_calls(on.node.http._access):
            if row.need in ADMINISTRATIVE and row.name not in ("auth/disable", "auth/enable"):
                for token in (on.user, ""):
                    reply = await send(on.node, row.name, token, "Authorization", {"name": "x"})
                    sent.append((f"POST {row.path}", reply.status))
        for method, path, body in (
            ("GET", "/v1/kv/z", b""), ("PUT", "/v1/kv/z", b"value 1"),
            ("POST", "/v1/batch", b'[{"get":{"key":"z"}}]'),
        ):  # fmt: skip
            async with connect(on.node.address) as connection:
                await connection.send(request(method, path, {"Authorization": on.user}, body))
                sent.append((f"{method} {'/v1/kv/{key}' if 'kv' in path else path}",
                             await connection.status()))  # fmt: skip
        async with connect(on.node.address) as connection:  # a plain one, from nobody
            assert (await connection.call("GET", "/v1/kv/z")).status == 401
            sent.append(("GET /v1/kv/{key}", 401))
        await on.ok("auth/user/changepw", on.root, name="u", password="new password")
        sent.append(("POST /v3/auth/user/changepw", 200))
        reply = await send(on.node, "auth/authenticate", "", "", {"name": "u", "password": "u's"})
        sent.append(("POST /v3/auth/authenticate", reply.status))
        await on.ok("kv/put", on.root, key=b"a", value=b"value 1")  # no administration

    records = audited(tmp_path, test)
    shown = [(record["call"], record["status"]) for record in records if "call" in record]
    for each in sent:
        assert each in shown, each
        shown.remove(each)
    assert not [call for call, _ in shown if "/kv/" in call]
    changes = [record for record in records if record.get("changes")]
    assert changes[-1]["changes"] == [{"change": "ChangePassword", "name": "u"}]
    assert changes[-1]["user"] == "root" and changes[-1]["from"] == "127.0.0.1"
    denied = [record for record in records if record.get("denied")]
    assert {record["user"] for record in denied} == {None, "u"}
    assert any(record.get("keys") == ["z"] for record in denied)


def test_pages_of_other_sites(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        for target, headers, status in (
            ("/v1/users/mallory", {"Origin": "http://evil.example"}, 403),
            ("/v3/auth/user/add", {"Origin": "http://evil.example"}, 403),
            ("/v1/users/mallory", {"Host": "evil.example", "Origin": "http://evil.example"}, 421),
        ):
            async with connect(on.node.address) as connection:
                method = "POST" if "/v3/" in target else "PUT"
                lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())]
                lines += [] if "Host" in headers else [f"Host: 127.0.0.1:{on.node.address[1]}"]
                await connection.send("\r\n".join([*lines, "Content-Length: 0", "", ""]).encode())
                assert (await connection.reply()).status == status

    denied = [record for record in audited(tmp_path, test) if record.get("denied")]
    assert [(record["call"], record["status"], record["user"]) for record in denied] == [
        ("PUT /v1/users/{name}", 403, None),
        ("POST /v3/auth/user/add", 403, None),
        ("PUT /v1/users/{name}", 421, None),
    ]
    assert all("evil.example" in record["denied"] for record in denied)


@pytest.mark.parametrize("keys", ["names", "hashes"])
def test_writes_and_reads_where_they_are_asked_for(tmp_path: Path, keys: str) -> None:
    async def test(on: Guarded) -> None:
        async with connect(on.node.address) as connection:
            headers = {"Authorization": on.user}
            await connection.call("PUT", "/v1/kv/a", headers, b"value 1")
            await connection.call("GET", "/v1/kv/a", headers)
            body = b'{"then":[{"put":{"key":"ab","value":"value 1"}},{"get":{"prefix":"ac"}}]}'
            await connection.call("POST", "/v1/txn", headers, body)
        await on.ok("auth/disable", on.root)
        async with connect(on.node.address) as connection:  # what the fast lane would serve
            assert (await connection.call("PUT", "/v1/kv/fast", None, b"value 1")).status == 200

    records = audited(tmp_path, test, audit="writes", audit_keys=keys)
    found = {(record.get("call"), *record.get("keys", ())) for record in records}
    if keys == "names":
        assert ("PUT /v1/kv/{key}", "a") in found
        assert ("POST /v1/txn", "ab", "ac .. ad") in found
        assert ("PUT /v1/kv/{key}", "fast") in found
    else:
        assert all(key.startswith("sha256:") for _, *keys in found for key in keys)
    assert not any(call == "GET /v1/kv/{key}" for call, *_ in found)


def test_everything(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        await on.native("GET", "/v1/kv/a", on.user)
        await on.ok("kv/range", on.user, key=b"a", range_end=b"b")

    records = audited(tmp_path, test, audit="all")
    shown = [(record.get("call"), record.get("user"), record.get("keys")) for record in records]
    assert ("GET /v1/kv/{key}", "u", ["a"]) in shown
    assert ("POST /v3/kv/range", "u", ["a .. b"]) in shown


def test_the_command_finds_a_changed_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test(on: Guarded) -> None:
        await on.native("GET", "/v1/users", on.root)

    audited(tmp_path, test)
    log = tmp_path / "audit.jsonl"
    assert main(["audit", "verify", str(log)]) == 0
    last = capsys.readouterr().out.split()[-1]
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]))
    assert main(["audit", "verify", str(log)]) == 0
    assert main(["audit", "verify", str(log), "--expect", last]) == 3
    assert "cut off" in capsys.readouterr().out
    log.write_bytes(b"".join(lines).replace(b'"user":"root"', b'"user":"ruth"', 1))
    assert main(["audit", "verify", str(log)]) == 3
    assert "was changed, removed or put in" in capsys.readouterr().out
    assert main(["audit", "verify", str(tmp_path / "none")]) == 2
