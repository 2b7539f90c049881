"""An hour of administration, shortened: each call that administers is made, and refused to who has
no right, over TLS, and the audit log tells all of it; a line that is changed is found, whichever.
"""

import asyncio
import json
import random
import ssl
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from http_api.core.calls import ADMINISTRATIVE
from http_api.etcd.routes import etcd_calls
from http_api.server import native_calls
from kvstore.audit_log import verify
from kvstore_cli.main import main
from tests.support.etcd_node import EtcdNode, encoded
from tests.support.guarded_node import guard, log_in
from tests.support.raw_http import WAIT_S, request
from tests.support.tls_node import on_tls, trusting

SECRETS = ("root's", "u's", "pass word", "wrong word")
MARK = {"place": "s3://b", "continuous": True, "revision": 1, "time_ms": 1}
NATIVE: dict[str, Any] = {
    "POST /v1/cluster/handover": {"to": 1},
    "POST /v1/compact": {"revision": 2},
    "GET /v1/users": None,
    "PUT /v1/users/{name}": {"password": "pass word"},
    "POST /v1/users/{name}/logout": None,
    "PUT /v1/roles/{name}": None,
    "GET /v1/roles": None,
    "POST /v1/roles/{name}/grant": {"right": "read", "prefix": "reports/"},
    "POST /v1/users/{name}/grant": {"role": "new"},
    "POST /v1/users/{name}/revoke": {"role": "new"},
    "POST /v1/roles/{name}/revoke": {"prefix": "reports/"},
    "DELETE /v1/users/{name}": None,
    "DELETE /v1/roles/{name}": None,
    "POST /v1/cluster/members": {"name": "two", "peer_address": "127.0.0.1:1"},
    "PATCH /v1/cluster/members/{member}": {"peer_address": "127.0.0.1:2"},
    "PUT /v1/cluster/configuration": {"voters": [1]},
    "DELETE /v1/cluster/members/{member}": None,
    "POST /v1/cluster/tokens": {},
    "GET /v1/cluster/tokens": None,
    "DELETE /v1/cluster/tokens/{token}": None,
    "GET /v1/snapshot": None,
    "GET /v1/node/slots/{slot}": None,
    "GET /v1/slots/{slot}": None,
    "GET /v1/node/recording": None,
    "GET /v1/node/incidents": None,
    "GET /v1/node/incidents/{at_ms}": None,
    "GET /v1/incidents": None,
    "GET /v1/incidents/{at_ms}": None,
    "PUT /v1/backups/{name}": MARK,
    "GET /v1/backups": None,
    "DELETE /v1/backups/{name}": None,
    "GET /metrics": None,
    "POST /v1/auth/enable": None,
    "POST /v1/auth/rotate": None,
    "POST /v1/auth/disable": None,
}
"""Each call of the native API that administers, in an order in which they succeed, and its body."""
ETCD: dict[str, Any] = {
    "cluster/member/add": {"peerURLs": ["http://127.0.0.1:3"]},
    "cluster/member/update": {"ID": "5", "peerURLs": ["http://127.0.0.1:4"]},
    "cluster/member/promote": {"ID": "5"},
    "cluster/member/remove": {"ID": "5"},
    "maintenance/hash": {},
    "maintenance/defragment": {},
    "maintenance/transfer-leadership": {"targetID": "5"},
    "maintenance/snapshot": {},
    "auth/status": {},
    "auth/role/add": {"name": "late"},
    "auth/role/grant": {"name": "late", "perm": {"permType": 1, "key": b"late"}},
    "auth/role/list": {},
    "auth/user/add": {"name": "lee", "password": "pass word"},
    "auth/user/list": {},
    "auth/user/grant": {"user": "lee", "role": "late"},
    "auth/user/changepw": {"name": "lee", "password": "pass word"},
    "auth/user/revoke": {"name": "lee", "role": "late"},
    "auth/role/revoke": {"role": "late", "key": b"late"},
    "auth/user/delete": {"name": "lee"},
    "auth/role/delete": {"role": "late"},
    "auth/enable": {},
    "auth/disable": {},
}
EACH_CHANGE = frozenset(
    (
        *("AddUser", "DeleteUser", "ChangePassword", "LogOut", "GrantRole", "RevokeRole"),
        *("AddRole", "DeleteRole", "RevokePermission", "RotateSecret", "Enable", "Disable"),
    )
)
PARAMETERS = {"{name}": "new", "{member}": "two", "{slot}": "1", "{at_ms}": "1"}


