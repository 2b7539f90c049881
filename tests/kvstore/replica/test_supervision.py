"""A part of the node that dies by an error that nobody foresaw ends the node."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from http_api.server import HttpServer
from kvstore.commands.commands import Put
from kvstore.errors import Stopping
from kvstore.peers.outgoing import OutgoingLink
from kvstore.replica import status
from kvstore.replica.open import open_replica
from kvstore.replica.replica import Replica
from tests.support.raw_http import connect
from tests.support.replicas import configs_of, run


@pytest.mark.parametrize("part", ["ticker", "dialler", "checkpoints", "flush"])
def test_a_part_that_dies_ends_the_node(
    tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise KeyError("nobody foresaw this")

    def kill(replica: Replica) -> None:
        parts = replica._parts
        if part == "ticker":
            monkeypatch.setattr(parts.health, "turned", dies)
        elif part == "dialler":
            monkeypatch.setattr(OutgoingLink, "_dial", dies)
        elif part == "checkpoints":
            monkeypatch.setattr(parts.checkpoints, "checkpoint", dies)
        else:
            monkeypatch.setattr(parts.transport, "flush", dies)

    async def test() -> None:
        config, _ = configs_of(2, tmp_path)
        replica = await open_replica(config)
        parts = replica._parts
        parts.membership.formed = part == "flush"
        try:
            assert not replica.status().stalled
            kill(replica)
            parts.turns.wake()
            async with asyncio.timeout(5):
                assert "nobody foresaw this" in await replica.wait_failed()
            assert "failed" in replica.status().stalled
            with pytest.raises(Stopping):
                replica.check_running()
        finally:
            monkeypatch.undo()
            await replica.stop()

    run(test())


def test_a_ticker_that_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "STALLED_S", 0.2)

    async def test() -> None:
        [config] = configs_of(1, tmp_path)
        replica = await open_replica(config)
        monkeypatch.setattr(replica._parts.driver, "_tick_s", 3600)
        try:
            async with asyncio.timeout(5):
                while "ticker" not in replica.status().stalled:
                    await asyncio.sleep(0.05)
        finally:
            await replica.stop()

    run(test())


def test_a_node_that_has_failed_answers_no_read(tmp_path: Path) -> None:
    """Not even a serializable one: it may have failed in the middle of a batch."""

    async def test() -> None:
        [config] = configs_of(1, tmp_path)
        replica = await open_replica(replace(config, listen_client=("127.0.0.1", 0)))
        http = HttpServer(replica, replica.config)
        await http.start()
        try:
            async with connect(http.address) as c:
                await replica.execute(Put(b"k", b"v"), 5)
                target = "/v1/kv/k?consistency=serializable"
                assert (await c.call("GET", target)).body == b"v"
                replica.fail("the disk is gone")
                for path in (target, "/v1/kv?consistency=serializable", "/readyz", "/healthz"):
                    reply = await c.call("GET", path)
                    assert reply.status == 503 and b"the disk is gone" in reply.body
        finally:
            await http.stop()
            await replica.stop()

    run(test())
