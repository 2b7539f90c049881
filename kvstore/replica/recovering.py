"""Disaster recovery: a cluster of one from one directory, when a quorum of the others is gone.

What a quorum had acknowledged may be missing in one directory, and what it accepted may never have
been chosen. So this is for when nothing else is left, and it says what is certain.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from kvstore.commands.members import MemberRecord
from kvstore.errors import StorageError
from kvstore.peers.founding import founding_of, founding_text
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


class Electorate(NamedTuple):
    """So many of these voters are a quorum of both kinds."""

    voters: frozenset[int]
    needed: int


@dataclass(frozen=True, slots=True)
class Survivor:
    """What a directory knows of its cluster. `others` are the other voters' peer addresses, "" if
    not known; one of `electorates` governs, as far as this directory can tell which."""

    cluster_id: str
    node: int
    others: dict[int, str]
    electorates: frozenset[Electorate]

    def can_go_on(self, living: Iterable[int]) -> bool:
        """Whether these may be enough without this node."""
        there = frozenset(living) - {self.node}
        return any(len(one.voters & there) >= one.needed for one in self.electorates)


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
        electorates = _electorates(opened)
        own, roster = opened.data_dir.identity.node_id, opened.roster
        places = {one.id: one.peer_address for one in opened.state.members.record.members}
        places |= {one.id: one.peer_address for one in roster.members}
        voters = frozenset[int]().union(*(one.voters for one in electorates)) - {own}
        others = {id: places.get(id, "") for id in sorted(voters)}
        return Survivor(roster.cluster_id, own, others, electorates)


def _electorates(opened: "_Directory") -> frozenset[Electorate]:
    """Of all configurations that may govern, the log behind the state included.

    Failing schedule otherwise: of nodes 1 to 3 node 2 is replaced by 4, and 1 is killed before its
    next checkpoint. Its state says 1 to 3, of whom only 3 answers. But 3 and 4 serve clients.
    """
    state, restored, roster = opened.state, opened.restored, opened.roster
    found: set[Electorate] = set()
    for entry in (None, *restored.entries):
        if entry is not None and entry.slot == state.applied_through + 1:
            state.apply(entry.slot, entry.value)
        if state.applied_through >= restored.chosen_through:
            found |= {_electorate(one.quorums) for one in state.members.record.configurations}
    identity, record = opened.data_dir.identity, state.members.record
    first = founding_of(identity.configuration)
    if not record.configurations and first and first.quorums.members == identity.pinned.keys():
        found.add(_electorate(first.quorums))
    if roster.number > record.number:  # others have told of a later change
        voters = frozenset(one.id for one in roster.members if one.voter)
        phase1 = len(voters) + 1 - roster.tellers_needed
        found.add(Electorate(voters, max(phase1, len(voters) + 1 - phase1)))
    return frozenset(found)


def _electorate(quorums: QuorumSystem) -> Electorate:
    return Electorate(quorums.members, max(quorums.phase1, quorums.phase2))


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
