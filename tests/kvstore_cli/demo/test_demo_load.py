"""What the load of the demo tells its judge."""

import asyncio
from typing import Any

import pytest

from kvstore_cli.demo import load
from kvstore_cli.demo.load import DemoLoad


class Puts:
    """A judge that keeps what it is told: of each value, whether its write is known to be done."""

    def __init__(self) -> None:
        self.done: dict[str, bool] = {}

    def put(
        self, client: int, key: str, value: str, called_s: float, returned_s: float | None
    ) -> None:
        self.done[value] = returned_s is not None

    def get(self, *_: object) -> None:
        raise AssertionError("nothing is read")

    def judge(self, prefix: str) -> None:
        pass

    def verdict(self) -> dict[str, Any]:
        return {}


def test_a_write_whose_node_is_killed_may_have_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is kept from an earlier call. It breaks, and then nobody listens any more: the
    write must not count as one that never left, or whoever reads its value looks like a liar."""
    monkeypatch.setattr(load, "CLIENTS", 1)
    monkeypatch.setattr(load, "READ_SHARE", 0.0)

    async def test() -> None:
        calls = 0

        async def node(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal calls
            while await reader.readuntil(b"\r\n\r\n"):
                calls += 1
                if calls == 2:
                    server.close()
                    break
                await reader.readexactly(len(str(calls)))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(node, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        judge = Puts()
        loads = DemoLoad([f"http://{host}:{port}"], judge)
        loads.rate_per_s = load.RATE_MAX
        running = asyncio.create_task(loads.run())
        try:
            async with asyncio.timeout(10):
                while loads.failed < 2:
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()
            await asyncio.wait([running])
        assert calls == 2 and judge.done == {"1": True, "2": False}

    asyncio.run(test())
