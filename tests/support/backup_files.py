"""Backups of a state that the test drives, written without a server."""

import time
from pathlib import Path

from kvstore.backup.frames import (
    BACKUP_MAGIC,
    BLOCK_BYTES,
    WholeChecksum,
    encode_block,
    encode_head,
)
from kvstore.backup.headers import BackupHeader, encode_header
from kvstore.backup.state_files import facts_of
from kvstore.state.state_machine import StateMachine
from kvstore.storage.state import StateStore

CLUSTER = "0123456789abcdef"


def checkpoint(store: StateStore, state: StateMachine) -> None:
    frozen = state.freeze()
    if frozen is not None:
        store.write_frozen(frozen.housekeeping)
        state.checkpointed(frozen.through)


def write_backup(
    store: StateStore, state: StateMachine, to: Path, created_ms: int | None = None
) -> BackupHeader:
    """What a node would send for this state."""
    checkpoint(store, state)
    copy = to.with_suffix(".copy")
    store.copy_to(copy)
    facts = facts_of(copy)
    data = copy.read_bytes()
    copy.unlink()
    header = BackupHeader(
        snapshot="5" * 32,
        cluster_id=CLUSTER,
        node=1,
        created_ms=int(time.time() * 1000) if created_ms is None else created_ms,
        revision=facts.revision,
        compacted_revision=facts.compacted_revision,
        slot=facts.slot,
        digest=facts.digest,
        records=facts.records,
        raw_bytes=len(data),
        product="test",
    )
    head = encode_head(BACKUP_MAGIC, encode_header(header))
    total = WholeChecksum(head)
    with to.open("wb") as out:
        out.write(head)
        for number, at in enumerate(range(0, len(data), BLOCK_BYTES)):
            block = encode_block(number, data[at : at + BLOCK_BYTES])
            total.add(block.checksum, len(data[at : at + BLOCK_BYTES]))
            out.write(block.stored)
        out.write(total.end)
    return header