class Done(NamedTuple):
    """One request, as the log must tell it."""

    user: str | None
    call: str
    status: int


class Hour:
    """What is asked of a node, by whom, and what came of it."""

    def __init__(self, node: EtcdNode, directory: Path, root: str) -> None:
        self._place = node.address
        self._nobody, self._user = trusting(directory), trusting(directory)
        self._user.load_cert_chain(directory / "u.crt", directory / "u.key")
        self.root = root
        self.done: list[Done] = []
        self.denied: list[Done] = []

    async def ask(
        self, context: ssl.SSLContext, call: str, target: str, token: str, body: bytes
    ) -> tuple[int, bytes]:
        """Status and body, whole."""
        method = call.partition(" ")[0]
        headers = {"Connection": "close", **({"Authorization": token} if token else {})}
        host, port = self._place
        reader, writer = await asyncio.open_connection(
            host, port, ssl=context, server_hostname="localhost"
        )
        async with asyncio.timeout(WAIT_S):
            writer.write(request(method, target, headers, body))
            answer = await reader.read()
        writer.close()
        head, _, content = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), content

    async def all_ways(self, call: str, target: str, body: bytes) -> bytes:
        """Refused to nobody and to a user who is shown by a certificate; then done by root."""
        for user, context in ((None, self._nobody), ("u", self._user)):
            status, _ = await self.ask(context, call, target, "", body)
            codes = (400, 403, 500) if "/v3/" in call else (401, 403)  # as etcd does
            assert status in codes, (call, status)
            self.denied.append(Done(user, call, status))
        status, content = await self.ask(self._nobody, call, target, self.root, body)
        assert status not in (401, 403), (call, content)
        self.done.append(Done("root", call, status))
        return content

    async def by_nobody(self, call: str, body: Any) -> tuple[int, bytes]:
        """A call that needs no right."""
        target = call.partition(" ")[2]
        status, content = await self.ask(self._nobody, call, target, "", orjson.dumps(body))
        (self.denied if status in (401, 403) else self.done).append(Done(None, call, status))
        return status, content


async def native_hour(hour: Hour, node: EtcdNode) -> None:
    token = ""
    for call, body in NATIVE.items():
        target = call.partition(" ")[2].replace("{token}", token)
        for name, text in PARAMETERS.items():
            target = target.replace(name, text)
        if "cluster" in target:
            target += "?timeout=2"
        content = await hour.all_ways(call, target, b"" if body is None else orjson.dumps(body))
        if call == "POST /v1/cluster/tokens":
            issued = json.loads(content)
            token = issued["id"]
            join = {"peer_address": "127.0.0.1:5", "client_address": "127.0.0.1:6"}
            join |= {"incarnation": "00000000000000ff", "name": "comes"}
            path = "POST /v1/cluster/members/join"
            assert (await hour.by_nobody(path, {"token": "guess", **join}))[0] == 403
            assert (await hour.by_nobody(path, {"token": issued["token"], **join}))[0] == 201
        if call == "POST /v1/auth/rotate":
            hour.root = await log_in(node, "root", "root's")
            hour.done.append(Done(None, "POST /v3/auth/authenticate", 200))
    assert not node.replica.state.auth.enabled
    await hour.by_nobody("POST /v1/auth/enable", {})
    hour.root = await log_in(node, "root", "root's")
    hour.done.append(Done(None, "POST /v3/auth/authenticate", 200))
    await hour.by_nobody("POST /v1/auth/login", {"user": "u", "password": "u's"})
    await hour.by_nobody("POST /v1/auth/login", {"user": "mallory", "password": "wrong word"})
    await hour.by_nobody("POST /v1/cluster/certificates", {"request": "none", "hosts": []})


async def etcd_hour(hour: Hour) -> None:
    for name, fields in ETCD.items():
        body = orjson.dumps(encoded(fields))
        await hour.all_ways(f"POST /v3/{name}", f"/v3/{name}", body)


