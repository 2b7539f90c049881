"""Many writes at once, to bring a system into the state in which it is then measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain, repeat

import uvloop

from benchmarks.clients.load import LoadFailed
from benchmarks.clients.raw_client import drive
from benchmarks.clients.traffic import VALUE_BYTES, Dialect, key_of, value_of
from benchmarks.clients.wires import WIRES
from benchmarks.systems.clusters import BenchCluster

CONNECTIONS = 8
_KEPT_BYTES = 64 << 20
"""Requests for all keys are made beforehand, and used again, if their values are no larger."""


def writes(dialect: Dialect, keys: int, value_bytes: int = VALUE_BYTES) -> Iterator[bytes]:
    """Requests that write every key once, as many in each as `dialect` allows."""
    for first in range(0, keys, dialect.many):
        numbers = range(first, min(first + dialect.many, keys))
        yield dialect.put_many((key_of(n), value_of(n, 0, value_bytes)) for n in numbers)


def fill(
    cluster: BenchCluster, keys: int, rounds: int = 1, value_bytes: int = VALUE_BYTES
) -> float:
    """Write every key so many times; the seconds it took. Raises LoadFailed."""
    cluster.prepare(keys)
    dialect = cluster.dialect
    if keys * value_bytes <= _KEPT_BYTES:
        kept = list(writes(dialect, keys, value_bytes))
        requests: Iterator[bytes] = chain.from_iterable(repeat(kept, rounds))
    else:
        requests = chain.from_iterable(writes(dialect, keys, value_bytes) for _ in range(rounds))
    begun = time.monotonic()
    port = cluster.wait_leader().client_port
    source = drive(port, CONNECTIONS, lambda: next(requests, None), WIRES[dialect.wire])
    tally = uvloop.run(source)
    if tally.bad_status or tally.socket_errors or not tally.requests:
        raise LoadFailed(
            f"{cluster.name}: of {tally.requests} requests {tally.bad_status} were refused, "
            f"{tally.socket_errors} connections lost"
        )
    return time.monotonic() - begun
