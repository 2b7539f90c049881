"""The driver: feeds the consensus node, and obeys what comes out of it.

Whatever happens within one turn of the event loop is one step: one batch, one commit, one probe of
the followers. A step proposes what waits (or relays it to the leader), drains the node's effects
and obeys them in order. All state belongs to the loop's thread; the log and the checkpoints have
threads of their own.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from kvstore.config import Config
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
from kvstore.replica.applying import Applier
from kvstore.replica.commits import Commits
from kvstore.replica.disk_watch import DiskWatch
from kvstore.replica.health import Health
from kvstore.replica.leader_absence import LeaderAbsence
from kvstore.replica.leasing import Leasing
from kvstore.replica.log_clock import LogClock
from kvstore.replica.metrics import Counters
from kvstore.replica.outbox import Outbox, present_leader
from kvstore.replica.pending import PendingReads, PendingWrites
from kvstore.replica.ports import Clock, PeerLinks
from kvstore.replica.probe import Probe
from kvstore.replica.reconfiguring import Reconfiguring
from kvstore.replica.snapshots import SnapshotSink, SnapshotSource
from kvstore.replica.stages import Stages
from kvstore.replica.steward import Steward
from kvstore.replica.turns import Turns
from kvstore.state.state_machine import StateMachine
from paxos.ballot import NodeId
from paxos.effects import Effects
from paxos.errors import PeerError
from paxos.messages import Accept, Accepted, AnyMessage, Fetch, Fetched, Prepare
from paxos.node import Node


class Driver:
    """Owns the steps and the ticks; the links call `on_message`, `on_input`, `on_link` and
    `on_reached`."""

    def __init__(
        self,
        config: Config,
        node: Node,
        state: StateMachine,
        membership: Membership,
        links: PeerLinks,
        clock: Clock,
        events: EventLog,
        counters: Counters,
        probe: Probe,
        health: Health,
        turns: Turns,
        commits: Commits,
        watch: DiskWatch,
        stages: Stages,
        *,
        applier: Applier,
        writes: PendingWrites,
        reads: PendingReads,
        outbox: Outbox,
        leasing: Leasing,
        leader_absence: LeaderAbsence,
        source: SnapshotSource,
        sink: SnapshotSink,
        reconfiguring: Reconfiguring,
        steward: Steward,
    ) -> None:
        self._tick_s = config.tick_s
        self._node = node
        self._state = state
        self._membership = membership
        self._links = links
        self._clock = clock
        self._events = events
        self._counters = counters
        self._probe = probe
        self._health = health
        self._turns = turns
        self._commits = commits
        self._watch = watch
        self._stages = stages
        self._log_clock = LogClock(state, clock)
        self._applier = applier
        self._writes = writes
        self._reads = reads
        self._outbox = outbox
        self._leasing = leasing
        self._leader_absence = leader_absence
        self._source = source
        self._sink = sink
        self._reconfiguring = reconfiguring
        self._steward = steward
        self._led = (node.leader, node.leader_ballot)
        self._ticker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tick."""
        self._health.turned(self._clock.monotonic())
        self._ticker = asyncio.get_running_loop().create_task(self._tick_for_ever())
        self._health.watch(self._ticker)

    async def stop(self) -> None:
        """The last tick is over."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)

    # -- inputs -----------------------------------------------------------------------------

    def on_message(self, sender: NodeId, message: PeerMessage) -> None:
        """A message of a member. Raises PeerError if no correct member sends it."""
        if self._health.failure:
            return
        self._probe.received(sender, message)
        try:
            self._dispatch(sender, message)
        except PeerError:
            raise
        except Exception as error:
            self._health.fail_by(error)

    def _dispatch(self, sender: NodeId, message: PeerMessage) -> None:
        match message:
            case Relay(bundle, work):
                self._outbox.take_relay(sender, bundle, work)
            case DigestAt():
                self._applier.on_digest(sender, message)
            case SnapshotAsk():
                self._source.on_ask(sender, message, self._node.acceptor.first_slot)
            case SnapshotPiece():
                self._sink.on_piece(sender, message)
            case LeaseAsk():
                self._leasing.on_ask(sender, message)
            case LeaseTold():
                self._leasing.on_told(message)
            case Accept() | Fetched() | Prepare() if self._watch.full:
                pass  # as if it were lost: memory must not take what the disk does not
            case _:
                self._node.receive(sender, message)

    def on_input(self) -> None:
        """Messages came: step once this turn of the loop has delivered all of them."""
        self._turns.wake()

    def on_link(self, peer: NodeId, up: bool) -> None:
        """The link from `peer` came or went."""
        self._probe.linked(peer, up)
        if not up and self._membership.formed and not self._health.stopping:
            self._health.guard(partial(self._node.suspect, peer))
        self._turns.wake()

    def on_reached(self, peer: NodeId) -> None:
        """From now on messages to `peer` leave."""
        self._probe.reached(peer)
        if self._membership.formed and not self._health.stopping:
            self._node.reached(peer)
        self._turns.wake()

    async def _tick_for_ever(self) -> None:
        while not self._health.failure:
            await asyncio.sleep(self._tick_s)
            self._health.turned(self._clock.monotonic())
            self._health.guard(self._on_tick)

    def _on_tick(self) -> None:
        self._expire()
        self._log_clock.now_ms()  # so that it counts from when this node saw the clock
        self._watch.tick()
        if self._membership.formed:
            self._node.tick()
            self._source.tick()
            self._sink.tick()
            self._outbox.tick()
            self._leasing.tick()
            self._steward.tick()
            self._turns.step()
        self._leader_absence.tick()

    def _expire(self) -> None:
        now_s = self._clock.monotonic()
        self._writes.expire(now_s)
        given_up = self._reads.expire(now_s)
        if given_up:
            self._node.reads.cancel(given_up)

    # -- a step -----------------------------------------------------------------------------

    def step(self) -> None:
        """All that the inputs since the last step ask for. `Turns` calls it."""
        if self._membership.formed and not self._health.failure:
            self._health.guard(self._step)
            self._health.guard(self._links.flush)
        self._probe.stepped(self._node)

    def _step(self) -> None:
        self._applier.begin_turn()
        self._apply()
        token = self._reads.take_token()
        if token is not None:
            self._node.read(token)
        while True:
            self._leasing.step()
            if self._watch.full and self._node.leading:
                pass
            elif self._node.proposer.leading and self._applier.behind:
                pass  # the next turn applies, and asks again
            elif self._node.proposer.leading:
                applied_through = self._state.applied_through
                self._outbox.propose(self._log_clock.now_ms, self._leasing.due, applied_through)
            elif (leader := present_leader(self._node, self._links.connected)) is not None:
                self._outbox.relay(partial(self._links.send, leader))
            effects = self._node.take_effects()
            if not effects:
                break
            self._obey(effects)
            self._notice_leader()
        self._reconfiguring.keep(self._after_commits)

    def _after_commits(self, call: Callable[[], None]) -> None:
        self._commits.submit([], partial(self._health.guard, call))

    def _notice_leader(self) -> None:
        """On a new leader everything unanswered is sent again; each is applied once."""
        led = (self._node.leader, self._node.leader_ballot)
        if led == self._led:
            return
        self._led = led
        leader, ballot = led
        self._counters.leader_changes += leader is not None
        if leader is None:
            self._events.event("leader lost", ballot=ballot)
        else:
            self._events.event("leader elected", leader=leader, ballot=ballot)
        self._probe.leader_noticed(leader, ballot, len(self._writes.sealed))
        self._outbox.leader_changed()
        self._stages.leader_changed()

    # -- effects ----------------------------------------------------------------------------

    def _obey(self, effects: Effects) -> None:
        """In the order that `paxos.effects` demands."""
        for to, message in effects.send_first:
            if not (isinstance(message, Fetch) and self._watch.full):
                self._links.send(to, message)
        if effects.persist or (effects.send and self._commits.under_way):
            # Messages without records still wait for the commits before them.
            self._commits.submit(effects.persist, partial(self._durable, effects.send))
        elif effects.send:
            self._deliver(effects.send)
        self._applier.take(effects.chosen)
        self._apply()
        for token, slot in effects.reads:
            self._reads.ready(token, slot, self._state.applied_through)
        source = effects.fetch_snapshot_from
        if source is not None and self._sink.start(source):
            have = self._state.applied_through
            self._events.event("snapshot wanted", source=source, have=have)

    def _apply(self) -> None:
        """What is chosen, as far as this turn of the loop goes."""
        applied = self._applier.run()
        self._reconfiguring.applied()
        if applied:
            self._leasing.applied()
            self._reads.applied(self._state.applied_through)

    def _durable(self, send: list[tuple[NodeId, AnyMessage]]) -> None:
        """What makes the messages of `send` true is on disk."""
        if not self._health.failure:
            self._health.guard(partial(self._deliver, send))
            self._turns.wake()

    def _deliver(self, send: list[tuple[NodeId, AnyMessage]]) -> None:
        for to, message in send:
            if to == self._node.id:
                self._probe.answered_itself(message)
                if isinstance(message, Accepted):
                    self._stages.voted(message.slot, self._node.chosen_through)
                self._node.receive(to, message)
            else:
                self._links.send(to, message)