def an_hour(path: Path) -> tuple[Hour, Path]:
    """All of it on one node, and the log that it has left."""
    log, hours = path / "audit.jsonl", list[Hour]()

    async def test(node: EtcdNode, directory: Path) -> None:
        def administrative(rows: Any) -> set[str]:
            return {f"{row.method} {row.path}" for row in rows if row.need in ADMINISTRATIVE}

        assert administrative(native_calls()) == set(NATIVE)
        etcd = {f"POST /v3/{name}" for name in ETCD}
        assert administrative(etcd_calls(node.http._access)) == etcd
        root = (await guard(node)).root
        hours.append(Hour(node, directory, root))
        await native_hour(hours[0], node)
        await etcd_hour(hours[0])

    on_tls(path, test, audit_log=str(log))
    return hours[0], log


def check_told(hour: Hour, records: list[dict[str, Any]]) -> None:
    """Who, from where, what, and what came of it: of each once."""
    left = [record for record in records if "call" in record]
    for done in (*hour.done, *hour.denied):
        found = next(
            (each for each in left if (each["user"], each["call"], each["status"]) == done), None
        )
        assert found is not None, done
        assert found["from"] == "127.0.0.1" and found["time"] and found["node"] == 1
        assert bool(found.get("denied")) == (done in hour.denied), found
        left.remove(found)
    assert not [each for each in left if each.get("denied")]


def check_what(records: list[dict[str, Any]]) -> None:
    """What was done to whom, where the call alone does not say it."""
    changes: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        for change in record.get("changes", ()):
            changes.setdefault(change["change"], []).append(change)
    assert changes["Compact"] == [{"change": "Compact", "revision": 2}]
    assert changes["LeadershipMove"][0]["to"] == 1
    granted = {"role": "new", "right": "READ", "keys": "reports/ .. reports0"}
    assert {"change": "GrantPermission", **granted} in changes["GrantPermission"]
    one_key = {"role": "late", "right": "WRITE", "keys": "late"}
    assert {"change": "GrantPermission", **one_key} in changes["GrantPermission"]
    assert (
        changes["AddMember"][0] | {"name": "two", "peer_address": "127.0.0.1:1"}
        == (changes["AddMember"][0])
    )
    guessed, joined = (each for each in changes["AddMember"] if each["name"] == "comes")
    (token,) = {each["token"] for each in changes["IssueToken"]}
    assert {joined["token"], *(each["token"] for each in changes["RevokeToken"])} == {token}
    assert guessed["token"] != token
    assert changes["RemoveMember"][0]["id"] == changes["UpdateMember"][0]["id"] == 2
    assert changes["SetConfiguration"][0]["voters"] == [1]
    assert set(changes) >= EACH_CHANGE
    about = {(record["call"], record["user"], record.get("about")) for record in records[1:]}
    for user in (None, "u", "root"):
        assert ("DELETE /v1/cluster/members/{member}", user, "two") in about
        assert ("DELETE /v1/users/{name}", user, "new") in about
    logins = [(record.get("login"), record["status"]) for record in records[1:]]
    assert ("u", 200) in logins and ("mallory", 401) in logins


@pytest.mark.proof
def test_an_hour_is_told_and_a_changed_line_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hour, log = an_hour(tmp_path)
    written = log.read_bytes()
    for secret in SECRETS:
        assert secret.encode() not in written, secret
    assert main(["audit", "verify", "--json", str(log)]) == 0
    verdict = json.loads(capsys.readouterr().out)
    lines = written.splitlines(keepends=True)
    assert verdict["records"] == len(lines) and verdict["missing"] == 0
    records = [orjson.loads(line) for line in lines]
    check_told(hour, records)
    check_what(records)
    print(f"{len(hour.done)} calls, {len(hour.denied)} denials, {len(lines)} lines", flush=True)
    rng = random.Random(1)
    capsys.readouterr()
    for number, line in enumerate(lines):
        at = rng.randrange(len(line))
        changed = bytearray(line)
        changed[at] = rng.choice([byte for byte in range(256) if byte != line[at]])
        log.write_bytes(b"".join((*lines[:number], bytes(changed), *lines[number + 1 :])))
        with log.open("rb") as file:
            found = verify(file)
        assert found.fault or found.last != verdict["last"], (number, at, line, bytes(changed))
        if number % 20 == 0 or number == len(lines) - 1:  # a command costs more than all else
            assert main(["audit", "verify", "--expect", verdict["last"], str(log)]) == 3
