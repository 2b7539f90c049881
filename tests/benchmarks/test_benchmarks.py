"""The parts of the benchmarks that a wrong figure could hide in."""

from base64 import b64encode
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.clusters import EtcdBenchCluster, OurBenchCluster, leader_id
from benchmarks.load import LoadReport, merge, percentile
from benchmarks.raw_client import whole
from benchmarks.startup import loading
from benchmarks.traffic import (
    EtcdDialect,
    generation_of,
    key_of,
    read_requests,
    value_of,
    write_requests,
)


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
    assert percentile(Counter({1: 99, 1000: 1}), 99) == 1
    assert percentile(Counter({1: 98, 1000: 2}), 99) == 1000
    assert percentile(Counter(), 50) == 0


def test_rates_of_clients_add_up_and_errors_fail_the_sample() -> None:
    clean = LoadReport(1000, 1_000_000, 0, 0, [(500, 1000)])
    broken = LoadReport(1000, 2_000_000, 1, 2, [(1500, 1000)])
    sample = merge([clean, broken], server_s=4.0, client_s=1.0)
    assert (sample.requests, sample.per_s, sample.errors) == (2000, 1500.0, 3)
    assert (sample.server_cpu, sample.client_cpu) == (2.0, 0.5)
    assert sample.failed
    assert not merge([clean], 1.0, 1.0).failed
    assert merge([LoadReport(0, 1_000_000, 0, 0, [])], 1.0, 1.0).failed


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
    assert whole(answer) is complete


@pytest.mark.parametrize("kind", [OurBenchCluster, EtcdBenchCluster])
def test_loading_writes_every_key_once(
    kind: type[OurBenchCluster | EtcdBenchCluster], tmp_path: Path
) -> None:
    sent = b"".join(loading(kind(tmp_path, size=1), 300))
    for number in range(300):
        key = key_of(number) if kind is OurBenchCluster else b64encode(key_of(number))
        assert sent.count(key) == 1
