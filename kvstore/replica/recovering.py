"""Disaster recovery: a cluster of one from one directory, when a quorum of the others is gone.

What a quorum had acknowledged may be missing in one directory, and what it accepted may never have
been chosen. So this is for when nothing else is left, and it says what is certain.
"""

import secrets
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from kvstore.commands.members import MemberRecord
from kvstore.errors import StorageError
from kvstore.peers.membership import founding_of, founding_text
from kvstore.peers.roster import Roster, founding_roster
from kvstore.replica.layouts import bring_state_up_to_date
from kvstore.replica.restoring import reconcile
from kvstore.state.members_record import Governs, MembersRecord
from kvstore.state.state_machine import StateMachine
from kvstore.storage.data_dir import DataDir, Identity
from kvstore.storage.disk import SYSTEM_DISK
from kvstore.storage.segment_log import SegmentLog
from kvstore.storage.state import StateStore
from paxos.ballot import Slot
from paxos.configuration import DISTANCE, Configuration
from paxos.quorum import QuorumSystem
from paxos.records import ChosenThrough, Promised, Restored, Truncation

SEGMENT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Survivor:
    """What a directory knows of its cluster. `others` are the other voters' peer addresses;
    `needed`: so many voters go on without this one."""

    cluster_id: str
    node: int
    others: dict[int, str]
    needed: int


@dataclass(frozen=True, slots=True)
class Recovered:
    """The state is that of slot `kept_through`, at `revision`. Up to `sure_through` this directory
    knew that the slots were chosen; those after it were accepted here, and may not have been."""

    node: int
    cluster_id: str
    was_cluster_id: str
    sure_through: Slot
    kept_through: Slot
    revision: int


def look(path: Path) -> Survivor:
    """Raises StorageError if there is no member's directory at `path`, or it is in use."""
    with _Directory(path) as opened:
        record, roster = opened.state.members.record, opened.roster
        if record.configurations:
            newest = record.configurations[-1]
            voters, needed = set(newest.voters), max(newest.phase1, newest.phase2)
        else:
            first = founding_of(opened.data_dir.identity.configuration)
            assert first is not None
            voters = set(first.quorums.members)
            needed = max(first.quorums.phase1, first.quorums.phase2)
        own = opened.data_dir.identity.node_id
        places = {one.id: one.peer_address for one in roster.members}
        others = {id: places.get(id, "") for id in sorted(voters - {own})}
        return Survivor(roster.cluster_id, own, others, needed)


def recover(path: Path) -> Recovered:
    """Make the directory at `path` the only member of a new cluster.

    Nothing that it holds is lost. Interrupted, it is to be run again. Raises StorageError, OSError.
    """
    with _Directory(path) as opened:
        opened.data_dir.recovery_begins()
        state, restored = opened.state, opened.restored
        sure_through = max(state.applied_through, restored.chosen_through)
        for entry in restored.entries:
            if entry.slot == state.applied_through + 1:
                state.apply(entry.slot, entry.value)
        through = state.applied_through
        own, record = _alone(opened, through)
        state.found_anew(record)
        frozen = state.freeze()
        assert frozen is not None
        opened.store.write_frozen(frozen.housekeeping)
        state.checkpointed(through)
        promised = max([restored.promised, *(entry.ballot for entry in restored.entries)])
        opened.log.commit([Promised(promised), Truncation(through + 1), ChosenThrough(through)])
        opened.data_dir.found_anew(_identity(opened.data_dir.identity, own, record.cluster_id))
        was = opened.roster.cluster_id
        return Recovered(own.id, record.cluster_id, was, sure_through, through, state.revision)


def _alone(opened: "_Directory", through: Slot) -> tuple[MemberRecord, MembersRecord]:
    """The one member of the new cluster: another than it was, so that nobody takes it for that."""
    old, roster = opened.state.members.record, opened.roster
    was = roster.find(opened.data_dir.identity.node_id)
    last_id = max(old.last_id, roster.last_id) + 1
    own = MemberRecord(
        last_id,
        secrets.token_hex(8),
        f"node{last_id}" if was is None else was.name,
        "" if was is None else was.peer_address,
        "" if was is None else was.client_address,
    )
    distance = old.configurations[-1].distance if old.configurations else DISTANCE
    spent = tuple(one.incarnation for one in roster.members if one.incarnation)
    return own, MembersRecord(
        number=max(old.number, roster.number) + 1,
        cluster_id=secrets.token_hex(8),
        last_id=last_id,
        members=(own,),
        configurations=(Governs(through + 1, (last_id,), 1, 1, distance),),
        incarnations=(*old.incarnations, *spent),
    )


def _identity(held: Identity, own: MemberRecord, cluster_id: str) -> Identity:
    first = Configuration(1, QuorumSystem(frozenset({own.id}), 1, 1))
    roster = founding_roster(cluster_id, {own.id: own.incarnation}, {own.id: own.peer_address})
    return replace(
        held,
        node_id=own.id,
        incarnation=own.incarnation,
        configuration=founding_text(first),
        pinned={own.id: own.incarnation},
        formed=True,
        roster=msgspec.to_builtins(roster),
    )


class _Directory:
    """A member's directory, opened by nobody else."""

    data_dir: DataDir
    store: StateStore
    log: SegmentLog
    state: StateMachine
    restored: Restored
    roster: Roster

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> "_Directory":
        """Raises StorageError, OSError."""
        path = self._path
        if not (path / "identity.json").exists():
            raise StorageError(f"{path} is no data directory: there is no identity.json in it")
        self.data_dir = DataDir(path, 0, "", "", recovering=True)
        try:
            self._open()
        except BaseException:
            self.data_dir.close()
            raise
        return self

    def _open(self) -> None:
        identity = self.data_dir.identity
        if not identity.formed:
            raise StorageError(f"{self._path} belongs to no cluster yet: there is nothing in it")
        self.log = SegmentLog(self.data_dir.log_path, SYSTEM_DISK, SEGMENT_BYTES)
        bring_state_up_to_date(self.data_dir.state_path, SYSTEM_DISK)
        self.store = StateStore(self.data_dir.state_path, SYSTEM_DISK)
        self.state = StateMachine(self.store)
        self.restored = reconcile(self.log, self.state.applied_through)
        if identity.roster is not None:
            self.roster = msgspec.convert(identity.roster, Roster)
        else:
            self.roster = founding_roster("", identity.pinned, {})

    def __exit__(self, *_: object) -> None:
        self.store.close()
        self.log.close()
        self.data_dir.close()
