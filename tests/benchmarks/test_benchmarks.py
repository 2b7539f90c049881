"""The parts of the benchmarks that a wrong figure could hide in."""

from base64 import b64encode
from pathlib import Path

import pytest

from benchmarks.clients.latencies import Latencies
from benchmarks.clients.load import LoadReport, merge
from benchmarks.clients.traffic import (
    Dialect,
    EtcdDialect,
    OursDialect,
    generation_of,
    key_of,
    read_requests,
    value_of,
    write_requests,
)
from benchmarks.clients.wires import WIRES, ZooKeeperWire
from benchmarks.systems.clusters import leader_id
from benchmarks.systems.filling import writes
from benchmarks.systems.zookeeper import ZooKeeperDialect


def test_a_value_names_the_key_and_generation_that_wrote_it() -> None:
    value = value_of(7, 3)
    assert len(value) == 256
    assert generation_of(7, value) == 3
    assert generation_of(8, value) is None
    assert generation_of(7, value[:-1] + b"?") is None
    assert generation_of(7, b"") is None


def test_request_files_keep_binary_requests_whole(tmp_path: Path) -> None:
    spell = EtcdDialect()
    requests = [spell.put(key_of(n), value_of(n, 0)) for n in range(5)] + [b"\n12\n\x00"]
    write_requests(tmp_path / "requests", requests)
    assert read_requests(tmp_path / "requests") == requests


def test_percentiles_come_from_the_united_histogram() -> None:
    assert Latencies([(1, 99), (1000, 1)]).percentile_ms(99) == 0.001
    united = Latencies([(1, 98)])
    united.add([(1000, 2)])
    assert (united.percentile_ms(99), united.count) == (1.0, 100)
    assert Latencies().percentile_ms(50) == Latencies().mean_ms == 0
    assert 599_000 < Latencies([(10**12, 1)]).percentile_ms(50) < 601_000


def test_rates_of_clients_add_up_and_errors_fail_the_sample() -> None:
    clean = LoadReport(1000, 1_000_000, 0, 0, [(500, 1000)])
    broken = LoadReport(1000, 2_000_000, 1, 2, [(1500, 1000)])
    sample = merge([clean, broken], server_s=4.0, client_s=1.0)
    assert (sample.requests, sample.per_s, sample.errors) == (2000, 1500.0, 3)
    assert (sample.server_cpu, sample.client_cpu) == (2.0, 0.5)
    assert sample.failed
    assert not merge([clean], 1.0, 1.0).failed
    assert merge([LoadReport(0, 1_000_000, 0, 0, [])], 1.0, 1.0).failed


def test_slices_of_clients_are_united() -> None:
    early = LoadReport(2, 1_000_000, 0, 0, [(1000, 2)], 7.0, {"0": [(1000, 2)]})
    late = LoadReport(2, 1_000_000, 0, 0, [(3000, 2)], 6.5, {"0": [(3000, 1)], "3": [(3000, 1)]})
    sample = merge([early, late], 1.0, 1.0)
    assert {number: found.count for number, found in sample.slices.items()} == {0: 3, 3: 1}
    assert sample.began_s == 6.5


@pytest.mark.parametrize(
    ("leader", "expected"), [({"id": 2}, 2), (3, 3), (None, None), ({"id": None}, None)]
)
def test_the_leader_is_read_from_an_object_a_number_or_null(
    leader: object, expected: int | None
) -> None:
    assert leader_id({"leader": leader}) == expected


@pytest.mark.parametrize(
    ("answer", "complete"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\n", False),
    ],
)
def test_an_answer_is_whole_by_length_or_by_its_last_chunk(answer: bytes, complete: bool) -> None:
    assert WIRES["http"].whole(answer) is complete


@pytest.mark.parametrize("spell", [OursDialect(), EtcdDialect(), ZooKeeperDialect()])
def test_filling_writes_every_key_once(spell: Dialect) -> None:
    sent = list(writes(spell, 1250))
    assert len(sent) == -(-1250 // spell.many)
    whole = b"".join(sent)
    for number in range(1250):
        key = b64encode(key_of(number)) if isinstance(spell, EtcdDialect) else key_of(number)
        assert whole.count(key) == 1


def test_an_answer_of_zookeeper_is_whole_by_its_length_and_good_without_an_error() -> None:
    wire = WIRES["zookeeper"]
    good, bad = (ZooKeeperWire.HEAD.pack(16, 1, 7, error) for error in (0, -101))
    assert not wire.whole(b"") and not wire.whole(good[:-1]) and wire.whole(good)
    assert wire.good(good) and not wire.good(bad)
    assert int.from_bytes(wire.greeting[:4], "big") == len(wire.greeting) - 4


def test_a_request_of_zookeeper_says_its_length_and_kind() -> None:
    sent = ZooKeeperDialect().put(b"k", b"value")
    assert int.from_bytes(sent[:4], "big") == len(sent) - 4
    assert int.from_bytes(sent[8:12], "big") == 5
    assert ZooKeeperDialect().value_in(b"\0\0\0\5value and what follows") == b"value"
