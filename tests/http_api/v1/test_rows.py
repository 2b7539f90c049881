"""Every call of the native API is a row that says what it needs, and is served as it says."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from http_api.core.calls import ADMINISTRATIVE, NativeCall, Need
from http_api.server import native_calls
from tests.support.guarded_node import Guarded, guarded, log_in
from tests.support.raw_http import connect, request

LEASE = 7


class Example(NamedTuple):
    """A request for a row. `denied`: it is about the key z, or the lease that holds it, on which
    the user has no right."""

    target: str
    body: bytes = b""
    denied: bool = False


EXAMPLES = {
    "GET /v1/kv/{key}": Example("/v1/kv/z", denied=True),
    "HEAD /v1/kv/{key}": Example("/v1/kv/z", denied=True),
    "PUT /v1/kv/{key}": Example("/v1/kv/z", b"1", denied=True),
    "DELETE /v1/kv/{key}": Example("/v1/kv/z", denied=True),
    "GET /v1/kv": Example("/v1/kv?prefix=z", denied=True),
    "POST /v1/txn": Example("/v1/txn", b'{"then":[{"get":{"key":"z"}}]}', denied=True),
    "POST /v1/batch": Example("/v1/batch", b'[{"get":{"key":"z"}}]'),
    "GET /v1/watch": Example("/v1/watch?key=z", denied=True),
    "POST /v1/leases": Example("/v1/leases", b'{"ttl_s":60}'),
    "GET /v1/leases": Example("/v1/leases"),
    "GET /v1/leases/{id}": Example(f"/v1/leases/{LEASE}", denied=True),
    "POST /v1/leases/{id}/keep-alive": Example(f"/v1/leases/{LEASE}/keep-alive"),
    "DELETE /v1/leases/{id}": Example(f"/v1/leases/{LEASE}", denied=True),
    "GET /v1/cluster": Example("/v1/cluster"),
    "POST /v1/cluster/handover": Example("/v1/cluster/handover", b"{}"),
    "GET /v1/cluster/members": Example("/v1/cluster/members"),
    "POST /v1/cluster/members": Example(
        "/v1/cluster/members?dry_run=true", b'{"name":"n","peer_address":"h:1"}'
    ),
    "POST /v1/cluster/members/join": Example("/v1/cluster/members/join", b"{}"),
    "GET /v1/cluster/authority": Example("/v1/cluster/authority"),
    "POST /v1/cluster/certificates": Example("/v1/cluster/certificates", b"{}"),
    "DELETE /v1/cluster/members/{member}": Example("/v1/cluster/members/none"),
    "PATCH /v1/cluster/members/{member}": Example("/v1/cluster/members/none", b"{}"),
    "GET /v1/cluster/configuration": Example("/v1/cluster/configuration"),
    "PUT /v1/cluster/configuration": Example("/v1/cluster/configuration", b'{"voters":[77]}'),
    "POST /v1/cluster/tokens": Example("/v1/cluster/tokens", b"{}"),
    "GET /v1/cluster/tokens": Example("/v1/cluster/tokens"),
    "DELETE /v1/cluster/tokens/{token}": Example("/v1/cluster/tokens/none"),
    "POST /v1/compact": Example("/v1/compact", b'{"revision":2}'),
    "GET /v1/auth": Example("/v1/auth"),
    "POST /v1/auth/enable": Example("/v1/auth/enable"),
    "POST /v1/auth/login": Example("/v1/auth/login", b'{"user":"u","password":"u\'s"}'),
    "GET /v1/users": Example("/v1/users"),
    "GET /v1/users/{name}": Example("/v1/users/root", denied=True),
    "PUT /v1/users/{name}": Example("/v1/users/new"),
    "DELETE /v1/users/{name}": Example("/v1/users/new"),
    "PUT /v1/users/{name}/password": Example(
        "/v1/users/root/password", b'{"password":"root\'s"}', denied=True
    ),
    "POST /v1/users/{name}/logout": Example("/v1/users/u/logout"),
    "POST /v1/users/{name}/grant": Example("/v1/users/u/grant", b'{"role":"r"}'),
    "POST /v1/users/{name}/revoke": Example("/v1/users/none/revoke", b'{"role":"r"}'),
    "GET /v1/roles": Example("/v1/roles"),
    "GET /v1/roles/{name}": Example("/v1/roles/root", denied=True),
    "PUT /v1/roles/{name}": Example("/v1/roles/new"),
    "DELETE /v1/roles/{name}": Example("/v1/roles/new"),
    "POST /v1/roles/{name}/grant": Example("/v1/roles/none/grant", b'{"scope":"backup"}'),
    "POST /v1/roles/{name}/revoke": Example("/v1/roles/none/revoke", b'{"key":"a"}'),
    "GET /v1/snapshot": Example("/v1/snapshot"),
    "GET /v1/backups": Example("/v1/backups"),
    "PUT /v1/backups/{name}": Example(
        "/v1/backups/b", b'{"place":"p","continuous":true,"revision":1,"time_ms":1}'
    ),
    "DELETE /v1/backups/{name}": Example("/v1/backups/b"),
    "GET /healthz": Example("/healthz"),
    "GET /readyz": Example("/readyz"),
    "GET /metrics": Example("/metrics"),
    "GET /v1/version": Example("/v1/version"),
    "GET /openapi.json": Example("/openapi.json"),
    "GET /problems/{slug}": Example("/problems/no-quorum"),
    "GET /": Example("/"),
    "GET /learn": Example("/learn"),
    "GET /learn/code.json": Example("/learn/code.json"),
    "GET /learn/play.json": Example("/learn/play.json?moves=p1.d1"),
    "GET /ui/{file}": Example("/ui/main.js"),
    "GET /v1/node": Example("/v1/node"),
    "GET /v1/node/load": Example("/v1/node/load"),
    "GET /v1/load": Example("/v1/load"),
    "GET /v1/overview": Example("/v1/overview"),
    "GET /v1/overview/live": Example("/v1/overview/live"),
    "GET /v1/node/slots/{slot}": Example("/v1/node/slots/3"),
    "GET /v1/slots/{slot}": Example("/v1/slots/3"),
    "GET /v1/node/recording": Example("/v1/node/recording"),
    "GET /v1/node/incidents": Example("/v1/node/incidents"),
    "GET /v1/node/incidents/{at_ms}": Example("/v1/node/incidents/1"),
    "GET /v1/incidents": Example("/v1/incidents"),
    "GET /v1/incidents/{at_ms}": Example("/v1/incidents/1"),
    "POST /v1/auth/rotate": Example("/v1/auth/rotate"),
    "POST /v1/auth/disable": Example("/v1/auth/disable"),
}
"""In the order in which they are sent: what ends tokens, or authentication, comes last."""
CALLS = {f"{call.method} {call.path}": call for call in native_calls()}
SHOWN_OTHERWISE = {
    "POST /v1/auth/login",
    "POST /v1/cluster/members/join",
    "GET /v1/cluster/authority",
    "POST /v1/cluster/certificates",
}
"""Who calls these shows a password or a token in the body, or the certificate of a node, and is
nobody otherwise; the authority's certificate is no secret."""
DATA = {Need.CALLER, *ADMINISTRATIVE}
"""What calls below /v1/ may need: a few others are served to nobody."""


