"""What one user has in work is bounded, and others do not notice."""

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest

from http_api.limits import quotas
from http_api.limits.quotas import REFUSED_S, Quotas
from kvstore.errors import Overloaded
from kvstore.state.rights import Caller
from tests.support.etcd_node import EtcdNode, on_node
from tests.support.guarded_node import Guarded, guard
from tests.support.raw_http import connect, request

ANN, BOB = Caller("ann", 1), Caller("bob", 1)


def test_requests_and_streams_of_one_user() -> None:
    made = Quotas(2, 1, 0)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(made.request(ANN, 5))
        held.enter_context(made.stream(ANN))
        for refused in (made.request(ANN, 0), made.stream(ANN)):
            with pytest.raises(Overloaded), refused:
                pass
        with made.request(BOB, 0), made.stream(BOB), made.request(None, 0), made.stream(None):
            pass
    with made.request(ANN, 0), made.stream(ANN):
        pass
    assert made.refused == 2


def test_bytes_a_second() -> None:
    now = 0.0
    made = Quotas(0, 0, 100, lambda: now)

    def send(size: int) -> None:
        with made.request(ANN, size):
            pass

    send(60)
    send(40)
    with pytest.raises(Overloaded):
        send(1)
    with made.request(BOB, 100):
        pass
    now = 0.5
    send(50)
    now = 1.5
    send(1000)  # more than a second's: paid for afterwards
    now = 10.0
    with pytest.raises(Overloaded):
        send(1)
    now = 11.0
    send(1)


def test_users_are_forgotten_and_those_at_work_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "USERS_MAX", 5)
    made = Quotas(1, 0, 0)
    with made.request(ANN, 0):
        for number in range(20):
            with made.request(Caller(f"u{number}", 1), 0):
                pass
        with pytest.raises(Overloaded), made.request(ANN, 0):
            pass
    assert len(made._users) <= 6


def test_streams_of_both_apis_count(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        headers = {"Authorization": on.user}
        body = b'{"create_request":{"key":"YQ=="}}'
        native, etcd = ("GET", "/v1/watch?key=a", b""), ("POST", "/v3/watch", body)
        async with connect(on.node.address) as first, connect(on.node.address) as second:
            await first.send(request(native[0], native[1], headers, native[2]))
            assert await first.status() == 200
            await second.send(request(etcd[0], etcd[1], headers, etcd[2]))
            assert await second.status() == 200
            for method, path, content in (native, etcd):
                async with connect(on.node.address) as third:
                    await third.send(request(method, path, headers, content))
                    native_text, etcd_text = b"has 2 streams open already", b"too many requests"
                    await third.until(native_text if method == "GET" else etcd_text)
                async with connect(on.node.address) as roots:
                    sent = request(method, path, {"Authorization": on.root}, content)
                    await roots.send(sent)
                    assert await roots.status() == 200
        async with asyncio.timeout(20):
            while on.node.http._quotas._users["u"].streams:
                await asyncio.sleep(0.005)

    async def run(node: EtcdNode) -> None:
        await test(await guard(node))

    on_node(tmp_path, run, user_streams_max=2)


def test_requests_of_both_apis_count(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        statuses: dict[str, set[int]] = {}

        async def ask(path: str, method: str, body: bytes, token: str) -> None:
            async with connect(on.node.address) as connection:
                reply = await connection.call(method, path, {"Authorization": token}, body)
                statuses.setdefault(f"{path} {token == on.root}", set()).add(reply.status)

        value = b"x" * 1000
        native = [ask("/v1/kv/a", "PUT", value, on.user) for _ in range(40)]
        await asyncio.gather(*native, ask("/v1/kv/b", "PUT", value, on.root))
        # After the others: the user has one request at a time, of either API.
        await asyncio.gather(
            *(ask("/v3/kv/put", "POST", b'{"key":"YQ=="}', on.user) for _ in range(40))
        )
        assert statuses["/v1/kv/a False"] == {200, 503}
        assert statuses["/v3/kv/put False"] == {200, 429}
        assert statuses["/v1/kv/b True"] == {200}
        text = (await on.native("GET", "/metrics", on.root)).body
        assert b"kvstore_quota_refused_total 0" not in text and b"kvstore_quota_refused" in text

    async def run(node: EtcdNode) -> None:
        await test(await guard(node))

    on_node(tmp_path, run, user_requests_max=1)


def test_the_fast_lane_counts_what_is_in_work_in_it(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        lanes, quotas = on.node.http._lanes, on.node.http._quotas
        assert lanes is not None
        headers = {"Authorization": on.user}
        async with connect(on.node.address) as connection:
            before = len(lanes.open)
            await connection.send(request("GET", "/v1/kv/a", headers) * 3)
            assert [(await connection.reply()).status for _ in range(3)] == [200] * 3
            writes = [request("PUT", f"/v1/kv/a{n}", headers, b"1") for n in range(3)]
            await connection.send(b"".join(writes))
            assert [(await connection.reply()).status for _ in range(3)] == [200] * 3
            assert quotas._users["u"].requests == 0 and quotas.refused == 0
            held, clock = Caller("u", 0), asyncio.get_running_loop().time
            quotas.begin(held, 0)
            began_s = clock()
            replies = [await connection.call("GET", "/v1/kv/a", headers)]
            replies += [await connection.call("PUT", "/v1/kv/a", headers, b"1")]
            assert len(lanes.open) == before, "it stays in the fast lane"
            replies += [await connection.call("GET", "/v1/kv/a", headers | {"X-Other": "lane"})]
            assert len(lanes.open) == before - 1
            # Who is refused is not back at once, in either lane; others do not wait.
            assert clock() - began_s >= 3 * REFUSED_S * 0.9
            roots = {"Authorization": on.root}
            for more in ({}, {"X-Other": "lane"}):
                async with connect(on.node.address) as other:
                    assert (await other.call("GET", "/v1/kv/a", roots | more)).status == 200
            quotas.end(held)
        assert {reply.status for reply in replies} == {503}
        assert len({reply.body for reply in replies}) == 1
        assert quotas._users["u"].requests == 0 and quotas.refused == 3

    async def run(node: EtcdNode) -> None:
        await test(await guard(node))

    on_node(tmp_path, run, user_requests_max=1)


def test_what_is_in_work_ends_with_its_connection(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        quotas = on.node.http._quotas
        headers = {"Authorization": on.user}
        async with connect(on.node.address) as connection:
            await connection.send(request("PUT", "/v1/kv/a", headers, b"1") * 5)
        async with connect(on.node.address) as connection:
            await connection.send(request("GET", "/v1/kv/a", headers) * 5)
        async with asyncio.timeout(20):
            while quotas._users["u"].requests:
                await asyncio.sleep(0.005)
        assert (await on.native("GET", "/v1/kv/a", on.user)).status == 200

    async def run(node: EtcdNode) -> None:
        await test(await guard(node))

    on_node(tmp_path, run, user_requests_max=2)
