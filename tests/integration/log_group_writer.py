"""Commits groups to a log until it is killed; see test_file_claims.py.

    python log_group_writer.py DIRECTORY

Group i holds slots of its own, and truncates what is far behind, so that files go round. It prints
"commit i" before its commit, and "done i" once that has returned.
"""

import sys
from itertools import count
from pathlib import Path

from kvstore.storage.segment_log import SegmentLog
from paxos.ballot import Ballot
from paxos.messages import LogEntry
from paxos.records import ChosenThrough, Truncation

SEGMENT_BYTES = 16 << 10
SLOTS = 3
KEPT = 60


def entries(group: int) -> list[LogEntry]:
    """Of several sectors together."""
    first = group * SLOTS + 1
    return [
        LogEntry(slot, Ballot(1, 1), b"%d" % slot * 100) for slot in range(first, first + SLOTS)
    ]


def main() -> None:
    """Never returns."""
    log = SegmentLog(Path(sys.argv[1]), segment_bytes=SEGMENT_BYTES)
    restored = log.restore()
    through = max((entry.slot for entry in restored.entries), default=0)
    for group in count(through // SLOTS):
        last = group * SLOTS + SLOTS
        print("commit", group, flush=True)
        truncation = [Truncation(last - KEPT)] if group % 10 == 0 and last > KEPT else []
        log.commit([*entries(group), ChosenThrough(last), *truncation])
        print("done", group, flush=True)


if __name__ == "__main__":
    main()
