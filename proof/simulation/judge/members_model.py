"""The members as they must be: what each change comes to, and who votes on each slot.

Written from the documentation of the commands, sharing no code with `kvstore.state.members`.
Whether quorums meet is tried out on all of them, rather than calculated.
"""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

from kvstore.commands.members import (
    MEMBERS_MAX,
    VOTERS_MAX,
    AddMember,
    BindMember,
    MembershipRefusal,
    NextStep,
    PromoteMember,
    Reconfigure,
    RemoveMember,
    SetConfiguration,
    UpdateMember,
)
from kvstore.commands.results import MembershipRefused, Reconfigured
from paxos.ballot import NodeId, Slot


class Voting(NamedTuple):
    """Who votes from `first_slot` on, and how many each phase needs."""

    first_slot: Slot
    voters: frozenset[NodeId]
    phase1: int
    phase2: int

    def same(self, other: "Voting") -> bool:
        """Whether they differ at most in where they begin."""
        return self[1:] == other[1:]


@dataclass
class ModelMember:
    """One member, as the model knows it."""

    incarnation: str
    name: str
    address: str
    promote: bool = False
    replaces: NodeId = 0


class Refused(Exception):
    """The change is not made."""


@dataclass
class _Aim:
    """Where the change under way leads."""

    voting: Voting
    leaving: frozenset[NodeId]


@dataclass
class _Book:
    """What changes: copied for each attempt, and kept if it succeeds."""

    number: int = 0
    last_id: NodeId = 0
    members: dict[NodeId, ModelMember] = field(default_factory=dict)
    votings: list[Voting] = field(default_factory=list)
    aim: _Aim | None = None
    spent: set[str] = field(default_factory=set)


