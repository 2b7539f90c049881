"""Checkpoints in the background: the applied state made durable, the log truncated behind it, old
revisions compacted, and snapshots installed.

All writing of the state's file happens on one thread, begun from here; the rest stays on the loop.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import lmdb

from kvstore.config import Config
from kvstore.errors import StorageFailed
from kvstore.event_log import EventLog
from kvstore.replica.commits import Commits
from kvstore.replica.disk_watch import DiskWatch
from kvstore.replica.health import Health
from kvstore.replica.metrics import Counters
from kvstore.replica.probe import Probe
from kvstore.replica.space import SpaceWatch
from kvstore.replica.turns import Turns
from kvstore.state.state_machine import StateMachine
from kvstore.storage.sealed import DamagedRecord
from kvstore.storage.state import StateStore
from paxos.ballot import Slot
from paxos.node import Node

RETRY_S = 1.0
"""Pause after a checkpoint failed, on a full disk say."""

POLL_S = 0.1
"""How often it is looked whether a checkpoint is due."""

COMPACT_SLACK = 0.1
"""Automatic compaction waits until this share of the history it keeps has piled up beyond it."""


class StateCopies:
    """Copies of the last checkpoint, written by a thread of their own."""

    def __init__(self, state: StateMachine, store: StateStore) -> None:
        self._state = state
        self._store = store
        self._copier = ThreadPoolExecutor(1, thread_name_prefix="copy")

    async def copy(self, path: Path) -> Slot:
        """A consistent copy of the last checkpoint in a file at `path`; the slot it covers."""
        through = self._state.checkpointed_through
        self._store.copying += 1
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._copier, lambda: self._store.copy_to(path)
            )
        finally:
            self._store.copying -= 1
        return through

    @property
    def under_way(self) -> int:
        """How many are being written; meanwhile the store must not be replaced."""
        return self._store.copying

    def close(self) -> None:
        """Wait until the last one is written."""
        self._copier.shutdown()


class LogHold(Protocol):
    """Who still needs a part of the log."""

    @property
    def holds_after(self) -> Slot | None:
        """The log after this slot is needed; None: nobody needs any."""


class Checkpoints:
    """Runs from `start` to `stop`. `compact` proposes to drop the revisions before the one given;
    `installed` is called once a snapshot has replaced the state."""

    def __init__(
        self,
        config: Config,
        node: Node,
        state: StateMachine,
        store: StateStore,
        copies: StateCopies,
        hold: LogHold,
        watch: DiskWatch,
        space: SpaceWatch,
        commits: Commits,
        turns: Turns,
        health: Health,
        events: EventLog,
        counters: Counters,
        probe: Probe,
        *,
        compact: Callable[[int], None],
        installed: Callable[[], None],
    ) -> None:
        self._config = config
        self._node = node
        self._state = state
        self._store = store
        self._copies = copies
        self._hold = hold
        self._watch = watch
        self._space = space
        self._commits = commits
        self._turns = turns
        self._health = health
        self._events = events
        self._counters = counters
        self._probe = probe
        self._compact_before = compact
        self._installed = installed
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._idle = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._health.watch(self._task)

    async def stop(self) -> None:
        """A last checkpoint, so that the next start has nothing to replay, and close."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        async with self._idle:
            if not self._health.failure:
                with suppress(StorageFailed):
                    await self.checkpoint()
        self._writer.shutdown()
        self._copies.close()
        self._store.close()

    async def _run(self) -> None:
        while True:
            await self._due()
            async with self._idle:
                if self._health.failure:
                    return  # it may have failed in the middle of a batch
                done = await self.checkpoint()
            if done:
                self._truncate()
                self._compact()
            else:
                await asyncio.sleep(RETRY_S)

    async def _due(self) -> None:
        """Wait until as much time has passed, or as much was applied, as makes up a checkpoint."""
        interval_s = self._config.checkpoint_interval_s
        looks = max(1, round(interval_s / POLL_S))
        for _ in range(looks):
            if self._state.unwritten_bytes >= self._config.checkpoint_bytes:
                return
            await asyncio.sleep(interval_s / looks)

    async def checkpoint(self) -> bool:
        """Make durable what is applied; whether that worked. Nothing is lost if it did not.

        Raises StorageFailed if the log fails meanwhile.
        """
        frozen = self._state.freeze(cleaning=self._space.clearing)
        if frozen is None:
            return True
        through, housekeeping = frozen
        await self._chosen_durable()
        self._watch.checkpoint_begins()
        failed: Exception | None = None
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._writer, lambda: self._store.write_frozen(housekeeping)
            )
        except (lmdb.Error, OSError) as error:
            failed = error
            self._counters.checkpoint_failures += 1
            self._store.fail(grow=isinstance(error, lmdb.MapFullError))
            return False
        except DamagedRecord as error:
            failed = error
            self._health.storage_failed(error)
            return False
        finally:
            self._watch.checkpoint_ends(failed)
        self._counters.checkpoints += 1
        self._state.checkpointed(through)
        self._probe.checkpointed(through)
        return True

    async def _chosen_durable(self) -> None:
        """Wait until the log on disk knows all that is chosen now: a checkpoint must not run
        ahead of the log, or a restart would find slots it cannot vouch for.

        Raises StorageFailed if the node fails before.
        """
        self._node.record_chosen()
        self._turns.step()
        await self._commits.settled()

    def _truncate(self) -> None:
        """Keep a bounded tail of what is checkpointed, and what a snapshot under way leads to."""
        acceptor, config = self._node.acceptor, self._config
        last = self._state.checkpointed_through
        held = self._hold.holds_after
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
            self._probe.truncated(first)
            self._node.truncate(first)
            self._turns.wake()

    def _compact(self) -> None:
        wanted, state = self._config.history_revisions, self._state
        if not wanted:
            return
        keep = self._space.history_kept(wanted)
        if state.revision - state.compacted_revision > keep * (1 + COMPACT_SLACK):
            self._compact_before(state.revision - keep)

    async def install(self, path: Path, through: Slot) -> None:
        """Replace the state by the snapshot at `path`, unless it is not newer."""
        async with self._idle:
            while self._copies.under_way:
                await asyncio.sleep(self._config.tick_s)
            before = self._state.applied_through
            if through <= before or self._health.failure:
                return
            self._store.install(path)
            self._state.load()
            self._probe.snapshot_installed(before, self._state)
            self._installed()
