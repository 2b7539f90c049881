"""Structured logs on stderr: one line per event of interest, for people or as JSON."""

import json
import sys
import time
import traceback
from typing import Literal, TextIO

Format = Literal["human", "json"]


class EventLog:
    """Writes events. `node` goes with each, so that several nodes can share a terminal."""

    def __init__(self, node: int, form: Format = "human", out: TextIO | None = None) -> None:
        self._node = node
        self._form = form
        self._out = sys.stderr if out is None else out

    def event(self, name: str, **fields: object) -> None:
        """One line: when, which node, what happened, and the facts of it."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03}Z"
        if self._form == "json":
            facts = {"time": stamp, "node": self._node, "event": name, **fields}
            line = json.dumps(facts, default=str)
        else:
            facts_text = " ".join(f"{key}={_plain(value)}" for key, value in fields.items())
            line = f"{stamp} node {self._node} {name} {facts_text}".rstrip()
        print(line, file=self._out, flush=True)

    def defect(self, error: BaseException) -> None:
        """A bug, with its traceback."""
        traceback.print_exception(error, file=self._out)


def _plain(value: object) -> str:
    text = str(value)
    return json.dumps(text) if " " in text or not text else text
