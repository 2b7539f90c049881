"""Structured logs: one line per event of interest, for people or as JSON.

Logging never blocks and never raises. A pipe that nobody reads, a closed one and a full disk are
troubles of the log alone: lines are dropped then, counted, and a line says how many.
"""

import json
import logging
import os
import re
import select
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from typing import Literal, TextIO

Format = Literal["human", "json"]

WAITING_BYTES_MAX = 1 << 20
"""Lines that wait for whoever reads the log; beyond, they are dropped."""


class EventLog:
    """Makes lines of events. `node` goes with each, so that several nodes can share a terminal.

    With `queue_to`, a descriptor, a thread of its own writes them; else they are printed to `out`
    at once, for tests and tools.
    """

    def __init__(
        self,
        node: int,
        form: Format = "human",
        out: TextIO | None = None,
        *,
        queue_to: int | None = None,
    ) -> None:
        self.node = node
        """Shown in each line; may be changed."""
        self._form = form
        self._out = sys.stderr if out is None else out
        self._queue = None if queue_to is None else LineQueue(queue_to, self._told)
        self.heard: Callable[[str, Mapping[str, object]], None] = _nobody_hears
        """Is told the name and the facts of each event, too."""

    @property
    def dropped(self) -> int:
        """How many lines were dropped since the start."""
        return 0 if self._queue is None else self._queue.dropped

    def close(self, limit_s: float) -> None:
        """Write what waits, for at most `limit_s`."""
        if self._queue is not None:
            self._queue.close(limit_s)

    def event(self, name: str, **fields: object) -> None:
        """One line: when, which node, what happened, and the facts of it."""
        self.heard(name, fields)
        self.text(self._line(name, **fields))

    def _line(self, name: str, **fields: object) -> str:
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03}Z"
        if self._form == "json":
            facts = {"time": stamp, "level": level_of(name), "node": self.node, "event": name}
            facts |= {key: _fact(key, value) for key, value in fields.items()}
            return json.dumps(facts, default=_text) + "\n"
        facts_text = " ".join(f"{key}={_plain(value)}" for key, value in fields.items())
        return f"{stamp} node {self.node} {name} {facts_text}".rstrip() + "\n"

    def defect(self, error: BaseException) -> None:
        """A bug, with its traceback."""
        self.text("".join(traceback.format_exception(error)))

    def _told(self, count: int) -> str:
        return self._line("log lines dropped", count=count)

    def text(self, text: str) -> None:
        """Whole lines as they are."""
        if self._queue is not None:
            self._queue.put(text)
            return
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError):
            pass  # nobody can be told


class LineQueue:
    """Lines on their way to a descriptor, which a thread of its own writes.

    `told(count)` makes the line that says how many were dropped.
    """

    def __init__(self, descriptor: int, told: Callable[[int], str]) -> None:
        self._descriptor = descriptor
        self._told = told
        self.dropped = 0
        self._untold = 0
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
        self._thread.start()

    def put(self, text: str) -> None:
        """Queue `text`, or drop it. From any thread; never waits for the reader."""
        line = text.encode(errors="backslashreplace")
        with self._changed:
            if self._closed or self._bytes + len(line) > WAITING_BYTES_MAX:
                self.dropped += 1
                self._untold += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
            self._changed.notify()

    def close(self, limit_s: float) -> None:
        """Write what waits, for at most `limit_s`."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(limit_s)

    def _run(self) -> None:
        failing = False
        while True:
            with self._changed:
                # While nothing can be written, the next line is the next attempt.
                while not (self._lines or self._closed or (self._untold and not failing)):
                    self._changed.wait()
                if self._closed and not self._lines and (failing or not self._untold):
                    return
                untold, self._untold = self._untold, 0
                taken, self._lines = self._lines, deque()
            data = b"".join(taken)
            if untold:
                data += self._told(untold).encode(errors="backslashreplace")
            failing = not self._write(data)
            with self._changed:
                # Only now: what is being written takes memory too.
                self._bytes -= sum(map(len, taken))
                if failing:
                    self.dropped += len(taken)
                    self._untold += untold + len(taken)

    def _write(self, data: bytes) -> bool:
        """Whether all of it was written."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                select.select((), (self._descriptor,), ())
            except (OSError, ValueError):
                return False
        return True


class ForwardedLog(logging.Handler):
    """What libraries log by Python's `logging`, as events."""

    def __init__(self, events: EventLog) -> None:
        super().__init__(logging.WARNING)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        """One event, and the traceback if there is one."""
        try:
            message = record.getMessage()
        except Exception:
            message = str(record.msg)
        self._events.event(record.levelname.lower(), logger=record.name, message=message)
        if record.exc_info and record.exc_info[1] is not None:
            self._events.defect(record.exc_info[1])


ERRORS = {"failed", "state differs", "damage found", "error", "critical"}
WARNINGS = {
    "warning", "leader lost", "peer down", "disk slow", "disk queue full", "checkpoint failed",
    "disk full", "space short", "out of space",
    "clocks differ", "log lines dropped", "log end cut off", "link refused", "link dropped",
    "link refused again", "snapshot not received", "snapshot not installed", "snapshot overtaken",
    "stopping without a successor", "settings disagree", "members not changed", "root not reset",
    "snapshot not built",
    "no leader for long, streams and waiters are sent elsewhere",
}  # fmt: skip
_NUMBER = re.compile(r"[+-]?\d+\.\d+|[+-]?\d+")
_MEASURED = ("seconds", "_s", "_ms", "_bytes", "count")


def level_of(name: str) -> str:
    """Of an event, by its name: "error", "warning" or "info"."""
    return "error" if name in ERRORS else "warning" if name in WARNINGS else "info"


def _fact(key: str, value: object) -> object:
    """As JSON has it: what was measured is a number, and what is no plain value is text."""
    if isinstance(value, str) and key.endswith(_MEASURED) and _NUMBER.fullmatch(value):
        return float(value)
    return value if isinstance(value, str | int | float | bool | None) else _text(value)


def _nobody_hears(_: str, __: Mapping[str, object]) -> None:
    """Nobody listens."""


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"({type(error).__name__} while it was printed)"


def _plain(value: object) -> str:
    text = _text(value)
    return json.dumps(text) if " " in text or not text.isprintable() or not text else text
