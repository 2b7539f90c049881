"""Puts a replica together, parts first: the only place that knows all of them.

Three parts are called back by others that are made later, and are told by whom when the replica
starts: `Health.start`, `Turns.start` and `PeerTransport.start`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kvstore.config import Config
from kvstore.event_log import EventLog
from kvstore.peers.frames import PeerMessage
from kvstore.peers.links import PeerTransport
from kvstore.peers.membership import Membership
from kvstore.peers.refusals import Ending
from kvstore.replica.admission import Admission
from kvstore.replica.applying import Applier
from kvstore.replica.checkpoints import Checkpoints, StateCopies
from kvstore.replica.commits import Commits
from kvstore.replica.disk_watch import DiskWatch
from kvstore.replica.driver import Driver
from kvstore.replica.feed import Feed
from kvstore.replica.health import Health
from kvstore.replica.layouts import bring_state_up_to_date
from kvstore.replica.leader_absence import LeaderAbsence
from kvstore.replica.leasing import Leasing
from kvstore.replica.log_clock import LogClock, WallClocks
from kvstore.replica.machine import Machine
from kvstore.replica.metrics import Counters, Metrics
from kvstore.replica.outbox import Outbox
from kvstore.replica.pending import PendingReads, PendingWrites
from kvstore.replica.ports import Clock
from kvstore.replica.probe import SILENT, Probe, TwoProbes
from kvstore.replica.reconfiguring import Reconfiguring
from kvstore.replica.recorder import Recorder
from kvstore.replica.replica import Parts, Replica
from kvstore.replica.restoring import Opened, disagreements, open_directory
from kvstore.replica.scrubbing import Scrubber
from kvstore.replica.snapshots import SnapshotSink, SnapshotSource
from kvstore.replica.space import SpaceWatch
from kvstore.replica.stages import Stages
from kvstore.replica.status import ReplicaView
from kvstore.replica.steward import Steward
from kvstore.replica.turns import Turns
from kvstore.state.state_machine import StateMachine
from kvstore.storage.data_dir import SNAPSHOT_INCOMING, SNAPSHOT_OUTGOING, DataDir
from kvstore.storage.disk import Disk
from kvstore.storage.state import StateStore
from paxos.ballot import NodeId
from paxos.node import Node

if TYPE_CHECKING:
    from kvstore.certificates.peer_contexts import PeerTls


async def open_replica(
    config: Config, events: EventLog | None = None, machine: Machine | None = None
) -> Replica:
    """Open the data directory, replay the log's tail, and start to take part.

    Raises StorageError if the directory cannot be used, OSError if the peer address cannot.
    """
    events = events or EventLog(config.node_id)
    machine = machine or Machine()
    recorder = Recorder(config.node_id, machine.clock)
    events.heard = recorder.happened
    listening = recorder if machine.probe is SILENT else TwoProbes(machine.probe, recorder)
    machine = replace(machine, probe=listening)
    began_s = machine.clock.monotonic()
    opened = open_directory(config, machine)
    events.node = opened.node.id
    for warning in disagreements(config, opened.membership):
        events.event("settings disagree", reason=warning)
    if (torn := opened.log.torn) is not None:
        events.event("log end cut off", file=torn.path, offset=torn.offset, reason=torn.reason)
    machine.probe.opened(opened.node, opened.state, opened.membership.formed)
    replica = Replica(_connect(config, events, machine, opened), recorder)
    try:
        await replica.start()
    except BaseException:
        await replica.stop()
        raise
    events.event(
        "started",
        life=opened.data_dir.identity.starts,
        applied_through=opened.state.applied_through,
        revision=opened.state.revision,
        seconds=f"{machine.clock.monotonic() - began_s:.3f}",
    )
    return replica


@dataclass(frozen=True, slots=True)
class _Ground:
    """What most parts stand on, and what waits for them."""

    config: Config
    events: EventLog
    clock: Clock
    disk: Disk
    probe: Probe
    node: Node
    state: StateMachine
    store: StateStore
    membership: Membership
    reconfiguring: Reconfiguring
    counters: Counters
    stages: Stages
    turns: Turns
    health: Health
    transport: PeerTransport
    commits: Commits
    watch: DiskWatch
    space: SpaceWatch
    walls: WallClocks
    feed: Feed
    leader_absence: LeaderAbsence
    writes: PendingWrites
    reads: PendingReads


def _ground(config: Config, events: EventLog, machine: Machine, opened: Opened) -> _Ground:
    counters, health = Counters(), Health(events)
    stages = Stages(machine.clock.monotonic)
    transport = PeerTransport(
        config,
        opened.membership,
        events,
        f"{machine.randomness.getrandbits(64):016x}",
        sent=machine.probe.sent,
        ended=health.fail,
        tls=peer_tls_of(config),
    )
    _follow_members(opened.membership, transport, health)
    # A damaged record that is read stops the node: it is never an answer (D3).
    opened.store.watch_damage(health.storage_failed)
    commits = Commits(
        machine.log_writer(opened.log, health.storage_failed),
        health,
        counters,
        machine.clock,
        stages,
    )
    watch = DiskWatch(config, opened.node, opened.state, commits, machine.clock, events)
    writes = PendingWrites(
        origin=opened.node.id,
        start=opened.node.config.start,
        requests_max=config.pending_requests_max,
        bytes_max=config.pending_bytes_max,
        bundle_bytes_max=config.batch_bytes_max,
        stages=stages,
    )
    return _Ground(
        config=config,
        events=events,
        clock=machine.clock,
        disk=machine.disk,
        probe=machine.probe,
        node=opened.node,
        state=opened.state,
        store=opened.store,
        membership=opened.membership,
        reconfiguring=Reconfiguring(opened.node, opened.state, opened.membership),
        counters=counters,
        stages=stages,
        turns=Turns(),
        health=health,
        transport=transport,
        commits=commits,
        watch=watch,
        space=_space(config, events, machine.disk, opened, health),
        walls=WallClocks(machine.clock, events),
        feed=Feed(opened.state),
        leader_absence=LeaderAbsence(
            opened.node, events, election_ticks=config.election_ticks, tick_s=config.tick_s
        ),
        writes=writes,
        reads=PendingReads(config.pending_requests_max),
    )


def _space(
    config: Config, events: EventLog, disk: Disk, opened: Opened, health: Health
) -> SpaceWatch:
    return SpaceWatch(
        config,
        opened.store,
        lambda: opened.state.unwritten_bytes,
        lambda: disk.free_bytes(opened.data_dir.path),
        health,
        events,
    )


def peer_tls_of(config: Config) -> "PeerTls | None":
    """What is spoken with peers; None is plain. Raises InvalidArgument for files of no use."""
    cert_file, key_file, authorities = config.peer_cert_file, config.peer_key_file, config.peer_ca
    if config.peer_tls_spoken == "off" or None in (cert_file, key_file, authorities):
        return None
    # Imported here: it is slow, and most nodes of tests and demos do without.
    from kvstore.certificates.peer_contexts import PeerTls

    assert cert_file is not None and key_file is not None and authorities is not None
    return PeerTls(cert_file, key_file, authorities)


def _follow_members(membership: Membership, transport: PeerTransport, health: Health) -> None:
    """Whatever says who the members are, links follow it, and a node that is none any more ends."""

    def taken_in(node: NodeId) -> None:
        health.fail(f"this node is node {node} of the cluster now", Ending.AGAIN)

    membership.on_roster = lambda _: transport.follow()
    membership.on_taken_in = taken_in


def _connect(config: Config, events: EventLog, machine: Machine, opened: Opened) -> Parts:
    """Every part gets the parts that it uses; those that are used come first."""
    ground = _ground(config, events, machine, opened)
    admission = _admission(ground)
    leasing = _leasing(ground, admission)
    applier = _applier(ground)
    copies = StateCopies(ground.state, ground.store)
    source = _source(ground, copies)
    checkpoints = _checkpoints(ground, copies, source, admission, applier)
    sink = _sink(ground, checkpoints)
    steward = _steward(ground, admission)
    scrubber = _scrubber(ground, opened.data_dir)
    view = _view(ground, sink, scrubber, steward)
    return Parts(
        config=config,
        data_dir=opened.data_dir,
        clock=ground.clock,
        events=events,
        node=ground.node,
        state=ground.state,
        membership=ground.membership,
        health=ground.health,
        turns=ground.turns,
        admission=admission,
        writes=ground.writes,
        reads=ground.reads,
        leasing=leasing,
        feed=ground.feed,
        leader_absence=ground.leader_absence,
        commits=ground.commits,
        transport=ground.transport,
        copies=copies,
        checkpoints=checkpoints,
        scrubber=scrubber,
        space=ground.space,
        source=source,
        sink=sink,
        driver=_driver(ground, applier, leasing, source, sink, steward),
        reconfiguring=ground.reconfiguring,
        steward=steward,
        view=view,
        metrics=Metrics(ground.counters, ground.stages.items, view.gauges, view.peers, view.kinds),
    )


def _admission(ground: _Ground) -> Admission:
    return Admission(
        config=ground.config,
        node=ground.node,
        state=ground.state,
        writes=ground.writes,
        reads=ground.reads,
        health=ground.health,
        watch=ground.watch,
        space=ground.space,
        clock=ground.clock,
        counters=ground.counters,
        wake=ground.turns.wake,
    )


def _leasing(ground: _Ground, admission: Admission) -> Leasing:
    return Leasing(
        ground.node,
        ground.state,
        ground.transport,
        ground.clock,
        check=ground.health.check,
        barrier=admission.barrier,
        wake=ground.turns.wake,
        start=ground.node.config.start,
        resend_ticks=ground.config.resend_ticks,
        barrier_timeout_s=ground.config.request_timeout_s,
    )


def _applier(ground: _Ground) -> Applier:
    return Applier(
        ground.node,
        ground.state,
        ground.feed,
        ground.writes,
        ground.reads,
        ground.transport,
        ground.events,
        ground.counters,
        ground.probe,
        ground.walls,
        clock=ground.clock,
        stages=ground.stages,
        wake=ground.turns.wake,
        digest_slots=ground.config.digest_slots,
    )


def _send_now(transport: PeerTransport) -> Callable[[NodeId, PeerMessage], None]:
    """For messages that leave between two steps."""

    def send(to: NodeId, message: PeerMessage) -> None:
        transport.send(to, message)
        transport.flush()

    return send


def _source(ground: _Ground, copies: StateCopies) -> SnapshotSource:
    config = ground.config
    return SnapshotSource(
        config.data_dir / SNAPSHOT_OUTGOING,
        f"{ground.node.id}-{ground.node.config.start}",
        copies.copy,
        _send_now(ground.transport),
        ground.events,
        piece_bytes=config.snapshot_piece_bytes,
        progress=ground.node.progress_of,
        disk=ground.disk,
    )


def _sink(ground: _Ground, checkpoints: Checkpoints) -> SnapshotSink:
    return SnapshotSink(
        ground.config.data_dir / SNAPSHOT_INCOMING,
        checkpoints.install,
        _send_now(ground.transport),
        ground.events,
        reserve_bytes=ground.config.disk_reserve_bytes,
        prepare=lambda path: bring_state_up_to_date(path, ground.disk),
        disk=ground.disk,
    )


def _checkpoints(
    ground: _Ground,
    copies: StateCopies,
    source: SnapshotSource,
    admission: Admission,
    applier: Applier,
) -> Checkpoints:
    return Checkpoints(
        ground.config,
        ground.node,
        ground.state,
        ground.store,
        copies,
        source,
        ground.watch,
        ground.space,
        ground.commits,
        ground.turns,
        ground.health,
        ground.events,
        ground.counters,
        ground.probe,
        compact=admission.compact,
        installed=applier.snapshot_installed,
    )


def _steward(ground: _Ground, admission: Admission) -> Steward:
    return Steward(
        ground.config,
        ground.node,
        ground.state,
        ground.membership,
        ground.transport,
        ground.reconfiguring,
        admission,
        ground.events,
    )


def _driver(
    ground: _Ground,
    applier: Applier,
    leasing: Leasing,
    source: SnapshotSource,
    sink: SnapshotSink,
    steward: Steward,
) -> Driver:
    outbox = Outbox(
        ground.node,
        ground.writes,
        ground.counters,
        batch_bytes_max=ground.config.batch_bytes_max,
        relayed_bytes_max=ground.config.pending_bytes_max,
    )
    return Driver(
        ground.config,
        ground.node,
        ground.state,
        ground.membership,
        ground.transport,
        ground.clock,
        ground.events,
        ground.counters,
        ground.probe,
        ground.health,
        ground.turns,
        ground.commits,
        ground.watch,
        ground.stages,
        applier=applier,
        writes=ground.writes,
        reads=ground.reads,
        outbox=outbox,
        leasing=leasing,
        leader_absence=ground.leader_absence,
        source=source,
        sink=sink,
        reconfiguring=ground.reconfiguring,
        steward=steward,
    )


def _scrubber(ground: _Ground, data_dir: DataDir) -> Scrubber:
    return Scrubber(
        ground.store,
        data_dir.log_path,
        ground.disk,
        ground.clock,
        ground.health,
        ground.events,
        ground.counters,
        interval_s=ground.config.scrub_interval_s,
    )


def _view(ground: _Ground, sink: SnapshotSink, scrubber: Scrubber, steward: Steward) -> ReplicaView:
    return ReplicaView(
        node=ground.node,
        state=ground.state,
        membership=ground.membership,
        links=ground.transport,
        clock=ground.clock,
        events=ground.events,
        health=ground.health,
        watch=ground.watch,
        writes=ground.writes,
        reads=ground.reads,
        walls=ground.walls,
        log_clock=LogClock(ground.state, ground.clock),
        scrubber=scrubber,
        steward=steward,
        space=ground.space,
        why_behind=lambda: sink.why_behind,
    )
