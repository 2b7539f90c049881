"""What a data directory holds at a start, and where its log and its state meet."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import lmdb
import msgspec

from kvstore.config import Config, format_address
from kvstore.errors import StorageError
from kvstore.peers.founding import founding_of, founding_text
from kvstore.peers.membership import Kept, Membership
from kvstore.peers.roster import Roster
from kvstore.replica.layouts import bring_state_up_to_date
from kvstore.replica.machine import Machine
from kvstore.replica.reconfiguring import follow
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
        founding_text(config.first_configuration()),
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
        membership = _membership(config, data_dir, state)
        node = _node(config, membership, restored, start, jitter, machine.probe)
        follow(node, state)
    except BaseException:
        data_dir.close()
        raise
    return Opened(data_dir, log, store, state, node, membership)


def _membership(config: Config, data_dir: DataDir, state: StateMachine) -> Membership:
    identity = data_dir.identity

    def save(kept: Kept) -> None:
        roster = None if kept.roster is None else msgspec.to_builtins(kept.roster)
        data_dir.keep(kept.node, kept.pinned, kept.formed, roster)

    held, founds = identity.roster, config.first_configuration()
    return Membership(
        node=identity.node_id,
        incarnation=identity.incarnation,
        first=founding_of(identity.configuration) if identity.formed else founds,
        client_address=config.client_url,
        pinned=identity.pinned,
        formed=identity.formed,
        save=save,
        name=config.own_name,
        peer_address=format_address(config.peer_address),
        addresses={id: format_address(address) for id, address in config.members.items()},
        roster=None if held is None else msgspec.convert(held, Roster),
        begins="" if identity.formed else _named(state),
    )


def _named(state: StateMachine) -> str:
    """What tells it from all others; "" if it is empty."""
    through = state.applied_through
    return f"{through}/{state.digest.hex()}" if through else ""


def disagreements(config: Config, membership: Membership) -> list[str]:
    """What the settings say of the members, and the cluster does otherwise: settings only found."""
    roster, wanted = membership.roster, founding_text(config.first_configuration())
    told = []
    if roster is not None and wanted and membership.founding not in ("", wanted):
        told.append(
            f"members/phase1/phase2 are {wanted} by the settings, and the cluster was founded with "
            f"{membership.founding}; its members now: {roster.places}"
        )
    own = None if roster is None else roster.find(membership.node)
    if own is not None and own.peer_address not in ("", membership.peer_address):
        told.append(
            f"this node is at {membership.peer_address} by the settings, and the cluster knows it "
            f"at {own.peer_address}: tell it by `kvstore member update`"
        )
    return told


def _node(
    config: Config,
    membership: Membership,
    restored: Restored,
    start: int,
    jitter: Callable[[int], int],
    marks: Marks,
) -> Node:
    first = membership.first if membership.node in membership.founders else None
    settings = NodeConfig(
        node=membership.node,
        quorums=None if first is None else first.quorums,
        distance=config.distance if first is None else first.distance,
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
