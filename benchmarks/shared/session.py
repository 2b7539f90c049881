"""What every benchmark shares: a directory that goes away, an orderly end, result files."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "results"


@contextlib.contextmanager
def workspace(parent: Path | None = None) -> Iterator[Path]:
    """A temporary directory, removed on every exit; SIGTERM ends the run as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    directory = Path(tempfile.mkdtemp(prefix="kvbench-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def publish(text: str, name: str, output: Path | None, data: object = None) -> None:
    """Write a markdown report to `output`, or under benchmarks/results/, and `data` as JSON beside
    it if there is any."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = output or RESULTS / f"{name}-{stamp}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if data is not None:
        path.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    print(f"\nwritten to {path}")


def say(text: str) -> None:
    """Progress, shown at once."""
    print(text, flush=True)


def _interrupt() -> None:
    raise KeyboardInterrupt
