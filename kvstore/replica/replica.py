"""The replica: the loop that owns the consensus node, its clock and its randomness.

One write, one direction: `execute` joins the open bundle; a step proposes it (or relays it to the
leader), drains the node's effects and obeys them in order; chosen slots are applied; the bundle's
futures resolve. Whatever happens within one turn of the event loop is one step: one batch, one
commit, one probe. All state belongs to the loop's thread; the log and checkpoints have their own.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from kvstore.commands.commands import AsUser, Command, Compact
from kvstore.commands.results import Result
from kvstore.config import Config
from kvstore.errors import (
    KvError,
    NoQuorum,
    OutcomeUnknown,
    Overloaded,
    Stopping,
    StorageError,
    StorageFailed,
)
from kvstore.event_log import EventLog
from kvstore.peers.frames import (
    DigestAt,
    LeaseAsk,
    LeaseTold,
    PeerMessage,
    Relay,
    SnapshotAsk,
    SnapshotPiece,
)
from kvstore.peers.membership import Membership
from kvstore.replica.ambient import caller
from kvstore.replica.checkpoints import Checkpoints
from kvstore.replica.digests import DigestCheck
from kvstore.replica.feed import Feed
from kvstore.replica.leasing import Leasing
from kvstore.replica.metrics import Metrics
from kvstore.replica.outbox import Outbox, present_leader
from kvstore.replica.pending import PendingReads, PendingWrites
from kvstore.replica.snapshots import SnapshotSink, SnapshotSource
from kvstore.replica.status import NodeStatus, gauges, status_of
from kvstore.state.rights import ITSELF
from kvstore.state.state_machine import StateMachine
from kvstore.storage.log import LogWriter
from paxos.ballot import NodeId, Slot
from paxos.effects import Effects, Record
from paxos.errors import PeerError
from paxos.messages import AnyMessage
from paxos.node import Node


class Clock(Protocol):
    """Time as the replica sees it; the simulation has its own."""

    def monotonic(self) -> float:
        """Seconds; never goes back."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""


class Transport(Protocol):
    """Links to the peers; the simulation has its own."""

    def send(self, to: NodeId, message: PeerMessage) -> None:
        """Queue, or drop."""

    def flush(self) -> None:
        """Let what was queued leave."""

    def connected(self, peer: NodeId) -> bool:
        """Whether messages to `peer` leave at all."""

    async def start(self) -> None:
        """Begin to listen and dial."""

    async def stop(self) -> None:
        """Close all links."""


