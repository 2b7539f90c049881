"""The replica: the face of one running member.

One write, one direction: `execute` joins the open bundle (`admission`, `pending`); a step of the
`driver` proposes it, or relays it to the leader (`outbox`), and obeys what the consensus node says;
records become durable (`commits`), chosen slots are applied (`applying`), and the bundle's futures
resolve. `kvstore.replica.open` puts the parts together.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvstore.commands.commands import Command
from kvstore.commands.members import (
    MemberChange,
    MembershipRefusal,
    Reconfigure,
    SetConfiguration,
)
from kvstore.commands.results import MembershipRefused, Outcome, Result
from kvstore.config import Config
from kvstore.errors import KvError, NoQuorum, NotReady, OutcomeUnknown, Stopping
from kvstore.event_log import EventLog
from kvstore.peers.links import PeerTransport
from kvstore.peers.membership import Membership
from kvstore.peers.refusals import Ending, HandshakeRefused
from kvstore.peers.roster import Roster
from kvstore.replica.admission import Admission
from kvstore.replica.checkpoints import Checkpoints, StateCopies
from kvstore.replica.commits import Commits
from kvstore.replica.driver import Driver
from kvstore.replica.feed import Feed
from kvstore.replica.health import Health
from kvstore.replica.leader_absence import LeaderAbsence
from kvstore.replica.leasing import Leasing
from kvstore.replica.metrics import Metrics
from kvstore.replica.pending import PendingReads, PendingWrites
from kvstore.replica.ports import Clock
from kvstore.replica.reconfiguring import Reconfiguring
from kvstore.replica.recorder import Recorder
from kvstore.replica.scrubbing import Scrubber
from kvstore.replica.snapshots import SnapshotSink, SnapshotSource
from kvstore.replica.space import SpaceWatch
from kvstore.replica.status import ReplicaStatus, ReplicaView
from kvstore.replica.steward import Steward
from kvstore.replica.turns import Turns
from kvstore.state.members_record import Governs
from kvstore.state.state_machine import StateMachine
from kvstore.storage.data_dir import DataDir
from paxos.ballot import Ballot, NodeId, Slot
from paxos.node import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a replica is made of, already connected."""

    config: Config
    data_dir: DataDir
    clock: Clock
    events: EventLog
    node: Node
    state: StateMachine
    membership: Membership
    health: Health
    turns: Turns
    admission: Admission
    writes: PendingWrites
    reads: PendingReads
    leasing: Leasing
    feed: Feed
    leader_absence: LeaderAbsence
    commits: Commits
    transport: PeerTransport
    copies: StateCopies
    checkpoints: Checkpoints
    scrubber: Scrubber
    space: SpaceWatch
    source: SnapshotSource
    sink: SnapshotSink
    driver: Driver
    reconfiguring: Reconfiguring
    steward: Steward
    view: ReplicaView
    metrics: Metrics


