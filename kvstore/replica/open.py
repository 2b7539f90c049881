"""Puts a replica together: data directory, LMDB, links, clock and randomness.

What a node runs on comes in as a `Machine`: the real one by default, a simulated one in
`proof/simulation/`. Sockets, timers and executors are those of the running event loop.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from kvstore.config import Config
from kvstore.errors import StorageError, StorageFailed
from kvstore.event_log import EventLog
from kvstore.peers.frames import PeerMessage
from kvstore.peers.links import PeerTransport
from kvstore.peers.membership import HandshakeRefused, Membership, configuration
from kvstore.replica.checkpoints import Checkpoints
from kvstore.replica.replica import Clock, Replica
from kvstore.replica.snapshots import SnapshotSink, SnapshotSource
from kvstore.state.state_machine import StateMachine
from kvstore.storage.data_dir import DataDir
from kvstore.storage.disk import SYSTEM_DISK, Disk
from kvstore.storage.log import LogStore, LogWriter, ThreadedLogWriter
from kvstore.storage.state import StateStore
from paxos.ballot import NodeId
from paxos.effects import ChosenThrough, Promised, Restored, Truncation
from paxos.node import Node, NodeConfig


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000


def _threaded_writer(store: LogStore, failed: Callable[[StorageFailed], None]) -> LogWriter:
    return ThreadedLogWriter(store, asyncio.get_running_loop().call_soon_threadsafe, failed)


@dataclass(frozen=True)
class Machine:
    """What a node runs on.

    `randomness` must differ from node to node: two that draw the same time-outs duel for ever.
    `log_writer(store, failed)` makes what commits the log, on the running loop.
    """

    clock: Clock = field(default_factory=SystemClock)
    disk: Disk = SYSTEM_DISK
    randomness: random.Random = field(default_factory=random.SystemRandom)
    log_writer: Callable[[LogStore, Callable[[StorageFailed], None]], LogWriter] = _threaded_writer


class _OpenReplica(Replica):
    """A replica that also gives its data directory back when it stops."""

    data_dir: DataDir
    machine: Machine

    async def stop(self) -> None:
        await super().stop()
        self.data_dir.close()


def reconcile(log: LogStore, applied_through: int) -> Restored:
    """What the log says, given how far the checkpointed state reaches.

    A state ahead of the log is that of a snapshot installed just before a crash: the slots it
    covers are chosen, and whatever the log holds of them may be of a losing ballot. Raises
    StorageError if there is a hole between the two.
    """
    restored = log.restore()
    if applied_through + 1 < restored.first_slot:
        raise StorageError(
            f"the state reaches slot {applied_through} only, and the log begins at slot "
            f"{restored.first_slot}: state.mdb is lost or old. Restore it, or replace this member"
        )
    if applied_through <= restored.chosen_through:
        return restored
    first_slot = applied_through + 1
    # The entries may be what remembers the highest promise: keep it before they go.
    promised = max([restored.promised, *(entry.ballot for entry in restored.entries)])
    log.commit([Promised(promised), Truncation(first_slot), ChosenThrough(applied_through)])
    entries = tuple(entry for entry in restored.entries if entry.slot >= first_slot)
    return Restored(promised, entries, first_slot, applied_through)


def _membership(config: Config, data_dir: DataDir) -> Membership:
    identity = data_dir.identity
    host, port = config.listen_client
    return Membership(
        node=config.node_id,
        incarnation=identity.incarnation,
        quorums=config.quorums(),
        client_address=f"http://{host}:{port}",
        pinned=identity.pinned,
        formed=identity.formed,
        save=data_dir.set_members,
    )


def _node(config: Config, restored: Restored, life: int, jitter: Callable[[int], int]) -> Node:
    settings = NodeConfig(
        node=config.node_id,
        quorums=config.quorums(),
        life=life,
        window=config.window,
        heartbeat_ticks=config.heartbeat_ticks,
        election_ticks=config.election_ticks,
        resend_ticks=config.resend_ticks,
        piece_bytes_max=config.log_piece_bytes,
    )
    return Node(settings, jitter, restored)


async def open_replica(
    config: Config, events: EventLog | None = None, machine: Machine | None = None
) -> Replica:
    """Open the data directory, replay the log's tail, and start to take part.

    Raises StorageError if the directory cannot be used, OSError if the peer address cannot.
    """
    events = events or EventLog(config.node_id)
    machine = machine or Machine()
    began = machine.clock.monotonic()
    data_dir = DataDir(
        config.data_dir,
        config.node_id,
        configuration(config.quorums()),
        f"{machine.randomness.getrandbits(64):016x}",
        machine.disk,
    )
    try:
        log = LogStore(data_dir.log_path, machine.disk)
        store = StateStore(data_dir.state_path, machine.disk)
        state = StateMachine(store)
        restored = reconcile(log, state.applied_through)
        for entry in restored.entries:
            if state.applied_through < entry.slot <= restored.chosen_through:
                state.apply(entry.slot, entry.value)
        node = _node(config, restored, data_dir.identity.starts, machine.randomness.randrange)
    except BaseException:
        data_dir.close()
        raise
    membership = _membership(config, data_dir)
    replica = _OpenReplica(config, node, state, membership, machine.clock, events)
    replica.data_dir, replica.machine = data_dir, machine
    _connect(replica, log, store)
    try:
        await replica.start()
    except BaseException:
        await replica.stop()
        raise
    events.event(
        "started",
        life=data_dir.identity.starts,
        applied_through=state.applied_through,
        revision=state.revision,
        seconds=f"{machine.clock.monotonic() - began:.3f}",
    )
    return replica


def _connect(replica: _OpenReplica, log: LogStore, store: StateStore) -> None:
    """Give the replica its threads, its links and its snapshots."""
    config, events, membership = replica.config, replica.events, replica.membership
    disk = replica.machine.disk
    replica.log = replica.machine.log_writer(log, replica.log_failed)

    def save(pinned: dict[NodeId, str], formed: bool) -> None:
        """What was not saved must not count: the node stops, and nothing is answered any more."""
        try:
            replica.data_dir.set_members(pinned, formed)
        except OSError as error:
            replica.fail(f"writing identity.json failed: {error}")
            raise HandshakeRefused("this node's disk has failed") from error

    membership.save = save
    replica.checkpoints = Checkpoints(replica, store)
    transport = replica.transport = PeerTransport(
        config,
        membership,
        events,
        on_message=replica.on_message,
        on_input=replica.wake,
        on_link=replica.on_link,
        on_formed=lambda: events.event("formed", cluster=membership.cluster_id),
    )

    def send(to: NodeId, message: PeerMessage) -> None:
        transport.send(to, message)
        transport.flush()

    replica.source = SnapshotSource(
        config.data_dir / "snapshot.outgoing",
        f"{config.node_id}-{replica.data_dir.identity.starts}",
        replica.checkpoints.copy,
        send,
        events,
        piece_bytes=config.snapshot_piece_bytes,
        disk=disk,
    )
    replica.sink = SnapshotSink(
        config.data_dir / "snapshot.incoming",
        replica.checkpoints.install,
        send,
        events,
        disk=disk,
    )
