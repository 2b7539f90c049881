"""The load of a node: percentiles of histograms, an hour in a ring, and asking the other nodes."""

import asyncio

import pytest

from http_api.core.load import COLUMNS, LoadHistory, Since, percentile_s
from http_api.incidents.neighbours import Neighbours
from kvstore.replica.stages import Durations
from tests.support.ports import free_base


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([0, 0, 0], 0.5, 0.0),
        ([100, 0, 0], 0.5, 0.5),
        ([50, 50, 0], 0.5, 1.0),
        ([0, 100, 0], 0.99, 1.99),
        ([0, 0, 10], 0.5, 2.0),
    ],
)
def test_a_percentile_lies_within_its_bucket(
    counts: list[float], share: float, expected: float
) -> None:
    assert percentile_s((1.0, 2.0), counts, share) == pytest.approx(expected)


def test_only_what_is_new_counts() -> None:
    durations, since = Durations((0.001, 0.01)), Since()
    durations.observe(0.009)
    since.look([durations])
    durations.observe(0.0005)
    durations.observe(0.0005)
    since.look([durations, Durations((0.001, 0.01))])
    assert since.gained == [2, 0, 0]
    assert since.mean_ms == pytest.approx(0.5)
    since.look([durations])
    assert (sum(since.gained), since.mean_ms, since.percentile_ms(0.5)) == (0, 0.0, 0.0)


def test_the_history_forgets_the_oldest_rows() -> None:
    history = LoadHistory(rows_max=10)
    assert history.last() == {}
    for number in range(95):
        history.add(dict.fromkeys(COLUMNS, float(number)))
    columns = history.columns()
    assert set(columns) == set(COLUMNS)
    assert columns["at_ms"] == [float(number) for number in range(85, 95)]
    assert history.last()["cpu_share"] == 94.0


def test_who_does_not_answer_is_told_with_the_reason() -> None:
    async def run() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        servers = [await asyncio.start_server(h, "127.0.0.1", 0) for h in (silent, refusing)]
        ports = [server.sockets[0].getsockname()[1] for server in servers]
        neighbours = Neighbours()
        urls = {
            4: None,
            3: f"http://127.0.0.1:{free_base()}",
            2: f"127.0.0.1:{ports[1]}",
            1: f"http://127.0.0.1:{ports[0]}",
        }
        heard = await neighbours.ask(urls, "/v1/node", None)
        assert [one.id for one in heard] == [1, 2, 3, 4]
        assert [one.document for one in heard] == [None] * 4
        told = [one.trouble for one in heard]
        assert "no answer within" in told[0] and "status 403" in told[1]
        assert "refused" in told[2].lower() and "not met" in told[3]
        await neighbours.close()
        await neighbours.close()
        for server in servers:
            server.close()

    asyncio.run(run())