class MembersModel:
    """Of one run, from its first slot on."""

    def __init__(self, nodes: int, phase1: int, phase2: int, distance: int) -> None:
        first = Voting(1, frozenset(range(1, nodes + 1)), phase1, phase2)
        self.distance = distance
        self._book = _Book(last_id=nodes, votings=[first])
        self._governs_from: Slot = 0
        self._events: list[str] = []
        self._complaints: list[str] = []
        self._promoted: list[NodeId] = []

    # -- looking ----------------------------------------------------------------------------

    def at(self, slot: Slot) -> Voting:
        """Who votes on `slot`, as far as the applied log says."""
        return next(v for v in reversed(self._book.votings) if v.first_slot <= slot)

    @property
    def members(self) -> dict[NodeId, ModelMember]:
        """By id; empty until there was a change."""
        return self._book.members

    @property
    def newest(self) -> Voting:
        return self._book.votings[-1]

    @property
    def ids(self) -> frozenset[NodeId]:
        """All members now."""
        return frozenset(self._book.members) or self.newest.voters

    @property
    def changing(self) -> bool:
        """Whether a change of the voters is under way."""
        return self._book.aim is not None or bool(self._governs_from)

    @property
    def quiet(self) -> bool:
        """Whether no change is under way, and nobody waits to become a voter, or to go because a
        voter has replaced it."""
        waiting = any(
            one.replaces in self.members
            if id in self.newest.voters
            else one.promote and one.incarnation
            for id, one in self.members.items()
        )
        return not self.changing and not waiting

    def take_events(self) -> list[str]:
        """What was reached since the last call, by the names of `judge.coverage`."""
        events, self._events = self._events, []
        return events

    def take_complaints(self) -> list[str]:
        """What no sound leader does, since the last call."""
        complaints, self._complaints = self._complaints, []
        return complaints

    def take_promoted(self) -> list[NodeId]:
        """Who became a voter since the last call."""
        promoted, self._promoted = self._promoted, []
        return promoted

    # -- changing ---------------------------------------------------------------------------

    def reach(self, slot: Slot) -> None:
        """All slots up to `slot` are applied."""
        if not self._governs_from or slot + 1 < self._governs_from:
            return
        self._governs_from = 0
        self._events.append("voting under another configuration")
        book = self._book
        book.number += 1
        if book.aim is not None and book.votings[-1].same(book.aim.voting):
            for id in book.aim.leaving:
                self._drop(book, id)
            book.aim = None

    def apply(self, command: Reconfigure, slot: Slot) -> Reconfigured | MembershipRefused:
        """What comes of it."""
        before = deepcopy(self._book)
        try:
            id = self._make(command, slot)
        except Refused as refused:
            self._book = before
            return MembershipRefused(MembershipRefusal[str(refused)], before.number)
        book = self._book
        book.number += 1
        if len(book.votings) > len(before.votings):
            self._governs_from = book.votings[-1].first_slot
        self._events.append(f"members changed: {type(command.change).__name__}")
        return Reconfigured(book.number, id, book.votings[-1].first_slot)

    def _make(self, command: Reconfigure, slot: Slot) -> NodeId:
        book, change = self._book, command.change
        if command.expected >= 0 and command.expected != book.number:
            raise Refused("CHANGED_MEANWHILE")
        if not book.members:
            if command.founding is None:
                raise Refused("CHANGED_MEANWHILE")
            for founder in command.founding.members:
                book.members[founder.id] = ModelMember(
                    founder.incarnation, founder.name, founder.peer_address
                )
        if isinstance(change, NextStep):
            self._step(slot)
            return 0
        if isinstance(change, BindMember):
            return self._bind(change)
        if isinstance(change, UpdateMember):
            return self._update(change)
        if isinstance(change, AddMember) and change.member.incarnation:
            for id, one in book.members.items():
                if one.incarnation == change.member.incarnation:
                    return id
        forced = isinstance(change, SetConfiguration) and change.force
        if self._governs_from or (book.aim is not None and not forced):
            raise Refused("UNDER_WAY")
        match change:
            case AddMember():
                return self._add(change)
            case RemoveMember(id):
                self._find(id)
                if id in self.newest.voters:
                    self._aim(self.newest.voters - {id}, {id}, slot)
                else:
                    self._drop(book, id)
                return id
            case PromoteMember(id):
                return self._promote(id, slot)
            case SetConfiguration():
                self._set(change, slot)
                return 0
        raise AssertionError(f"no change that simulated operators make: {change}")

    def _find(self, id: NodeId) -> ModelMember:
        if id not in self._book.members:
            raise Refused("UNKNOWN_MEMBER")
        return self._book.members[id]

    @staticmethod
    def _drop(book: _Book, id: NodeId) -> None:
        gone = book.members.pop(id, None)
        if gone is not None and gone.incarnation:
            book.spent.add(gone.incarnation)

    def _bind(self, change: BindMember) -> NodeId:
        one = self._find(change.id)
        if one.incarnation != change.incarnation:
            if one.incarnation:
                raise Refused("BOUND_ALREADY")
            if change.incarnation in self._book.spent:
                raise Refused("INCARNATION_USED")
            one.incarnation = change.incarnation
            one.address = change.peer_address or one.address
        return change.id

    def _update(self, change: UpdateMember) -> NodeId:
        one = self._find(change.id)
        self._free(change.name, change.peer_address, {change.id, one.replaces})
        one.name = change.name or one.name
        one.address = change.peer_address or one.address
        one.promote = one.promote or change.promote
        return change.id

    def _free(self, name: str, address: str, but: set[NodeId]) -> None:
        for id, one in self._book.members.items():
            if id not in but and name and one.name == name:
                raise Refused("NAME_TAKEN")
            if id not in but and address and one.address == address:
                raise Refused("ADDRESS_TAKEN")

    def _add(self, change: AddMember) -> NodeId:
        book, new = self._book, change.member
        if new.incarnation in book.spent:
            raise Refused("INCARNATION_USED")
        if len(book.members) >= MEMBERS_MAX:
            raise Refused("TOO_MANY")
        if new.replaces and new.replaces not in book.members:
            raise Refused("UNKNOWN_MEMBER")
        if new.replaces and new.replaces in [one.replaces for one in book.members.values()]:
            raise Refused("UNDER_WAY")
        self._free(new.name, new.peer_address, {new.replaces})
        for id, one in book.members.items():
            if new.replaces and one.replaces and id not in self.newest.voters:
                self._complaints.append(f"{new.replaces} is replaced while {one.replaces} is")
        book.last_id += 1
        replaces, id = new.replaces, book.last_id
        if replaces and replaces not in self.newest.voters:
            self._drop(book, replaces)
            replaces = 0
        book.members[id] = ModelMember(
            new.incarnation, new.name or f"node{id}", new.peer_address, new.promote, replaces
        )
        return id

    def _promote(self, id: NodeId, slot: Slot) -> NodeId:
        one = self._find(id)
        if id in self.newest.voters:
            raise Refused("NOT_LEARNER")
        if not one.incarnation:
            raise Refused("NOT_THERE_YET")
        self._promoted.append(id)
        gone = {one.replaces} - {0}
        if gone:
            self._events.append("lost disk replaced")
        self._aim((self.newest.voters | {id}) - gone, gone, slot)
        return id

    def _set(self, change: SetConfiguration, slot: Slot) -> None:
        wanted = {*change.voters, *change.learners}
        for id in change.voters + change.learners:
            self._find(id)
        if any(not self._find(id).incarnation for id in change.voters):
            raise Refused("NOT_THERE_YET")
        leaving = self._book.members.keys() - wanted
        for id, one in self._book.members.items():
            one.promote = one.promote and id in change.voters
        self._aim(frozenset(change.voters), leaving, slot, change.phase1, change.phase2)

    # -- configurations ---------------------------------------------------------------------

    def _aim(
        self,
        voters: Iterable[NodeId],
        leaving: Iterable[NodeId],
        slot: Slot,
        phase1: int = 0,
        phase2: int = 0,
    ) -> None:
        voters, now = frozenset(voters), self.newest
        n = len(voters)
        if not n:
            raise Refused("LAST_VOTER")
        if n > VOTERS_MAX:
            raise Refused("TOO_MANY")
        if not phase1 and not phase2:
            if now.phase1 == now.phase2 == len(now.voters) // 2 + 1:
                phase1 = phase2 = n // 2 + 1
            else:
                phase2 = min(now.phase2, n)
                sizes = (Voting(0, voters, size, phase2) for size in range(n + 1 - phase2, n + 1))
                direct = [size.phase1 for size in sizes if meet(now, size)]
                phase1 = direct[0] if direct and direct[0] <= phase2 else 0
        phase1 = phase1 or n + 1 - phase2
        phase2 = phase2 or n + 1 - phase1
        if not (1 <= phase1 <= n and 1 <= phase2 <= n and phase1 + phase2 > n):
            raise Refused("BAD_SIZES")
        aim = Voting(0, voters, phase1, phase2)
        leaving = frozenset(leaving)
        if aim.same(now):
            if not leaving:
                raise Refused("NOTHING_TO_DO")
            for id in leaving:
                self._drop(self._book, id)
            self._book.aim = None
            return
        self._book.aim = _Aim(aim, leaving)
        self._step(slot)

    def _step(self, slot: Slot) -> None:
        book, now = self._book, self.newest
        if book.aim is None or self._governs_from:
            raise Refused("NOTHING_TO_DO")
        step = book.aim.voting
        if not meet(now, step):
            voters = now.voters | step.voters
            n = len(voters)
            phase2 = n + 1 - min(now.phase1, step.phase1)
            phase1 = max(n + 1 - min(now.phase2, step.phase2), n + 1 - phase2)
            step = Voting(0, voters, phase1, phase2)
            self._events.append("configuration between")
            assert meet(now, step) and meet(step, book.aim.voting)
        book.votings.append(step._replace(first_slot=slot + self.distance))


def meet(one: Voting, other: Voting) -> bool:
    """Whether each phase 1 quorum of either has a member in common with each phase 2 quorum of the
    other; all of them are looked at."""
    for first, second in ((one, other), (other, one)):
        rest = [second.voters - set(few) for few in combinations(first.voters, first.phase1)]
        if any(len(left) >= second.phase2 for left in rest):
            return False
    return True
