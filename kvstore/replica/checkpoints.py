"""Background work on the state: checkpoints, log truncation, compaction, snapshots' copies.

The owner of the one thread on which the state's file is written. Everything else stays on the loop.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb

from kvstore.errors import StorageFailed
from kvstore.storage.state import StateStore
from paxos.ballot import Slot

if TYPE_CHECKING:
    from kvstore.replica.replica import Replica

RETRY_S = 1.0
"""Pause after a checkpoint failed, on a full disk say."""

OVERLAY_TIMES_MAX = 4
"""At `overlay_bytes_max` a node refuses its own clients; a follower must go on applying, and at
this many times the bound it stops rather than fill the memory."""

COMPACT_SLACK = 0.1
"""Automatic compaction waits until this share of the history it keeps has piled up beyond it."""


class Checkpoints:
    """Runs for as long as its replica does."""

    def __init__(self, replica: "Replica", store: StateStore) -> None:
        self._replica = replica
        self._store = store
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._copier = ThreadPoolExecutor(1, thread_name_prefix="copy")
        self._idle = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """A last checkpoint, so that the next start has nothing to replay, and close."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        async with self._idle:
            if not self._replica.failure:
                with suppress(StorageFailed):
                    await self.checkpoint()
        self._writer.shutdown()
        self._copier.shutdown()
        self._store.close()

    async def _run(self) -> None:
        try:
            await self._run_for_ever()
        except Exception as error:
            self._replica.events.defect(error)
            self._replica.fail(f"checkpointing failed: {type(error).__name__}: {error}")

    async def _run_for_ever(self) -> None:
        interval_s = self._replica.config.checkpoint_interval_s
        while True:
            await asyncio.sleep(interval_s)
            async with self._idle:
                if self._replica.failure:
                    return  # it may have failed in the middle of a batch
                done = await self.checkpoint()
            if done:
                self._truncate()
                self._compact()
            else:
                await asyncio.sleep(RETRY_S)

    async def checkpoint(self) -> bool:
        """Make durable what is applied; whether that worked. Nothing is lost if it did not.

        Raises StorageFailed if the log fails meanwhile.
        """
        replica = self._replica
        frozen = replica.state.freeze()
        if frozen is None:
            return True
        through, housekeeping = frozen
        await replica.chosen_durable()
        try:
            await self._on(self._writer, lambda: self._store.write_frozen(housekeeping))
        except (lmdb.Error, OSError) as error:
            replica.metrics.counters.checkpoint_failures += 1
            replica.events.event("checkpoint failed", reason=error, retry_s=RETRY_S)
            self._store.fail(grow=isinstance(error, lmdb.MapFullError))
            if self._store.unwritten_bytes > OVERLAY_TIMES_MAX * replica.config.overlay_bytes_max:
                replica.fail(f"the state cannot be written, and memory is full: {error}")
            return False
        replica.metrics.counters.checkpoints += 1
        replica.state.checkpointed(through)
        return True

    def _truncate(self) -> None:
        """Keep a bounded tail of what is checkpointed, and what a snapshot under way leads to."""
        replica = self._replica
        acceptor, config = replica.node.acceptor, replica.config
        last = replica.state.checkpointed_through
        held = replica.source.holds_after
        if held is not None and acceptor.log_bytes < 8 * config.log_tail_bytes:
            last = min(last, held)
        first, size = acceptor.first_slot, acceptor.log_bytes
        count = acceptor.last_slot - first + 1
        while first <= last and (size > config.log_tail_bytes or count > config.log_tail_slots):
            entry = acceptor.log.get(first)
            size -= len(entry.value) if entry is not None else 0
            first += 1
            count -= 1
        if first > acceptor.first_slot:
            replica.truncate(first)

    def _compact(self) -> None:
        keep = self._replica.config.history_revisions
        state = self._replica.state
        if keep and state.revision - state.compacted_revision > keep * (1 + COMPACT_SLACK):
            self._replica.request_compaction(state.revision - keep)

    async def copy(self, path: Path) -> Slot:
        """A consistent copy of the last checkpoint in a file at `path`; the slot it covers."""
        through = self._replica.state.checkpointed_through
        self._store.copying += 1
        try:
            await self._on(self._copier, lambda: self._store.copy_to(path))
        finally:
            self._store.copying -= 1
        return through

    async def install(self, path: Path, through: Slot) -> None:
        """Replace the state by the snapshot at `path`, unless it is not newer."""
        async with self._idle:
            while self._store.copying:
                await asyncio.sleep(self._replica.config.tick_s)
            if through <= self._replica.state.applied_through or self._replica.failure:
                return
            self._store.install(path)
            self._replica.state.load()
            self._replica.snapshot_installed()

    @staticmethod
    async def _on(executor: ThreadPoolExecutor, call: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(executor, call)