def test_every_row_has_an_example_and_only_one() -> None:
    assert CALLS.keys() == EXAMPLES.keys()
    assert max(Counter(f"{call.method} {call.path}" for call in native_calls()).values()) == 1


@pytest.mark.parametrize("name", CALLS)
def test_every_row_is_whole(name: str) -> None:
    call = CALLS[name]
    assert call.doc.summary
    assert call.doc.answers
    shows_it = name in SHOWN_OTHERWISE
    closed = (call.path.startswith("/v1/") and not shows_it) or call.path == "/metrics"
    assert (call.need in DATA) == closed
    takes_a_body = call.message is not None or bool(call.doc.body)
    assert takes_a_body == (call.body_bytes_max > 0)
    assert takes_a_body >= bool(EXAMPLES[name].body)


def expected(call: NativeCall, who: str) -> set[int]:
    """The refusals of which one must come; none if the call must be let through."""
    if call.need is Need.OPEN or who == "root":
        return set()
    if who in ("nobody", "liar"):
        return {401}
    denied = call.need in ADMINISTRATIVE or EXAMPLES[f"{call.method} {call.path}"].denied
    return {403} if denied else set()


async def status_of(on: Guarded, call: NativeCall, token: str) -> int:
    example = EXAMPLES[f"{call.method} {call.path}"]
    headers = {"Authorization": token} if token else None
    async with connect(on.node.address) as connection:
        await connection.send(request(call.method, example.target, headers, example.body))
        return await connection.status()


@pytest.mark.parametrize("who", ["nobody", "liar", "user", "root"])
def test_every_row_is_served_to_whom_it_says(who: str, tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        await on.ok("lease/grant", on.root, ID=LEASE, TTL=60)
        await on.ok("kv/put", on.root, key=b"z", value=b"secret", lease=LEASE)
        token = {"nobody": "", "liar": "no token", "user": on.user, "root": on.root}[who]
        for name in EXAMPLES:
            call = CALLS[name]
            if name == "POST /v1/auth/disable" and who == "root":
                token = await log_in(on.node, "root", "root's")  # the secret is another one
            status = await status_of(on, call, token)
            refused = expected(call, who)
            assert {status} & {401, 403} == refused, (name, who, status)
            if name == "PUT /v1/users/{name}/password" and who == "root":
                token = await log_in(on.node, "root", "root's")  # a new password ends tokens

    guarded(tmp_path, test)


def test_a_batch_answers_for_each_operation(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        body = b'[{"get":{"key":"z"}},{"put":{"key":"z","value":""}},{"get":{"key":"a"}}]'
        async with connect(on.node.address) as connection:
            headers = {"Authorization": on.user}
            await connection.send(request("POST", "/v1/batch", headers, body))
            assert await connection.status() == 200
            chunks = await connection.until(b"0\r\n\r\n")
        assert chunks.count(b"permission-denied") == 2
        assert chunks.count(b'"status":200') == 1

    guarded(tmp_path, test)
