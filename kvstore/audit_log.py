"""The audit log: JSON lines, each of which carries the hash of the one before.

Who changes, removes or moves a line breaks the chain there, and `verify` says where. What it cannot
see is that the newest lines were cut off: keep the hash that it prints somewhere else.

A thread writes, so a slow disk holds up no request. What does not fit into the queue meanwhile is
counted, and a line says how many records are missing. A disk that fails is a line of the node's
log, a metric, and no reason for the node to stop.
"""

import hashlib
import logging
import os
import stat
import sys
import threading
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

WAITING_MAX = 10_000
"""Records that are not written yet."""
STDERR = "-"
START = "0" * 64
"""What stands before the first line."""
CLOSE_S = 2.0
_TAIL_BYTES = 1 << 20

_log = logging.getLogger("kvstore.audit")


class AuditLog:
    """Appends to `place`, a file or "-" for stderr. Raises OSError if that cannot be opened."""

    def __init__(self, place: str, node: int) -> None:
        self._node = node
        self._waiting: deque[dict[str, Any]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._dropped = 0
        self.dropped = 0
        """Records that were lost: the queue was full, or the file could not be written."""
        self._failing = False
        self._file, self._before, torn = _opened(place)
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()
        self.record({"event": "opened", **({"torn": True} if torn else {})})

    def record(self, fields: dict[str, Any]) -> None:
        """One record, of values that JSON has. Never waits."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._changed:
            if len(self._waiting) >= WAITING_MAX:
                self._lose(1)
                return
            if self._dropped:
                self._waiting.append({"time": now, "node": self._node, "missing": self._dropped})
                self._dropped = 0
            self._waiting.append({"time": now, "node": self._node, **fields})
            self._changed.notify()

    def close(self) -> None:
        """Write what waits, for up to CLOSE_S."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive() and self._file is not sys.stderr.buffer:
            self._file.close()

    def _lose(self, count: int) -> None:
        self._dropped += count
        self.dropped += count

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                records = list(self._waiting)
                self._waiting.clear()
                if not records and self._closing:
                    return
            self._write(records)

    def _write(self, records: list[dict[str, Any]]) -> None:
        before, lines = self._before, []
        for record in records:
            line = _line(record, before)
            before = _hash(line)
            lines.append(line + b"\n")
        try:
            _write_all(self._file, b"".join(lines))
        except OSError as error:
            with self._changed:
                self._lose(len(records))
            if not self._failing:
                self._failing = True
                _log.error("the audit log cannot be written: %s", error)
            return
        self._before = before
        if self._failing:
            self._failing = False
            _log.warning("the audit log can be written again; records lost: %d", self.dropped)


class ChainVerdict(NamedTuple):
    """What a log is worth. `fault`: "" if it is whole; `line`: of the fault, else the last."""

    records: int
    line: int
    last: str
    """The hash of the last line."""
    missing: int
    """Records that the node says it lost."""
    fault: str


def verify(lines: Iterable[bytes]) -> ChainVerdict:
    """Look at every line of a log, each without its line end or with it."""
    before, records, missing, number = START, 0, 0, 0
    torn = False
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip(b"\n")
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            record = None
        if not isinstance(record, dict):
            if torn:
                return ChainVerdict(records, number - 1, before, missing, "is not whole")
            before, torn = _hash(line), True
            continue
        if torn and not record.get("torn"):
            return ChainVerdict(records, number - 1, before, missing, "is not whole")
        torn = False
        if record.get("before") != before:
            fault = "does not follow the line before it: one was changed, removed or put in"
            return ChainVerdict(records, number, before, missing, fault)
        before = _hash(line)
        records += 1
        lost = record.get("missing")
        missing += lost if isinstance(lost, int) else 0
    return ChainVerdict(records, number, before, missing, "is not whole" if torn else "")


def _line(record: dict[str, Any], before: str) -> bytes:
    return orjson.dumps({"before": before, **record})


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _opened(place: str) -> tuple[BinaryIO, str, bool]:
    """The file, the hash of its last line, and whether that line is not whole."""
    if place == STDERR:
        return sys.stderr.buffer, START, False
    path = Path(place)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    file = os.fdopen(descriptor, "r+b", buffering=0)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return file, START, False  # a device or a pipe holds no earlier lines, and may never end
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES) or b""
    if not tail:
        return file, START, False
    torn = not tail.endswith(b"\n")
    if torn:
        _write_all(file, b"\n")
    last = tail.rstrip(b"\n").rpartition(b"\n")[2]
    return file, _hash(last), torn


def _write_all(file: BinaryIO, data: bytes) -> None:
    while data:
        data = data[file.write(data) or 0 :]
    file.flush()