class Replica:
    """One running member. Made by `kvstore.replica.open.open_replica`, which connects its parts."""

    def __init__(
        self,
        config: Config,
        node: Node,
        state: StateMachine,
        membership: Membership,
        clock: Clock,
        events: EventLog,
    ) -> None:
        self.config = config
        self.node = node
        self.state = state
        self.membership = membership
        self.clock = clock
        self.events = events
        self.metrics = Metrics(lambda: gauges(self))
        self.writes = PendingWrites(
            origin=config.node_id,
            life=node.config.life,
            requests_max=config.pending_requests_max,
            bytes_max=config.pending_bytes_max,
            bundle_bytes_max=config.batch_bytes_max,
        )
        self.outbox = Outbox(
            node,
            self.writes,
            self.metrics.counters,
            batch_bytes_max=config.batch_bytes_max,
            relayed_bytes_max=config.pending_bytes_max,
        )
        self.reads = PendingReads(config.pending_requests_max)
        self.leasing = Leasing(self)
        self.feed = Feed(state)
        self.transport: Transport
        self.log: LogWriter
        self.checkpoints: Checkpoints
        self.source: SnapshotSource
        self.sink: SnapshotSink
        self._digests = DigestCheck(config.node_id, len(config.members))
        self._log_groups = 0
        self._scheduled = False
        self._led = (node.leader, node.leader_ballot)
        self._stopping = False
        self.failure = ""
        self._failed: asyncio.Future[str] | None = None
        self._ticker: asyncio.Task[None] | None = None

    # -- the face ---------------------------------------------------------------------------

    async def execute(self, command: Command, timeout_s: float) -> Result:
        """Replicate `command`; its result, once it is durable on a quorum and applied here.

        Raises NoQuorum, Overloaded or Stopping (certainly not applied), or OutcomeUnknown.
        """
        return await self.submit(command, timeout_s)

    def submit(self, command: Command, timeout_s: float) -> "asyncio.Future[Result]":
        """`execute` for callers that need no coroutine: Overloaded and Stopping are raised at
        once, the other errors come with the future."""
        self.check_running()
        if self.state.unwritten_bytes > self.config.overlay_bytes_max:
            raise Overloaded("the disk does not keep up with checkpoints")
        by = caller.get()
        if by is not None and not isinstance(command, AsUser):
            command = AsUser(by.user, by.auth_revision, command)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.writes.add(command, future, self.clock.monotonic() + timeout_s)
        self.wake()
        return future

    async def read_barrier(self, timeout_s: float) -> None:
        """Wait until local reads show every write acknowledged before this call.

        Raises NoQuorum, Overloaded or Stopping.
        """
        await self.barrier(timeout_s)

    def barrier(self, timeout_s: float) -> "asyncio.Future[None]":
        """`read_barrier` for callers that need no coroutine, like `submit`."""
        self.check_running()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reads.add(future, self.clock.monotonic() + timeout_s)
        self.metrics.counters.linearizable_reads += 1
        self.wake()
        return future

    async def hand_over(self, to: NodeId | None, timeout_s: float) -> NodeId:
        """As leader, make `to` (default: the furthest follower) lead; who leads then.

        Raises NoQuorum if this node does not lead, or if nobody took over in time.
        """
        if not self.node.proposer.leading:
            raise NoQuorum(f"this node does not lead; node {self.node.leader or '?'} does")
        if self.node.hand_over(to) is None:
            raise NoQuorum(f"node {to or '?'} cannot take over: not another member, or far behind")
        self.wake()
        deadline = self.clock.monotonic() + timeout_s
        while self.clock.monotonic() < deadline and not self.failure:
            await asyncio.sleep(self.config.tick_s)
            leader = self.node.leader
            if leader is not None and leader != self.node.id:
                return leader
        raise NoQuorum("nobody took over in time")

    async def copy_state(self, path: Path) -> None:
        """Write a consistent copy of the last checkpoint to `path`. Raises OSError, lmdb.Error."""
        await self.checkpoints.copy(path)

    def status(self) -> NodeStatus:
        """What this node knows of itself and of the cluster."""
        return status_of(self)

    async def start(self) -> None:
        """Begin to take part. Raises OSError if the peer address cannot be bound."""
        loop = asyncio.get_running_loop()
        self._failed = loop.create_future()
        await self.transport.start()
        self._ticker = loop.create_task(self._tick_for_ever())
        self.checkpoints.start()

    async def stop(self) -> None:
        """Hand leadership over if need be, answer who waits, and release everything."""
        if not self._stopping and self.node.leader == self.node.id and not self.failure:
            try:
                await self.hand_over(None, self.config.tick_s * self.config.election_ticks)
            except NoQuorum:
                self.events.event("stopping without a successor")
        self._stopping = True
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        self._fail_pending(Stopping("this node is shutting down; nothing was written"))
        await self.transport.stop()
        await self.source.close()
        await self.sink.close()
        await self.checkpoints.stop()
        self.log.close()

    async def wait_failed(self) -> str:
        """Complete with the reason once this node had to stop by itself."""
        assert self._failed is not None, "not started"
        return await asyncio.shield(self._failed)

    def check_running(self) -> None:
        """Raises Stopping if this node has failed or is shutting down."""
        if self.failure:
            raise Stopping(f"this node has failed: {self.failure}")
        if self._stopping:
            raise Stopping("this node is shutting down")

    # -- inputs -----------------------------------------------------------------------------

    def wake(self) -> None:
        """Step once this turn of the loop has delivered all its inputs."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run_step)

    def on_message(self, sender: NodeId, message: PeerMessage) -> None:
        """A message of a member. Raises PeerError if no correct member sends it."""
        if self.failure:
            return
        try:
            self._dispatch(sender, message)
        except PeerError:
            raise
        except Exception as error:
            self._fail_by(error)

    def _dispatch(self, sender: NodeId, message: PeerMessage) -> None:
        match message:
            case Relay(bundle):
                self.outbox.take_relay(sender, bundle)
            case DigestAt(slot, digest):
                self._compare(sender, slot, digest)
            case SnapshotAsk():
                self.source.on_ask(sender, message, self.node.acceptor.first_slot)
            case SnapshotPiece():
                self.sink.on_piece(sender, message)
            case LeaseAsk():
                self.leasing.on_ask(sender, message)
            case LeaseTold():
                self.leasing.on_told(message)
            case _:
                self.node.receive(sender, message)

    def on_link(self, peer: NodeId, up: bool) -> None:
        """The link from `peer` came or went."""
        if not up and self.membership.formed and not self._stopping:
            self.node.suspect(peer)
        self.wake()

    async def _tick_for_ever(self) -> None:
        while not self.failure:
            await asyncio.sleep(self.config.tick_s)
            self._guard(self._on_tick)

    def _on_tick(self) -> None:
        self._expire()
        if self.membership.formed:
            self.node.tick()
            self.source.tick()
            self.sink.tick()
            self.outbox.tick()
            self.leasing.tick()
            self._run_step()

    def _expire(self) -> None:
        now = self.clock.monotonic()
        self.writes.expire(now)
        given_up = self.reads.expire(now)
        if given_up:
            self.node.reads.cancel(given_up)

    # -- a step -----------------------------------------------------------------------------

    def _run_step(self) -> None:
        self._scheduled = False
        if self.membership.formed and not self.failure:
            self._guard(self._step)
            self.transport.flush()

    def _step(self) -> None:
        token = self.reads.take_token()
        if token is not None:
            self.node.read(token)
        while True:
            self.leasing.step()
            if self.node.proposer.leading:
                applied_through = self.state.applied_through
                self.outbox.propose(self._clock_ms, self.leasing.due, applied_through)
            elif (leader := present_leader(self.node, self.transport.connected)) is not None:
                self.outbox.relay(partial(self.transport.send, leader))
            effects = self.node.take_effects()
            if not effects:
                break
            self._obey(effects)
            self._notice_leader()

    def _clock_ms(self) -> int:
        """The leader's time for a batch; replicas never let it go back."""
        return max(self.clock.wall_ms(), self.state.clock_ms)

    def _guard(self, call: Callable[[], None]) -> None:
        """A state that cannot be, or a bug, stops the node: its memory is not to be trusted."""
        try:
            call()
        except Exception as error:
            self._fail_by(error)

    def _fail_by(self, error: Exception) -> None:
        self.events.defect(error)
        self.fail(f"{type(error).__name__}: {error}")

    def fail(self, reason: str) -> None:
        """Stop serving at once, and say why. Nothing is acknowledged from here on."""
        if self.failure:
            return
        self.failure = reason
        self.events.event("failed", reason=reason)
        self._fail_pending(Stopping(f"this node has failed: {reason}"))
        if self._failed is not None and not self._failed.done():
            self._failed.set_result(reason)

    def _fail_pending(self, unsent: KvError) -> None:
        self.writes.fail_all(unsent, OutcomeUnknown("the node stopped; the write may be applied"))
        self.reads.fail_all(unsent)
        self.leasing.fail(unsent)
        self.feed.fail(unsent)

    def _notice_leader(self) -> None:
        """On a new leader everything unanswered is sent again; each is applied once."""
        led = (self.node.leader, self.node.leader_ballot)
        if led == self._led:
            return
        self._led = led
        leader, ballot = led
        self.metrics.counters.leader_changes += leader is not None
        if leader is None:
            self.events.event("leader lost", ballot=ballot)
        else:
            self.events.event("leader elected", leader=leader, ballot=ballot)
        self.outbox.leader_changed()

    # -- effects ----------------------------------------------------------------------------

    def _obey(self, effects: Effects) -> None:
        """In the order that `paxos.effects` demands."""
        for to, message in effects.send_first:
            self.transport.send(to, message)
        if effects.persist or (effects.send and self._log_groups):
            # Messages without records still wait for the commits before them.
            self._submit(effects.persist, effects.send)
        elif effects.send:
            self._deliver(effects.send)
        for slot, value in effects.chosen:
            self._apply(slot, value)
        for token, slot in effects.reads:
            self.reads.ready(token, slot, self.state.applied_through)
        if effects.chosen:
            self.leasing.applied()
            self.reads.applied(self.state.applied_through)
        source = effects.fetch_snapshot_from
        if source is not None and self.sink.start(source):
            self.events.event("snapshot wanted", source=source, have=self.state.applied_through)

    def _submit(self, records: list[Record], send: list[tuple[NodeId, AnyMessage]]) -> None:
        self._log_groups += 1
        self.metrics.counters.log_groups += 1
        self.metrics.counters.log_records += len(records)
        self.log.submit(records, partial(self._durable, send))

    def _durable(self, send: list[tuple[NodeId, AnyMessage]]) -> None:
        self._log_groups -= 1
        if not self.failure:
            self._guard(partial(self._deliver, send))
            self.wake()

    def _deliver(self, send: list[tuple[NodeId, AnyMessage]]) -> None:
        for to, message in send:
            if to == self.node.id:
                self.node.receive(to, message)
            else:
                self.transport.send(to, message)

    def _apply(self, slot: Slot, value: bytes) -> None:
        counters = self.metrics.counters
        for bundle, results in self.state.apply(slot, value):
            counters.commands_applied += len(results)
            if bundle.origin == self.node.id and bundle.starts == self.node.config.life:
                self.writes.resolve(bundle.number, results)
        counters.slots_applied += 1
        if slot % self.config.digest_slots == 0:
            digest = self.state.digest
            message = DigestAt(slot, digest)
            for peer in self.config.members:
                if peer != self.node.id:
                    self.transport.send(peer, message)
            self._compare(self.node.id, slot, digest)

    def _compare(self, node: NodeId, slot: Slot, digest: bytes) -> None:
        different = self._digests.add(node, slot, digest)
        if different is not None:
            self.events.event("state differs", peer=different, slot=slot)

    # -- called by the parts ----------------------------------------------------------------

    async def chosen_durable(self) -> None:
        """Wait until the log on disk knows all that is chosen now: a checkpoint must not run
        ahead of the log, or a restart would find slots it cannot vouch for.

        Raises StorageFailed if the node fails before.
        """
        self.node.record_chosen()
        self._run_step()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log_groups += 1

        def then() -> None:
            self._log_groups -= 1
            if not done.done():
                done.set_result(None)

        self.log.submit([], then)
        assert self._failed is not None, "not started"
        either: list[asyncio.Future[Any]] = [done, self._failed]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self.failure:
            raise StorageFailed(self.failure)

    def truncate(self, first_slot: Slot) -> None:
        """Drop the log before `first_slot`, which a checkpoint covers."""
        self.node.truncate(first_slot)
        self.wake()

    def request_compaction(self, revision: int) -> None:
        """As leader, propose automatic compaction; if it is lost, the next one does."""
        if not self.node.proposer.leading or self.failure or self._stopping:
            return
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        deadline = self.clock.monotonic() + self.config.request_timeout_s
        try:
            compact = Compact(revision)
            by_itself = self.state.auth.enabled
            command = AsUser(ITSELF, 0, compact) if by_itself else compact
            self.writes.add(command, future, deadline)
        except Overloaded:
            return
        self.wake()

    def snapshot_installed(self) -> None:
        """The state was replaced by a snapshot's."""
        self.metrics.counters.snapshots_installed += 1
        through = self.state.applied_through
        self.events.event("snapshot installed", through=through, revision=self.state.revision)
        self.node.restart_from_snapshot(through)
        self.feed.reset()
        self.reads.applied(through)
        self.wake()

    def log_failed(self, error: StorageError) -> None:
        """D2: never carry on past a failed write."""
        self.fail(str(error))