class Replica:
    """One running member. Made by `kvstore.replica.open.open_replica`."""

    def __init__(self, parts: Parts, recorder: Recorder) -> None:
        self._parts = parts
        self.recorder = recorder
        self._health = parts.health
        self._admission = parts.admission
        self.config = parts.config
        self.node = parts.node
        self.membership = parts.membership
        self.leasing = parts.leasing
        self.feed = parts.feed
        self.leader_absence = parts.leader_absence
        self.metrics = parts.metrics

    @property
    def state(self) -> StateMachine:
        """What is applied here now. Raises Stopping once this node has failed: it may have been in
        the middle of a batch."""
        if self._health.failure:
            self._health.check()
        return self._parts.state

    @property
    def joined(self) -> bool:
        """Whether what is applied here has led this node to where it is a member. Before, its state
        is empty or older than this node itself, and nobody should see it without a barrier."""
        return self._parts.reconfiguring.joined

    # -- requests ---------------------------------------------------------------------------

    async def execute(self, command: Command, timeout_s: float) -> Result:
        """Replicate `command`; its result, once it is durable on a quorum and applied here.

        Raises NoQuorum, Overloaded, OutOfSpace or Stopping (certainly not applied), or
        OutcomeUnknown.
        """
        return await self._admission.submit(command, timeout_s)

    def submit(self, command: Command, timeout_s: float) -> "asyncio.Future[Result]":
        """`execute` for callers that need no coroutine: Overloaded and Stopping are raised at
        once, the other errors come with the future."""
        return self._admission.submit(command, timeout_s)

    def submit_group(
        self, commands: Sequence[Command], timeout_s: float
    ) -> "asyncio.Future[list[Outcome]]":
        """`submit` of many commands that look at one key each. See `Admission.submit_group`."""
        return self._admission.submit_group(commands, timeout_s)

    async def read_barrier(self, timeout_s: float) -> None:
        """Wait until local reads show every write acknowledged before this call.

        Raises NoQuorum, Overloaded or Stopping.
        """
        await self._admission.barrier(timeout_s)

    def barrier(self, timeout_s: float, reads: int = 1) -> "asyncio.Future[None]":
        """`read_barrier` for callers that need no coroutine, like `submit`: so many reads share
        it."""
        return self._admission.barrier(timeout_s, reads)

    # -- the cluster ------------------------------------------------------------------------

    @property
    def leader(self) -> NodeId | None:
        """Who leads, as far as this node knows."""
        return self.node.leader

    @property
    def leader_ballot(self) -> Ballot:
        """The ballot of the last leader heard of, or of this node's own leadership."""
        return self.node.leader_ballot

    @property
    def leading(self) -> bool:
        """Whether this node leads."""
        return self.node.leading

    def status(self) -> ReplicaStatus:
        """What this node knows of itself and of the cluster."""
        return self._parts.view.status()

    async def hand_over(self, to: NodeId | None, timeout_s: float) -> NodeId:
        """As leader, make `to` (default: the furthest follower) lead; who leads then.

        Raises NoQuorum if this node does not lead, or if nobody took over in time.
        """
        if not self.node.leading:
            raise NoQuorum(f"this node does not lead; node {self.node.leader or '?'} does")
        if self.begin_hand_over(to) is None:
            raise NoQuorum(f"node {to or '?'} cannot take over: not another member, or far behind")
        clock = self._parts.clock
        deadline_s = clock.monotonic() + timeout_s
        while clock.monotonic() < deadline_s and not self.failure:
            await asyncio.sleep(self.config.tick_s)
            leader = self.node.leader
            if leader is not None and leader != self.node.id:
                return leader
        raise NoQuorum("nobody took over in time")

    def begin_hand_over(self, to: NodeId | None = None) -> NodeId | None:
        """`hand_over` without waiting; who is asked to lead, None if nobody can be."""
        target = self.node.hand_over(to)
        if target is not None:
            self._parts.turns.wake()
        return target

    # -- members ----------------------------------------------------------------------------

    @property
    def roster(self) -> Roster | None:
        """The members as links know them; None until the cluster has formed."""
        return self.membership.roster

    def reconfiguration(self, change: MemberChange, expected: int = -1) -> Reconfigure:
        """`change` as a command. Raises NotReady while a member runs a release that cannot follow
        it, or this node does not know the members yet."""
        membership = self._parts.membership
        if before := membership.of_release_before:
            raise NotReady(f"nodes {sorted(before)} run an older release: update them first")
        command = self._parts.reconfiguring.command(change, expected)
        if command.founding is None and not self.state.members.founded:
            raise NotReady("this node does not know the members of the cluster yet")
        return command

    def rehearse(self, command: Reconfigure) -> list[Governs] | MembershipRefused:
        """The configurations that a change would lead over; nothing is done."""
        return self.state.members.rehearse(command, self.state.applied_through + 1)

    async def make_way(self, command: Reconfigure, timeout_s: float) -> None:
        """If this node leads and `command` leads to voters without it, another leads first.

        Raises NoQuorum if nobody took over, or if too few of the voters that there will be are
        there now, unless the change is forced: then nothing was changed.
        """
        steps = self.rehearse(command)
        if isinstance(steps, MembershipRefused) or not steps:
            return
        forced = isinstance(command.change, SetConfiguration) and command.change.force
        if not forced and not self._parts.steward.reachable(steps):
            raise NoQuorum(f"this is refused: {MembershipRefusal.MINORITY.value}")
        if not self.node.leading:
            return
        if self.node.id not in steps[-1].voters:
            progress = self.node.progress
            stays = [node for node in self.node.successors if node in steps[-1].voters]
            furthest = max(stays, key=lambda node: progress.get(node, 0), default=None)
            await self.hand_over(furthest, timeout_s)

    async def members_settled(self, timeout_s: float) -> bool:
        """Wait until no change of the members is under way; whether that came in time."""
        clock, members = self._parts.clock, self.state.members
        deadline_s = clock.monotonic() + timeout_s
        while members.record.target is not None or members.pending:
            if clock.monotonic() >= deadline_s:
                return False
            await asyncio.sleep(self.config.tick_s)
            self.check_running()
        return True

    def take_in(self, roster: Roster) -> None:
        """This node asked to join, and `roster` names it: it begins again as that member.

        Raises NotReady if it does not, or if this node holds a restored state; OSError if that
        cannot be kept.
        """
        member = roster.of_incarnation(self.membership.incarnation)
        if member is None:
            raise NotReady("the cluster does not name this node")
        try:
            self.membership.taken_in(roster, member)
        except HandshakeRefused as refused:
            raise NotReady(str(refused)) from None

    def ask_at(self, addresses: Mapping[NodeId, str]) -> None:
        """Ask the nodes at these peer addresses to take this one in, whose disk was lost."""
        self.membership.addresses = dict(addresses)
        self._parts.transport.follow()

    async def copy_state(self, path: Path) -> Slot:
        """A consistent copy of the last checkpoint in a file at `path`; the slot it covers.

        Raises OSError or lmdb.Error if it cannot be written.
        """
        return await self._parts.copies.copy(path)

    # -- start and end ----------------------------------------------------------------------

    @property
    def ending(self) -> Ending:
        """How this node ended, once there is a `failure`."""
        return self._health.ending

    @property
    def failure(self) -> str:
        """Why this node had to stop by itself; "" if it had not."""
        return self._health.failure

    def check_running(self) -> None:
        """Raises Stopping if this node has failed or is shutting down."""
        self._health.check()

    def fail(self, reason: str) -> None:
        """Stop serving at once, and say why. Nothing is acknowledged from here on."""
        self._health.fail(reason)

    def fail_by(self, error: BaseException) -> None:
        """The same, by an error that nobody foresaw."""
        self._health.fail_by(error)

    async def wait_failed(self) -> str:
        """Complete with the reason once this node had to stop by itself."""
        return await asyncio.shield(self._health.failed)

    async def start(self) -> None:
        """Begin to take part. Raises OSError if the peer address cannot be bound."""
        parts = self._parts
        parts.health.start(self._fail_waiting)
        parts.turns.start(parts.driver.step)
        parts.reconfiguring.start()
        await parts.transport.start(parts.driver, parts.health.watch)
        parts.driver.start()
        parts.space.start()
        parts.checkpoints.start()
        parts.scrubber.start()

    async def stop(self) -> None:
        """Hand leadership over if need be, answer who waits, and release everything."""
        parts, health = self._parts, self._health
        if not health.stopping and self.node.leader == self.node.id and not self.failure:
            try:
                await self.hand_over(None, self.config.tick_s * self.config.election_ticks)
            except NoQuorum:
                parts.events.event("stopping without a successor")
        health.stopping = True
        parts.commits.stop_waiting()
        await parts.driver.stop()
        self._fail_waiting(Stopping("this node is shutting down; nothing was written"))
        await parts.transport.stop()
        await parts.source.close()
        await parts.sink.close()
        await parts.scrubber.stop()
        await parts.space.stop()
        await parts.checkpoints.stop()
        parts.commits.close()
        parts.data_dir.close()

    def _fail_waiting(self, unsent: KvError) -> None:
        parts = self._parts
        unknown = OutcomeUnknown("the node stopped; the write may be applied")
        parts.writes.fail_all(unsent, unknown)
        parts.reads.fail_all(unsent)
        parts.leasing.fail(unsent)
        parts.feed.fail(unsent)
