"""Pages of other sites may change nothing, on either API, by whichever trick a browser allows."""

import asyncio
from typing import Any

import pytest

from http_api.core.browsers import Browsers, member_hosts
from http_api.server import native_calls
from kvstore.peers.roster import Roster, RosterMember
from tests.http_api.conftest import Server
from tests.support.raw_http import Connection, connect

EVIL = "http://evil.example"
WRITES = [
    ("PUT", "/v1/kv/k", b"v"),
    ("DELETE", "/v1/kv/k", b""),
    ("POST", "/v1/txn", b'{"then":[{"put":{"key":"k","value":"v"}}]}'),
    ("POST", "/v1/batch", b'[{"put":{"key":"k","value":"v"}}]'),
    ("POST", "/v1/leases", b'{"ttl_s":60}'),
    ("POST", "/v1/cluster/handover", b"{}"),
    ("POST", "/v1/compact", b'{"revision":2}'),
    ("POST", "/v1/auth/enable", b""),
    ("PUT", "/v1/users/mallory", b"{}"),
    ("PUT", "/v1/backups/mine", b"{}"),
    ("POST", "/v3/kv/put", b'{"key":"aw==","value":"dg=="}'),
    ("POST", "/v3/auth/user/add", b'{"name":"mallory","password":"x"}'),
    ("POST", "/v3/watch", b'{"create_request":{"key":"aw=="}}'),
]
CROSS: list[dict[str, str]] = [
    {"Origin": EVIL},
    {"Origin": "null"},
    {"Origin": "http://test:9", "Host": "test"},
    {"Origin": "https://test.evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Referer": f"{EVIL}/page"},
    {"Origin": EVIL, "Content-Type": "text/plain"},
]


async def status(c: Connection, method: str, path: str, body: bytes, **headers: str) -> int:
    host = headers.pop("Host", "test")
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    await c.send("\r\n".join([*lines, "", ""]).encode() + body)
    return (await c.reply()).status


def run(server: Server, test: Any, **settings: Any) -> None:
    async def body() -> None:
        async with server(**settings) as served:
            await test(served)

    asyncio.run(body())


def test_every_resource_that_can_be_changed_is_tried() -> None:
    tried = {path.split("/")[2] for _, path, _ in WRITES}
    changed = {call.path.split("/")[2] for call in native_calls() if call.method != "GET"}
    assert changed - tried <= {"roles"}


def test_a_page_of_another_site_writes_nothing(server: Server) -> None:
    async def test(served: Any) -> None:
        before = served.replica.state.revision
        for method, path, body in WRITES:
            for headers in CROSS:
                async with connect(served.address) as c:
                    found = await status(c, method, path, body, **headers)
                assert found == 403, (method, path, headers)
        assert served.replica.state.revision == before
        assert not served.replica.state.auth.users

    run(server, test)


def test_a_web_socket_of_another_site_is_refused(server: Server) -> None:
    async def test(served: Any) -> None:
        upgrade = {
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }  # fmt: skip
        for origin, expected in ((EVIL, 403), ("http://test", 101)):
            async with connect(served.address) as c:
                lines = [f"{name}: {text}" for name, text in (upgrade | {"Origin": origin}).items()]
                head = "\r\n".join(["GET /v3/watch HTTP/1.1", "Host: test", *lines, "", ""])
                await c.send(head.encode())
                assert await c.status() == expected

    run(server, test)


def test_our_own_page_and_programs_are_let_in(server: Server) -> None:
    async def test(served: Any) -> None:
        async with connect(served.address) as c:
            own: list[dict[str, str]] = [
                {},
                {"Origin": "http://test"},
                {"Origin": "http://TEST"},
                {"Origin": "https://127.0.0.1:2379", "Host": "127.0.0.1:2379"},
                {"Origin": "http://[::1]:2379", "Host": "[::1]:2379"},
                {"Sec-Fetch-Site": "same-origin"},
                {"Sec-Fetch-Site": "none"},
                {"Referer": "http://test/"},
                {"Accept-Language": "*"},
            ]
            for headers in own:
                assert await status(c, "PUT", "/v1/kv/k", b"v", **headers) == 200, headers

    run(server, test)


def test_a_name_that_is_not_ours_is_refused_on_loopback(server: Server) -> None:
    """DNS rebinding: evil.example leads to 127.0.0.1, and its page reads and writes as its own."""

    async def test(served: Any) -> None:
        async with connect(served.address) as c:
            for method, path in (("GET", "/v1/kv/k"), ("PUT", "/v1/kv/k"), ("POST", "/v3/kv/put")):
                found = await status(c, method, path, b"{}", Host="evil.example:2379")
                assert found == 421, (method, path)
                same = {"Host": "evil.example", "Origin": EVIL}
                assert await status(c, method, path, b"{}", **same) == 421
            for host in ("127.0.0.1", "127.0.0.1:1", "[::1]:1", "localhost", "localhost:9", "n1",
                         "a.localhost", "LOCALHOST."):  # fmt: skip
                assert await status(c, "PUT", "/v1/kv/k", b"v", Host=host) == 200, host

    run(server, test)


