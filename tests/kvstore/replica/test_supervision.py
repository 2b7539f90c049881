"""A part of the node that dies by an error that nobody foresaw ends the node."""

import asyncio
from pathlib import Path

import pytest

from kvstore.errors import Stopping
from kvstore.replica import status
from kvstore.replica.open import open_replica
from kvstore.replica.replica import Replica
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
            monkeypatch.setattr(parts.transport, "_dial_once", dies)
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
