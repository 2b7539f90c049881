"""Every kind of first request with others behind it on the same connection, through both lanes:
each is answered, in order, as if it had come alone. What etcd's server does too: what follows a
fault or a request to close is not answered, what came before is."""

import asyncio
import re

import pytest

from tests.http_api.conftest import Server
from tests.support.raw_http import WAIT_S, connect

MIB = 1 << 20
CHUNKED = "Transfer-Encoding: chunked"
RANGE = b'{"key":"aw=="}'
TXN = b'{"compare":[{"key":"aw=="}],"success":[],"failure":[{"request_put":{"key":"aw=="}}]}'
UPGRADE = "Connection: Upgrade"
_STATUS = re.compile(rb"HTTP/1\.[01] (\d+) ")


def plain(method: str, path: str, *lines: str, body: bytes = b"", version: str = "1.1") -> bytes:
    """A request, with the length of its body unless it is chunked."""
    head = [f"{method} {path} HTTP/{version}", "Host: t", *lines]
    if body and CHUNKED not in lines:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


def chunks(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


K = "/v1/kv/k"
KEPT: dict[str, tuple[bytes, int]] = {
    "get": (plain("GET", K), 200),
    "get of nothing": (plain("GET", "/v1/kv/none"), 404),
    "put": (plain("PUT", K, body=b"1"), 200),
    "put without a body": (plain("PUT", K), 200),
    "put in chunks": (plain("PUT", K, CHUNKED, body=chunks(b"1")), 200),
    "put refused": (plain("PUT", K, "If-None-Match: *", body=b"1"), 412),
    "put with 100-continue": (plain("PUT", K, "Expect: 100-continue", body=b"1"), 200),
    "put with a bad key": (plain("PUT", "/v1/kv/%zz", body=b"1"), 400),
    "put with an encoding": (plain("PUT", K, "Content-Encoding: gzip", body=b"1"), 415),
    "put too long, in chunks": (plain("PUT", K, CHUNKED, body=chunks(b"1" * (MIB + 1))), 413),
    "get with a body": (plain("GET", K, body=b"abc"), 200),
    "get with chunks": (plain("GET", K, CHUNKED, body=chunks(b"abc")), 200),
    "head": (plain("HEAD", K), 200),
    "head of nothing": (plain("HEAD", "/v1/kv/none"), 404),
    "delete": (plain("DELETE", "/v1/kv/z"), 200),
    "options": (plain("OPTIONS", "*"), 204),
    "another method": (plain("PATCH", K, body=b"abc"), 405),
    "connect": (plain("CONNECT", "t:80"), 404),
    "txn": (plain("POST", "/v1/txn", body=b"{}"), 200),
    "bad txn": (plain("POST", "/v1/txn", body=b"x"), 400),
    "batch": (plain("POST", "/v1/batch", body=b'[{"get":{"key":"k"}}]'), 200),
    "no such path": (plain("GET", "/nothing"), 404),
    "etcd": (plain("POST", "/v3/kv/range", body=RANGE), 200),
    "etcd in chunks": (plain("POST", "/v3/kv/range", CHUNKED, body=chunks(RANGE)), 200),
    "delete with a body": (plain("DELETE", "/v1/kv/z", body=b"abc"), 200),
    "etcd's delete": (plain("POST", "/v3/kv/deleterange", body=b'{"key":"eg=="}'), 200),
    "etcd's put": (plain("POST", "/v3/kv/put", body=b'{"key":"aw=="}'), 200),
    "etcd's put of no key": (plain("POST", "/v3/kv/put", body=b"{}"), 400),
    "etcd's put with no such lease": (
        plain("POST", "/v3/kv/put", body=b'{"key":"aw==","lease":"9"}'),
        404,
    ),
    "etcd's txn": (plain("POST", "/v3/kv/txn", body=TXN), 200),
    "etcd's txn, declined": (plain("POST", "/v3/kv/txn", body=b"{}"), 200),
    "etcd's range, with more": (
        plain("POST", "/v3/kv/range", body=b'{"key":"aw==","limit":"1"}'),
        200,
    ),
    "bad etcd": (plain("POST", "/v3/kv/range", body=b"x"), 400),
    "etcd's stream": (plain("POST", "/v3/lease/keepalive", body=b'{"ID":"1"}'), 200),
    "bad websocket": (plain("GET", "/v3/watch", UPGRADE, "Upgrade: websocket"), 400),
    "an upgrade that is not known": (plain("GET", K, UPGRADE, "Upgrade: h2c"), 200),
    "an upgrade elsewhere": (plain("GET", K, UPGRADE, "Upgrade: websocket"), 200),
    "an empty line before": (b"\r\n" + plain("GET", K), 200),
    "1.0, kept": (plain("GET", K, "Connection: keep-alive", version="1.0"), 200),
}
LAST: dict[str, tuple[bytes, int]] = {
    "close": (plain("GET", K, "Connection: close"), 200),
    "1.0": (plain("GET", K, version="1.0"), 200),
    "garbage": (b"xx\r\n\r\n", 400),
    "a broken chunk": (plain("PUT", K, CHUNKED, body=b"zz\r\n1\r\n0\r\n\r\n"), 400),
    "a broken chunk of etcd's": (plain("POST", "/v3/kv/range", CHUNKED, body=b"zz\r\n"), 400),
    "a broken stream": (
        plain("POST", "/v3/lease/keepalive", CHUNKED, body=b'a\r\n{"ID":"1"}\r\nzz\r\n'),
        200,
    ),
    "too long": (plain("PUT", K, body=b"1" * (MIB + 1)), 413),
}
BEFORE = (
    b"",
    plain("GET", K),
    plain("POST", "/v3/kv/range", body=RANGE),
    plain("GET", "/version", "X-Odd: 1"),
)
AFTER = plain("GET", "/version", "X-Odd: 1") + plain("GET", "/v1/kv/none")


async def piece_of(reader: asyncio.StreamReader) -> bytes:
    """What has come; b"" at the end. What the server never reads resets the connection, behind its
    answers; the reader would raise that first, and keep them."""
    try:
        return await reader.read(1 << 20)
    except ConnectionResetError:
        left = bytes(reader._buffer)
        reader._buffer.clear()
        return left


async def statuses(address: tuple[str, int], *pieces: bytes, count: int) -> list[int]:
    """Of the first `count` answers, or of all if the server closes before."""
    found: list[bytes] = []
    async with connect(address) as c:
        for piece in pieces:
            await c.send(piece)
            await asyncio.sleep(0.005)
        said = b""
        async with asyncio.timeout(WAIT_S):
            while len(found) < count and (more := await piece_of(c._reader)):
                said += more
                found = [s for s in _STATUS.findall(said) if s != b"100"]
    return [int(status) for status in found]


async def walk(server: Server, first: bytes, status: int, last: bool) -> None:
    async with server() as served:
        assert await statuses(served.address, plain("PUT", K, body=b"0"), count=1) == [200]
        for before in BEFORE:
            wanted = [200, status] if before else [status]
            wanted += [] if last else [200, 404]
            # One more than is to come, where the server closes.
            count = len(wanted) + last
            whole = before + first + AFTER
            cuts = [0, len(before) + len(first) // 2]
            if before and last:  # within the end of the head before
                cuts += [len(before) - 1, len(before) - 2, len(before) - 3]
            for cut in cuts:
                pieces = (whole[:cut], whole[cut:]) if cut else (whole,)
                assert await statuses(served.address, *pieces, count=count) == wanted, cut


@pytest.mark.parametrize("name", KEPT)
def test_what_comes_behind_is_answered(server: Server, name: str) -> None:
    asyncio.run(walk(server, *KEPT[name], last=False))


@pytest.mark.parametrize("name", LAST)
def test_what_came_before_the_end_is_answered(server: Server, name: str) -> None:
    asyncio.run(walk(server, *LAST[name], last=True))
