"""What a data directory holds at a start, and where its log and its state meet."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import lmdb
import msgspec

from kvstore.config import Config, format_address
from kvstore.errors import StorageError
from kvstore.peers.membership import Membership, configuration
from kvstore.replica.layouts import bring_state_up_to_date
from kvstore.replica.machine import Machine
from kvstore.state.state_machine import StateMachine
from kvstore.storage.data_dir import DataDir
from kvstore.storage.environment import damaged
from kvstore.storage.segment_log import SegmentLog
from kvstore.storage.state import StateStore
from paxos.marks import Marks
from paxos.node import Node
from paxos.node_config import NodeConfig
from paxos.records import ChosenThrough, Promised, Record, Restored, Truncation, fold


@dataclass(frozen=True, slots=True)
class Opened:
    """What a data directory holds, with the log's tail replayed."""

    data_dir: DataDir
    log: SegmentLog
    store: StateStore
    state: StateMachine
    node: Node
    membership: Membership


def open_directory(config: Config, machine: Machine) -> Opened:
    """Raises StorageError, or OSError if what the directory holds cannot be kept there."""
    data_dir = DataDir(
        config.data_dir,
        config.node_id,
        configuration(config.quorums()),
        f"{machine.randomness.getrandbits(64):016x}",
        machine.disk,
    )
    try:
        log = SegmentLog(data_dir.log_path, machine.disk, config.log_segment_bytes)
        bring_state_up_to_date(data_dir.state_path, machine.disk)
        store = StateStore(data_dir.state_path, machine.disk)
        try:
            state = StateMachine(store)
        except (lmdb.Error, msgspec.MsgspecError, struct.error, ValueError) as error:
            raise damaged(data_dir.state_path, str(error)) from error
        restored = reconcile(log, state.applied_through)
        data_dir.log_is_sound()
        for entry in restored.entries:
            if state.applied_through < entry.slot <= restored.chosen_through:
                state.apply(entry.slot, entry.value)
        start, jitter = data_dir.identity.starts, machine.randomness.randrange
        node = _node(config, restored, start, jitter, machine.probe)
        membership = _membership(config, data_dir)
    except BaseException:
        data_dir.close()
        raise
    return Opened(data_dir, log, store, state, node, membership)


def _membership(config: Config, data_dir: DataDir) -> Membership:
    identity = data_dir.identity
    return Membership(
        node=config.node_id,
        incarnation=identity.incarnation,
        quorums=config.quorums(),
        client_address=f"http://{format_address(config.listen_client)}",
        pinned=identity.pinned,
        formed=identity.formed,
        save=data_dir.set_members,
    )


def _node(
    config: Config, restored: Restored, start: int, jitter: Callable[[int], int], marks: Marks
) -> Node:
    settings = NodeConfig(
        node=config.node_id,
        quorums=config.quorums(),
        start=start,
        window=config.window,
        heartbeat_ticks=config.heartbeat_ticks,
        election_ticks=config.election_ticks,
        resend_ticks=config.resend_ticks,
        piece_bytes_max=config.log_piece_bytes,
    )
    return Node(settings, jitter, restored, marks)


def reconcile(log: SegmentLog, applied_through: int) -> Restored:
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
    # The entries may be what remembers the highest promise: keep it before they go.
    promised = max([restored.promised, *(entry.ballot for entry in restored.entries)])
    records: list[Record] = [
        Promised(promised),
        Truncation(applied_through + 1),
        ChosenThrough(applied_through),
    ]
    log.commit(records)
    return fold(records, restored)
