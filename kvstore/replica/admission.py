"""The doors through which requests of this node come in: writes, read barriers, compaction."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.commands.commands import AsUser, Command, Compact
from kvstore.commands.growing import grows
from kvstore.commands.results import Outcome, Result
from kvstore.config import Config
from kvstore.errors import OutOfSpace, Overloaded
from kvstore.replica.disk_watch import DiskWatch
from kvstore.replica.health import Health
from kvstore.replica.metrics import Counters
from kvstore.replica.pending import PendingReads, PendingWrites
from kvstore.replica.ports import Clock, LeaderView, Wake
from kvstore.replica.prompt import PromptFuture
from kvstore.replica.space import SpaceWatch
from kvstore.state.rights import ITSELF
from kvstore.state.state_machine import StateMachine


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Turns a request into a future that waits for the log, or refuses it at a bound."""

    config: Config
    node: LeaderView
    state: StateMachine
    writes: PendingWrites
    reads: PendingReads
    health: Health
    watch: DiskWatch
    space: SpaceWatch
    clock: Clock
    counters: Counters
    wake: Wake

    def submit(self, command: Command, timeout_s: float) -> "asyncio.Future[Result]":
        """Replicate `command`; the future has its result once it is durable on a quorum and
        applied here, or NoQuorum, OutcomeUnknown or Stopping.

        Raises Overloaded, OutOfSpace, Stopping or WorkTooLarge at once: then it is certainly not
        applied.
        """
        self._check((command,))
        work = self.state.work_of(command)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.writes.add(command, future, self.clock.monotonic() + timeout_s, work)
        self.wake()
        return future

    def submit_group(
        self, commands: Sequence[Command], timeout_s: float
    ) -> "asyncio.Future[list[Outcome]]":
        """`submit` of commands that look at one key each: applied in this order, with none of
        another process in between, and answered together; an error is that of all of them."""
        self._check(commands)
        work = sum(map(self.state.work_of, commands))
        future: asyncio.Future[list[Outcome]] = PromptFuture(loop=asyncio.get_running_loop())
        self.writes.add_group(commands, future, self.clock.monotonic() + timeout_s, work)
        self.wake()
        return future

    def _check(self, commands: Sequence[Command]) -> None:
        """Raises Stopping, Overloaded or OutOfSpace if these may not come in now."""
        self.health.check()
        if self.space.refusal and any(map(grows, commands)):
            raise OutOfSpace(self.space.refusal)
        if self.watch.waits_for_room:
            raise OutOfSpace(self.watch.trouble)
        if self.watch.trouble:
            raise Overloaded(self.watch.trouble)
        if self.state.unwritten_bytes > self.config.overlay_bytes_max:
            raise Overloaded("the disk does not keep up with checkpoints")

    def barrier(self, timeout_s: float, reads: int = 1) -> "asyncio.Future[None]":
        """Done once local reads show every write acknowledged before this call, or NoQuorum or
        Stopping; so many `reads` wait for it. Raises Overloaded or Stopping at once."""
        self.health.check()
        future: asyncio.Future[None] = PromptFuture(loop=asyncio.get_running_loop())
        self.reads.add(future, self.clock.monotonic() + timeout_s, reads)
        self.counters.linearizable_reads += reads
        self.wake()
        return future

    def compact(self, revision: int) -> None:
        """As leader, propose automatic compaction; if it is lost, the next one does."""
        if not self.node.leading or self.health.failure or self.health.stopping:
            return
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        compact = Compact(revision)
        command = AsUser(ITSELF, 0, compact) if self.state.auth.enabled else compact
        deadline_s = self.clock.monotonic() + self.config.request_timeout_s
        try:
            self.writes.add(command, future, deadline_s)
        except Overloaded:
            return
        self.wake()
