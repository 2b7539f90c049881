"""One change of the members: what it makes of their record, or why it is not made.

Quorums of two configurations that follow each other always meet: where those of the old and the new
one would not, a configuration of all their voters, with quorums large enough to meet both, lies
between (docs/decisions/0021-configurations.md).
"""

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import msgspec

from kvstore.commands.members import (
    MEMBERS_MAX,
    TOKENS_MAX,
    VOTERS_MAX,
    AddMember,
    BindMember,
    Founding,
    IssueToken,
    MemberRecord,
    MembershipRefusal,
    NewMember,
    NextStep,
    PromoteMember,
    RemoveMember,
    RevokeToken,
    SetConfiguration,
    UpdateMember,
)
from kvstore.state.members_record import ChangeTarget, Governs, JoinToken, MembersRecord
from paxos.ballot import NodeId, Slot
from paxos.quorum import QuorumError, QuorumSystem, always_meet, joint

INCARNATIONS_KEPT = 4096
"""Of members that were removed. Ids alone tell them, too."""


class NotMade(Exception):
    """Why a change is not made."""

    def __init__(self, reason: MembershipRefusal) -> None:
        super().__init__(reason)
        self.reason = reason


class Made(NamedTuple):
    """What a change came to: the record, and the id of the member that it is about."""

    record: MembersRecord
    id: int = 0


