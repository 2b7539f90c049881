"""The log never blocks and never raises, whatever becomes of who reads it."""

import contextlib
import fcntl
import io
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from kvstore.event_log import WAITING_BYTES_MAX, EventLog, ForwardedLog
from paxos.ballot import Ballot


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The reading and the writing end, of the smallest size there is. The test closes what it
    likes."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


@pytest.mark.parametrize("form", ["human", "json"])
def test_a_pipe_that_nobody_reads_is_waited_for_by_nobody(
    pipe: tuple[int, int], form: Literal["human", "json"]
) -> None:
    log = EventLog(7, form, queue_to=pipe[1])
    longest, lines = 0.0, 2 * WAITING_BYTES_MAX // 1000
    for number in range(lines):
        began = time.monotonic()
        log.event("something", number=number, text="x" * 1000)
        longest = max(longest, time.monotonic() - began)
    assert longest < 0.5
    dropped = log.dropped
    assert dropped > lines / 4
    found = b""
    while b"log lines dropped" not in found or not found.endswith(b"\n"):
        found += os.read(pipe[0], 1 << 16)
    log.close(5)
    *kept, told = found.decode().splitlines()
    assert len(kept) == lines - dropped, "the first ones"
    if form == "json":
        assert json.loads(told)["count"] == dropped and json.loads(told)["node"] == 7
    else:
        assert told.endswith(f"node 7 log lines dropped count={dropped}")


def test_a_reader_that_has_gone_and_a_full_disk_raise_nothing(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    full = os.open("/dev/full", os.O_WRONLY)
    for descriptor in (pipe[1], full):
        log = EventLog(1, queue_to=descriptor)
        log.event("something")
        log.close(5)
        assert log.dropped == 1
    os.close(full)


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize("form", ["human", "json"])
def test_what_cannot_be_printed_raises_nothing(
    form: Literal["human", "json"], tmp_path: Path
) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    log = EventLog(1, form, queue_to=descriptor)
    log.event("something", one=Unprintable(), two="\udc80", three="two\nlines", four=b"\xff")
    log.close(5)
    os.close(descriptor)
    assert path.read_text().count("\n") == 1


def test_what_libraries_log_becomes_events() -> None:
    out = io.StringIO()
    logger = logging.Logger("aiohttp.server")
    logger.addHandler(ForwardedLog(EventLog(1, out=out)))
    try:
        raise ValueError("the cause")
    except ValueError:
        logger.exception("it %s", "failed")
    logger.warning("%d", "no number")
    assert 'node 1 error logger=aiohttp.server message="it failed"' in out.getvalue()
    assert "ValueError: the cause" in out.getvalue() and "message=%d" in out.getvalue()


def test_a_closed_output_raises_nothing() -> None:
    out = io.StringIO()
    log = EventLog(1, out=out)
    out.close()
    log.event("something")
    log.defect(ValueError("x"))


def test_json_lines_have_a_level_and_numbers_as_numbers() -> None:
    out = io.StringIO()
    log = EventLog(3, "json", out)
    log.event("disk well again", seconds="1.5", ballot=Ballot(3, 1), slot=7, reason=ValueError("x"))
    log.event("disk slow", reason="12")
    log.event("failed", reason="bad")
    first, second, third = map(json.loads, out.getvalue().splitlines())
    assert (first["level"], second["level"], third["level"]) == ("info", "warning", "error")
    assert (first["seconds"], first["slot"], first["ballot"]) == (1.5, 7, "3.1")
    assert (first["reason"], second["reason"]) == ("x", "12"), "only what was measured is a number"


def test_a_listener_hears_every_event() -> None:
    heard: list[tuple[str, dict[str, object]]] = []
    log = EventLog(3, out=io.StringIO())
    log.heard = lambda name, fields: heard.append((name, dict(fields)))
    log.event("peer down", peer=2)
    assert heard == [("peer down", {"peer": 2})]
