"""How far something long is: a bar on a terminal, else a line now and then; and what happens to
it. Always on stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

LINE_S = 5.0
"""Without a terminal: how often it says how far it is."""

Advanced = Callable[[int, int], None]
"""Hears how much is done, of how much; 0 of 0 while that is not known."""


@contextmanager
def progress(label: str, unit: str = "bytes") -> Iterator[Advanced]:
    """Show how far `label` is for the length of the block. `unit`: "bytes", or what is counted."""
    if sys.stderr.isatty():
        with _bar(label, unit) as advanced:
            yield advanced
    else:
        yield _lines(label, unit)


@contextmanager
def _bar(label: str, unit: str) -> Iterator[Advanced]:
    # Imported here: it is slow, and only a terminal needs it.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counts = (
        (DownloadColumn(), TransferSpeedColumn())
        if unit == "bytes"
        else (MofNCompleteColumn(), TextColumn(unit))
    )
    columns = (TextColumn(label), BarColumn(), *counts, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(label, total=None)
        yield lambda done, of: shown.update(task, completed=done, total=of or None)


def _lines(label: str, unit: str) -> Advanced:
    began_s = last_s = time.monotonic()

    def advanced(done: int, of: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s < LINE_S:
            return
        last_s = now_s
        rate = done / (now_s - began_s)
        share = f" of {amount(of, unit)}, {100 * done // of} %" if of else ""
        left = f", {(of - done) / rate:.0f} s left" if of and rate else ""
        print(
            f"kvstore: {label}: {amount(done, unit)}{share}, {amount(int(rate), unit)}/s{left}",
            file=sys.stderr,
            flush=True,
        )

    return advanced


def amount(count: int, unit: str = "bytes") -> str:
    """`count` for people: bytes in MB, anything else with its unit."""
    return f"{count / 1e6:.1f} MB" if unit == "bytes" else f"{count:,} {unit}"


def tell(what: str, **facts: object) -> None:
    """One line on stderr for what happened."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    words = " ".join(f"{name}={value}" for name, value in facts.items())
    print(f"{now} {what} {words}".rstrip(), file=sys.stderr, flush=True)
