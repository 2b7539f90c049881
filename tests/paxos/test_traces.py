"""Readable traces of the protocol: commands in, every message, record and choice out.

A trace in `tests/traces/` is a text of comments (`#`), commands (`>`) and the log that they must
produce (indented). After a wanted change: `python -m tests.paxos.test_traces --rewrite`, then read
the difference. Commands::

    > cluster 3 window=1        nodes 1 to 3; time-outs without jitter, so traces do not roll dice
    > tick 1 16                 sixteen ticks of node 1
    > deliver 1->2              what is now on the way from 1 to 2
    > settle                    deliver until nothing is on the way; `settle 1 2`: lose the rest
    > drop 1->2                 lose what is on the way; `drop`: lose everything
    > propose 1 a · read 2 7 · hand-over 1 3 · suspect 2 1 · truncate 1 4 · snapshot 3
    > crash 1 · restart 1
    > who                       who leads, as each node sees it
    > quiet ...                 any command, without its log
"""

import sys
from pathlib import Path
from typing import Any

import pytest

from paxos.ballot import NodeId
from paxos.messages import AnyMessage, LogEntry, Message
from paxos.records import ChosenThrough, Promised, Record, Truncation
from proof.simulation.tell.describe import describe, describe_entries, value_text
from tests.support.paths import ROOT
from tests.support.paxos_cluster import Cluster

TRACES = ROOT / "tests" / "traces"


def describe_record(record: Record) -> str:
    """What an acceptor writes to its disk."""
    match record:
        case Promised(ballot):
            return f"promised {ballot}"
        case LogEntry():
            return describe_entries((record,))
        case ChosenThrough(slot):
            return f"chosen through {slot}"
        case Truncation(slot):
            return f"log begins at slot {slot}"


def event_text(event: object) -> str:
    match event:
        case Promised() | LogEntry() | ChosenThrough() | Truncation():
            return f"writes {describe_record(event)}"
        case (int(slot), bytes(value)):
            return f"learns that {slot}={value_text(value)} is chosen"
    return str(event)


class Script:
    """Runs the commands of one trace and collects its log."""

    def __init__(self) -> None:
        self.cluster = Cluster(1)
        self.lines: list[str] = []
        self._sent: tuple[NodeId, AnyMessage, list[NodeId]] | None = None

    def run(self, text: str) -> str:
        for line in text.splitlines():
            if line.startswith("  "):
                continue
            self.lines.append(line)
            if not line.startswith(">"):
                continue
            before = len(self.lines)
            words = line[1:].split()
            loud = words[0] != "quiet"
            self.command(*(words if loud else words[1:]))
            self.close_send()
            if not loud:
                del self.lines[before:]
        return "\n".join(self.lines) + "\n"

    def on_event(self, i: NodeId, event: object) -> None:
        match event:
            case (int(to), Message() as message):
                if self._sent is not None and self._sent[:2] == (i, message):
                    self._sent[2].append(to)
                    return
                self.close_send()
                self._sent = (i, message, [to])
            case _:
                self.close_send()
                self.lines.append(f"  {i} {event_text(event)}")

    def close_send(self) -> None:
        """A message to several nodes is one line."""
        if self._sent is not None:
            i, message, to = self._sent
            self.lines.append(f"  {i} -> {', '.join(map(str, to))}: {describe(message)}")
            self._sent = None

    def command(self, name: str, *words: str) -> None:
        cluster = self.cluster
        match name, words:
            case "cluster", (n, *options):
                pairs = (option.split("=") for option in options)
                config: dict[str, Any] = {key: int(value) for key, value in pairs}
                self.cluster = Cluster(
                    int(n), jitter=lambda _node, _n: 0, on_event=self.on_event, **config
                )
            case (("deliver" | "drop"), (link,)):
                sender, to = map(int, link.split("->"))
                if name == "deliver":
                    cluster.deliver_from(sender, to)
                else:
                    cluster.drop(lambda packet: packet[:2] != (sender, to))
            case "who", ():
                views = (f"{i} follows {cluster.node(i).leader}" for i in cluster.up)
                self.lines.append("  " + ", ".join(views))
            case "drop", ():
                cluster.drop()
            case "settle", only:
                cluster.settle(set(map(int, only)) or None)
            case "propose", (i, value):
                cluster.propose(int(i), value.encode())
            case "suspect", (i, peer):
                cluster.node(int(i)).suspect(int(peer))
            case "snapshot", (i,):
                assert cluster.install_snapshot(int(i))
            case _:
                call = getattr(cluster, name.replace("-", "_"))
                call(*map(int, words))


@pytest.mark.parametrize("path", sorted(TRACES.glob("*.txt")), ids=lambda path: path.stem)
def test_trace(path: Path) -> None:
    text = path.read_text()
    assert text == Script().run(text)


def test_there_are_traces() -> None:
    assert len(list(TRACES.glob("*.txt"))) >= 8


if __name__ == "__main__" and "--rewrite" in sys.argv:
    for trace in sorted(TRACES.glob("*.txt")):
        trace.write_text(Script().run(trace.read_text()))