def usual_quorums(voters: Collection[NodeId], before: QuorumSystem) -> QuorumSystem:
    """The quorums of these voters if nobody gives sizes: majorities, unless the operator chose
    others before; then phase 2 stays as it is, as far as it can.

    Phase 1 is then as small as it may be, or as large as it must be to meet the quorums before in
    one step, if that is no more than phase 2. Failing schedule otherwise: of nine voters with
    quorums of 2 and 8 one is lost, and is to go. Eight with 1 and 8 do not meet those nine, and the
    step between, all nine with 2 and 9, waits for the one that is lost.
    """
    members, count = frozenset(voters), len(voters)
    majority = len(before.members) // 2 + 1
    if (before.phase1, before.phase2) == (majority, majority):
        return QuorumSystem(members, count // 2 + 1, count // 2 + 1)
    phase2 = min(before.phase2, count)
    smallest = QuorumSystem(members, count + 1 - phase2, phase2)
    for phase1 in range(smallest.phase1, phase2 + 1):
        larger = QuorumSystem(members, phase1, phase2)
        if always_meet(before, larger):
            return larger
    return smallest


def without(record: MembersRecord, leaving: Iterable[int]) -> dict[str, Any]:
    """The fields of a record from which these members are gone, for good."""
    gone = [one for one in record.members if one.id in set(leaving)]
    ids = {one.id for one in gone}
    spent = tuple(one.incarnation for one in gone if one.incarnation)
    return {
        "members": tuple(
            msgspec.structs.replace(one, replaces=0) if one.replaces in ids else one
            for one in record.members
            if one.id not in ids
        ),
        "incarnations": (*record.incarnations, *spent)[-INCARNATIONS_KEPT:],
    }


def founded(record: MembersRecord, founding: Founding) -> MembersRecord:
    """What the cluster began with."""
    voters = tuple(sorted(one.id for one in founding.members))
    first = Governs(1, voters, founding.phase1, founding.phase2, founding.distance)
    return msgspec.structs.replace(
        record,
        cluster_id=founding.cluster_id,
        last_id=max(voters),
        members=founding.members,
        configurations=(first,),
    )


def issued(record: MembersRecord, change: IssueToken, clock_ms: int) -> MembersRecord:
    """With one token more; of those that have ended only the newest are remembered."""
    kept = [one for one in record.tokens if one.token != change.token]
    if len(kept) >= TOKENS_MAX:
        over = [one for one in kept if one.expires_ms <= clock_ms or one.uses == 0]
        if not over:
            raise NotMade(MembershipRefusal.TOO_MANY)
        kept.remove(over[0])
    token = JoinToken(change.token, change.expires_ms, change.uses)
    return msgspec.structs.replace(record, tokens=(*kept, token))


def revoked(record: MembersRecord, change: RevokeToken) -> MembersRecord:
    kept = tuple(one for one in record.tokens if one.token != change.token)
    if len(kept) == len(record.tokens):
        raise NotMade(MembershipRefusal.BAD_TOKEN)
    return msgspec.structs.replace(record, tokens=kept)


class MembersChange:
    """One change of `record`, in `slot`."""

    def __init__(self, record: MembersRecord, slot: Slot, clock_ms: int) -> None:
        self._record = record
        self._slot = slot
        self._clock_ms = clock_ms

    def make(self, change: Any) -> Made:
        """Raises NotMade."""
        if isinstance(change, NextStep):
            return Made(self._next_step())
        if isinstance(change, BindMember):
            return self._bind(change)
        if isinstance(change, UpdateMember):
            return self._update(change)
        if isinstance(change, AddMember) and (here := self._is_here(change.member)):
            return Made(self._record, here)
        forced = isinstance(change, SetConfiguration) and change.force
        if len(self._record.configurations) > 1 or (self._record.target and not forced):
            raise NotMade(MembershipRefusal.UNDER_WAY)
        match change:
            case AddMember():
                return self._add(change)
            case RemoveMember(id):
                return Made(self._remove(id), id)
            case PromoteMember(id):
                return Made(self._promote(id), id)
            case SetConfiguration():
                return Made(self._set(change))
        raise AssertionError(f"no change of members: {change}")

    # -- members ----------------------------------------------------------------------------

    def _is_here(self, new: NewMember) -> int:
        """The id of the member that it is already; asking twice does no harm."""
        for one in self._record.members:
            if new.incarnation and one.incarnation == new.incarnation:
                return one.id
        return 0

    def _add(self, change: AddMember) -> Made:
        new, record = change.member, self._record
        if change.token and (expected := self._expected(new)):
            bound = BindMember(expected, new.incarnation, new.peer_address, new.client_address)
            return self._bind(bound)
        if change.token:
            if all(one.token != change.token for one in record.tokens):
                raise NotMade(MembershipRefusal.BAD_TOKEN)
            # A member that has lost its disk hears that, though its token was used up long ago.
            self._check_free(record.members, new.name, new.peer_address)
            record = self._record = self._spend(change.token)
        if new.incarnation and new.incarnation in record.incarnations:
            raise NotMade(MembershipRefusal.INCARNATION_USED)
        if len(record.members) >= MEMBERS_MAX:
            raise NotMade(MembershipRefusal.TOO_MANY)
        others = [one for one in record.members if one.id != new.replaces]
        if len(others) == len(record.members) and new.replaces:
            raise NotMade(MembershipRefusal.UNKNOWN_MEMBER)
        if any(one.replaces == new.replaces for one in others if new.replaces):
            raise NotMade(MembershipRefusal.UNDER_WAY)
        self._check_free(others, new.name, new.peer_address)
        id, replaces = record.last_id + 1, new.replaces
        if replaces and replaces not in self._newest.voters:
            record, replaces = msgspec.structs.replace(record, **without(record, (replaces,))), 0
        member = MemberRecord(
            id,
            new.incarnation,
            new.name or f"node{id}",
            new.peer_address,
            new.client_address,
            new.promote,
            replaces,
            self._clock_ms,
        )
        added = (*record.members, member)
        return Made(msgspec.structs.replace(record, members=added, last_id=id), id)

    def _expected(self, new: NewMember) -> int:
        """The id of the member of that name that has not come yet."""
        for one in self._record.members:
            same = new.name == one.name or (not new.name and new.peer_address == one.peer_address)
            if same and not one.incarnation:
                return one.id
        return 0

    def _spend(self, token: bytes) -> MembersRecord:
        for at, one in enumerate(self._record.tokens):
            if one.token == token and one.uses > 0 and one.expires_ms > self._clock_ms:
                left = msgspec.structs.replace(one, uses=one.uses - 1)
                tokens = (*self._record.tokens[:at], left, *self._record.tokens[at + 1 :])
                return msgspec.structs.replace(self._record, tokens=tokens)
        raise NotMade(MembershipRefusal.BAD_TOKEN)

    @staticmethod
    def _check_free(others: Iterable[MemberRecord], name: str, peer_address: str) -> None:
        for one in others:
            if name and one.name == name:
                raise NotMade(MembershipRefusal.NAME_TAKEN)
            if peer_address and one.peer_address == peer_address:
                raise NotMade(MembershipRefusal.ADDRESS_TAKEN)

    def _bind(self, change: BindMember) -> Made:
        held = self._member(change.id)
        if held.incarnation == change.incarnation:
            return Made(self._record, held.id)
        if held.incarnation:
            raise NotMade(MembershipRefusal.BOUND_ALREADY)
        if change.incarnation in self._record.incarnations:
            raise NotMade(MembershipRefusal.INCARNATION_USED)
        return self._replaced(
            held,
            incarnation=change.incarnation,
            peer_address=change.peer_address or held.peer_address,
            client_address=change.client_address or held.client_address,
        )

    def _update(self, change: UpdateMember) -> Made:
        held = self._member(change.id)
        others = [one for one in self._record.members if one.id not in (held.id, held.replaces)]
        self._check_free(others, change.name, change.peer_address)
        return self._replaced(
            held,
            name=change.name or held.name,
            peer_address=change.peer_address or held.peer_address,
            client_address=change.client_address or held.client_address,
            promote=change.promote or held.promote,
        )

    def _replaced(self, held: MemberRecord, **fields: Any) -> Made:
        new = msgspec.structs.replace(held, **fields)
        members = tuple(new if one is held else one for one in self._record.members)
        return Made(msgspec.structs.replace(self._record, members=members), held.id)

    def _member(self, id: int) -> MemberRecord:
        for one in self._record.members:
            if one.id == id:
                return one
        raise NotMade(MembershipRefusal.UNKNOWN_MEMBER)

    # -- configurations ---------------------------------------------------------------------

    @property
    def _newest(self) -> Governs:
        return self._record.configurations[-1]

    def _remove(self, id: int) -> MembersRecord:
        self._member(id)
        voters = set(self._newest.voters)
        if id not in voters:
            return msgspec.structs.replace(self._record, **without(self._record, (id,)))
        return self._lead_to(voters - {id}, (id,))

    def _promote(self, id: int) -> MembersRecord:
        member, voters = self._member(id), set(self._newest.voters)
        if id in voters:
            raise NotMade(MembershipRefusal.NOT_LEARNER)
        if not member.incarnation:
            raise NotMade(MembershipRefusal.NOT_THERE_YET)
        leaving = (member.replaces,) if member.replaces else ()
        return self._lead_to((voters | {id}) - set(leaving), leaving)

    def _set(self, change: SetConfiguration) -> MembersRecord:
        wanted = {*change.voters, *change.learners}
        members = [self._member(id) for id in (*change.voters, *change.learners)]
        if not all(member.incarnation for member in members[: len(change.voters)]):
            raise NotMade(MembershipRefusal.NOT_THERE_YET)
        leaving = tuple(one.id for one in self._record.members if one.id not in wanted)
        # Who is to be a learner stays one, though it was to become a voter once.
        kept = tuple(
            one if one.id in change.voters else msgspec.structs.replace(one, promote=False)
            for one in self._record.members
        )
        self._record = msgspec.structs.replace(self._record, members=kept)
        return self._lead_to(set(change.voters), leaving, change.phase1, change.phase2)

    def _lead_to(
        self, voters: set[int], leaving: tuple[int, ...], phase1: int = 0, phase2: int = 0
    ) -> MembersRecord:
        """The change to these voters begins: its first step is taken here."""
        if not voters:
            raise NotMade(MembershipRefusal.LAST_VOTER)
        if len(voters) > VOTERS_MAX:
            raise NotMade(MembershipRefusal.TOO_MANY)
        usual = usual_quorums(voters, self._newest.quorums)
        if phase1 and not phase2:
            phase2 = len(voters) + 1 - phase1
        elif phase2 and not phase1:
            phase1 = len(voters) + 1 - phase2
        target = ChangeTarget(
            tuple(sorted(voters)), phase1 or usual.phase1, phase2 or usual.phase2, leaving
        )
        try:
            same = target.quorums == self._newest.quorums
        except QuorumError:
            raise NotMade(MembershipRefusal.BAD_SIZES) from None
        if same and not leaving:
            raise NotMade(MembershipRefusal.NOTHING_TO_DO)
        if same:
            changed = without(self._record, leaving)
            return msgspec.structs.replace(self._record, target=None, **changed)
        self._record = msgspec.structs.replace(self._record, target=target)
        return self._next_step()

    def _next_step(self) -> MembersRecord:
        """The target's configuration, or one between that meets both."""
        record, newest = self._record, self._newest
        target = record.target
        if target is None or len(record.configurations) > 1:
            raise NotMade(MembershipRefusal.NOTHING_TO_DO)
        step = target.quorums
        if not always_meet(newest.quorums, step):
            step = joint(newest.quorums, step)
        governs = Governs(
            self._slot + newest.distance,
            tuple(sorted(step.members)),
            step.phase1,
            step.phase2,
            newest.distance,
        )
        return msgspec.structs.replace(record, configurations=(newest, governs))
