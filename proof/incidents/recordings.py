"""What `kvstore incident save` wrote, read back: the recordings of several nodes."""

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kvstore.errors import InvalidArgument

FORMAT = 1
_GZIP = b"\x1f\x8b"
BYTES_MAX = 256 << 20
"""Unpacked; what is larger is not one of ours."""


class RecordedEntry(NamedTuple):
    """One thing that happened on one node, as `kvstore.replica.recorder.Recorded` says, at `at_s`
    of the node's own monotonic clock."""

    at_s: float
    name: str
    what: str
    peer: int
    ballot: str | None
    slot: int
    number: int
    more: str

    @property
    def key(self) -> tuple[str, str | None, int, int]:
        """Equal for the two ends of one message, and for messages that repeat it."""
        return self.what, self.ballot, self.slot, self.number


@dataclass(frozen=True)
class NodeRecording:
    """One node's: `head` is the first line of `/v1/node/recording`."""

    node: int
    head: dict[str, Any]
    entries: tuple[RecordedEntry, ...]

    def wall_s(self, at_s: float) -> float:
        """That time by the wall clock, as the node saw it when it was asked."""
        seconds: float = self.head["wall_ms"] / 1000 - (self.head["at_s"] - at_s)
        return seconds

    @property
    def quorum(self) -> int:
        """Nodes that a write needs."""
        return int(self.head["quorum"])


@dataclass(frozen=True)
class Incident:
    """Recordings by node, and why those of others are missing."""

    nodes: dict[int, NodeRecording]
    missing: dict[int, str]


def load(path: Path) -> Incident:
    """Raises InvalidArgument if the file cannot be read, or is none of ours."""
    try:
        with path.open("rb") as plain:
            # What a page of the dashboard downloads is not packed.
            packed = plain.read(len(_GZIP)) == _GZIP
        with gzip.open(path) if packed else path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
        if len(data) > BYTES_MAX:
            raise ValueError("it is too large")
        document = json.loads(data)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError("it is no incident that this version can read")
        nodes = {one["id"]: one for one in document["nodes"]}
        recordings = {
            n: _recording(n, o["recording"]) for n, o in nodes.items() if "error" not in o
        }
        missing = {n: str(one["error"]) for n, one in nodes.items() if "error" in one}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zlib.error) as error:
        raise InvalidArgument("file", f"{path}: {error}") from None
    return Incident(recordings, missing)


def _recording(node: int, text: str) -> NodeRecording:
    head, *lines = text.splitlines()
    return NodeRecording(
        node, json.loads(head), tuple(RecordedEntry(*json.loads(line)) for line in lines if line)
    )