def test_names_can_be_allowed(server: Server) -> None:
    async def test(served: Any) -> None:
        async with connect(served.address) as c:
            assert await status(c, "PUT", "/v1/kv/k", b"v", Host="kv.example.com:1") == 200
            assert await status(c, "PUT", "/v1/kv/k", b"v", Host="kv.example.org") == 421

    run(server, test, allowed_hosts=("kv.example.com",))


def test_beyond_loopback_a_name_is_looked_at_where_a_browser_sends_it() -> None:
    browsers = Browsers("0.0.0.0", [("a.internal", 1)], (), ())
    assert browsers.knows_host("a.internal:2379") and not browsers.knows_host("evil.example")
    assert not browsers._local
    assert Browsers("127.0.0.1", [], (), ())._local and Browsers("::1", [], (), ())._local
    assert Browsers("x", [], ("*",), ()).knows_host("evil.example")


def test_cors_only_where_it_is_allowed(server: Server) -> None:
    page = "https://app.example"

    async def test(served: Any) -> None:
        async with connect(served.address) as c:
            for path, body in (("/v1/kv/k", b"v"), ("/v3/kv/put", b'{"key":"aw=="}')):
                method = "PUT" if path.startswith("/v1") else "POST"
                reply = await c.call(method, path, {"Origin": page}, body)
                assert reply.status == 200
                assert reply.headers["access-control-allow-origin"] == page
                assert reply.headers["vary"] == "Origin"
                asked = {"Origin": page, "Access-Control-Request-Method": method}
                reply = await c.call("OPTIONS", path, asked)
                assert reply.status == 204
                assert "Authorization" in reply.headers["access-control-allow-headers"]
                assert method in reply.headers["access-control-allow-methods"]
                for origin in (EVIL, "https://app.example.evil.example"):
                    asked = {"Origin": origin, "Access-Control-Request-Method": method}
                    reply = await c.call("OPTIONS", path, asked)
                    assert not any(name.startswith("access-control") for name in reply.headers)
                assert (await c.call(method, path, {"Origin": EVIL}, body)).status == 403
            reply = await c.call("GET", "/v1/kv/k", {"Origin": EVIL})
            assert "access-control-allow-origin" not in reply.headers
            reply = await c.call("GET", "/v1/kv/none", {"Origin": page})
            assert reply.status == 404 and "access-control-allow-origin" in reply.headers

    run(server, test, cors_origins=(page,))


def test_a_star_lets_all_in(server: Server) -> None:
    async def test(served: Any) -> None:
        async with connect(served.address) as c:
            reply = await c.call("PUT", "/v1/kv/k", {"Origin": EVIL}, b"v")
            assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, "*")

    run(server, test, cors_origins=("*",))


@pytest.mark.parametrize("headers", [{}, {"X-Other-Lane": "yes"}])
def test_no_answer_is_guessed_at(server: Server, headers: dict[str, str]) -> None:
    """Values are anybody's bytes: none of them may become a page, nor any error."""

    async def test(served: Any) -> None:
        async with connect(served.address) as c:
            await c.call("PUT", "/v1/kv/k", headers, b"<script>alert(1)</script>")
            for method, path, body in (
                ("GET", "/v1/kv/k", b""), ("GET", "/v1/kv/none", b""), ("GET", "/v1/kv", b""),
                ("GET", "/", b""), ("GET", "/nothing", b""), ("GET", "/v1/cluster", b""),
                ("POST", "/v3/kv/range", b'{"key":"aw=="}'), ("POST", "/v3/no", b""),
                ("GET", "/version", b""), ("DELETE", "/v1/kv/k", b""), ("PUT", "/v1/kv/k", b""),
            ):  # fmt: skip
                reply = await c.call(method, path, headers, body)
                assert reply.headers["x-content-type-options"] == "nosniff", (method, path)

    run(server, test)


def test_streams_say_so_too(server: Server) -> None:
    async def test(served: Any) -> None:
        for method, path, body in (
            ("GET", "/v1/watch?prefix=", b""),
            ("POST", "/v1/batch", b'[{"get":{"key":"k"}}]'),
            ("POST", "/v3/watch", b'{"create_request":{"key":"aw=="}}'),
        ):
            async with connect(served.address) as c:
                head = f"{method} {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}"
                await c.send(f"{head}\r\n\r\n".encode() + body)
                assert b"nosniff" in await c.until(b"\r\n\r\n"), path

    run(server, test)


def test_members_that_came_later_are_known_by_their_names() -> None:
    roster = Roster(
        "c",
        2,
        2,
        (
            RosterMember(1, "i", "n1", "a.internal:2380", "https://Store.example:2379", True),
            RosterMember(2, "j", "n2", "", "[::1]:2379", False),
        ),
    )
    now: list[Roster | None] = [None]
    browsers = Browsers("0.0.0.0", [], (), (), lambda: member_hosts(now[0]))
    assert not browsers.knows_host("store.example:2379")
    now[0] = roster
    assert browsers.knows_host("store.example:2379") and browsers.knows_host("A.internal")
    assert not browsers.knows_host("evil.example:2379")
    assert member_hosts(roster) == {"a.internal", "store.example", "::1"}
