"""What an attempt tells its caller: done, certainly not done, or perhaps."""

import asyncio

import pytest

from proof.histories.history import CallOutcome
from proof.processes.network import HeldPort
from proof.torture.requests import Reply, Requests

KEY = "/v1/kv/k"
FOUND = b'HTTP/1.1 200 OK\r\nETag: "7"\r\nContent-Length: 1\r\n\r\nv'


def send(answers: list[bytes | None], count: int) -> tuple[list[Reply], int]:
    """`count` PUTs to a server that gives these answers in turn, and after the last one, or at a
    None, is gone; the replies, and how many requests it got."""

    async def go() -> tuple[list[Reply], int]:
        left, got = list(answers), 0

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal got
            while True:
                try:
                    await reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError:
                    break
                await reader.readexactly(1)
                got += 1
                if not left or (answer := left.pop(0)) is None:
                    server.close()
                    break
                writer.write(answer)
            writer.transport.abort()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        async with Requests({1: f"http://{host}:{port}"}) as requests:
            replies = [
                await requests.send(1, "PUT", KEY, body=b"v", timeout_s=0.5) for _ in range(count)
            ]
        server.close()
        return replies, got

    return asyncio.run(go())


def status(line: str, body: str = "") -> bytes:
    return f"HTTP/1.1 {line}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("answer", "outcome", "unexpected"),
    [
        (FOUND, CallOutcome.OK, False),
        (status("412 No"), CallOutcome.OK, False),
        (status("404 No", '{"type":"/problems/key-not-found"}'), CallOutcome.OK, False),
        (status("404 No"), CallOutcome.REFUSED, True),
        (status("503 No", '{"outcome":"not-applied"}'), CallOutcome.REFUSED, False),
        (status("503 No", '{"outcome":"unknown"}'), CallOutcome.UNKNOWN, False),
        (status("429 No"), CallOutcome.REFUSED, False),
        (status("504 No"), CallOutcome.UNKNOWN, False),
        (status("500 No"), CallOutcome.UNKNOWN, True),
        (status("400 No"), CallOutcome.REFUSED, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", CallOutcome.UNKNOWN, False),
        (None, CallOutcome.UNKNOWN, False),
        (b"", CallOutcome.UNKNOWN, False),
    ],
)
def test_outcomes(answer, outcome, unexpected):
    """By status and body; without an answer it is unknown."""
    (reply,), got = send([answer], 1)
    assert (reply.outcome, reply.unexpected, got) == (outcome, unexpected, 1)


def test_an_answer():
    """Body and revision."""
    (reply,), _ = send([FOUND], 1)
    assert (reply.status, reply.body, reply.revision, reply.absent) == (200, b"v", 7, False)


def test_a_connection_that_breaks_is_not_used_to_send_again():
    """The second request reaches the node, which dies of it: unknown, though nobody listens any
    more; the third never leaves."""
    replies, got = send([FOUND, None], 3)
    assert [reply.outcome for reply in replies] == [
        CallOutcome.OK,
        CallOutcome.UNKNOWN,
        CallOutcome.REFUSED,
    ]
    assert got == 2


def test_nobody_listens():
    """Certainly not sent."""

    async def go() -> Reply:
        port = HeldPort()
        async with Requests({1: f"http://{port.address}"}) as requests:
            reply = await requests.send(1, "PUT", KEY, body=b"v")
        port.close()
        return reply

    assert asyncio.run(go()).outcome is CallOutcome.REFUSED
