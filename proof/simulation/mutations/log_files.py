"""Faults of the log's files: syncs, checksums, names, files that are used again.

The swarm needs a crash at the right instant for some of them; walks of the log alone on the
simulated disk find each at once (`tests/proof/simulation/machine/test_log_on_disk_model.py`).
"""

from kvstore.storage import groups, segments
from kvstore.storage.segment_log import SegmentLog
from kvstore.storage.segments import SegmentReader
from proof.simulation.mutations.edit import edit, mutation

MUTATIONS = (
    mutation(
        "acknowledge a group before its sync",
        "A group counts once the disk has it; before, a power failure takes any of its sectors.",
        edit(SegmentLog, "_write", ("write_synced_at", "write_parts_at")),
    ),
    mutation(
        "replay what a used file held before",
        "A segment's old content ends where its own groups end, whatever stands behind them.",
        edit(groups, "decode_head", ("held != generation", "False")),
        edit(SegmentReader, "_take", ("head.number != self.last_number + 1", "False")),
    ),
    mutation(
        "do not sync the log's directory",
        "A file that was synced is lost if its name was not.",
        edit(segments, "make_segment", ("disk.sync_directory(path.parent)", "pass")),
    ),
    mutation(
        "believe what was read without writing it again",
        "A group that was read may be in the system's memory only: killed before the sync, or the "
        "sync failed.",
        edit(SegmentLog, "_restore", ("self._write_again(reader)", "self._seal(reader.segment)")),
    ),
    mutation(
        "seal a group before its sync",
        "The seal says that the sync returned. Else a torn end is taken for damage.",
        edit(
            SegmentLog,
            "_write",
            (
                "segment.file.write_synced_at(segment.end, parts)",
                "end = segment.end + sum(map(len, parts))\n"
                "    segment.file.write_at(end, encode_seal(segment.generation, number, end))\n"
                "    segment.file.write_synced_at(segment.end, parts)",
            ),
        ),
    ),
)

RARE = (
    mutation(
        "do not look at checksums",
        "Of a torn group the disk has any sectors; only its checksums tell that some are missing.",
        edit(groups, "decode_head", ("_begun(offset)) != crc:", "_begun(offset)) == -1:")),
        edit(groups, "decode_records", ("zlib.crc32(value) != crc or len(value) != size", "False")),
    ),
    mutation(
        "take a torn group for whole",
        "A head that is whole says nothing of the values behind it.",
        edit(groups, "decode_records", ("zlib.crc32(value) != crc or len(value) != size", "False")),
    ),
    mutation(
        "name a segment before its header is synced",
        "Else a header that is not whole may be a torn beginning, and no damage.",
        edit(segments, "make_segment", ("file.sync()", "pass")),
    ),
    mutation(
        "begin a segment without the marks",
        "The promise and the chosen prefix must not leave with the segment that holds them.",
        edit(SegmentLog, "_write", ("[*self._marks.records(), *records]", "list(records)")),
    ),
    mutation(
        "use a new file again after a crash",
        "The sync of its zeros may have failed: its size is then what the system remembers.",
        edit(SegmentLog, "_roll", ("self._path / NEW", "self._path / SPARE")),
    ),
)
"""The default swarm does not find them: few of its crashes fall into a commit."""

FILES = (*MUTATIONS, *RARE)
