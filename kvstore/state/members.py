"""Who belongs to the cluster, as replicated state.

A change of voters or quorum sizes made in slot s governs from s + distance on. Quorums of two
configurations that follow each other always meet: where those of the old and the new one would not,
a configuration of all their voters, with quorums large enough to meet both, lies between
(docs/decisions/0021-configurations.md).
"""

from collections.abc import Callable, Iterable
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
    Reconfigure,
    RemoveMember,
    RevokeToken,
    SetConfiguration,
    UpdateMember,
)
from kvstore.commands.results import MembershipRefused, Reconfigured
from kvstore.state.changes import Changes
from paxos.ballot import Slot
from paxos.configuration import Configuration
from paxos.quorum import QuorumError, QuorumSystem, always_meet, joint

INCARNATIONS_KEPT = 4096
"""Of members that were removed. Ids alone tell them, too."""


class Governs(msgspec.Struct, frozen=True, array_like=True):
    """A configuration, from its first slot on."""

    first_slot: Slot
    voters: tuple[int, ...]
    phase1: int
    phase2: int
    distance: int

    @property
    def quorums(self) -> QuorumSystem:
        return QuorumSystem(frozenset(self.voters), self.phase1, self.phase2)


class ChangeTarget(msgspec.Struct, frozen=True, array_like=True):
    """Where a change under way leads: these voters and sizes, and then these members go."""

    voters: tuple[int, ...]
    phase1: int
    phase2: int
    leaving: tuple[int, ...]

    @property
    def quorums(self) -> QuorumSystem:
        return QuorumSystem(frozenset(self.voters), self.phase1, self.phase2)


class JoinToken(msgspec.Struct, frozen=True, array_like=True):
    """`token` is a hash; a token that was used up is remembered for a while."""

    token: bytes
    expires_ms: int
    uses: int


class MembersRecord(msgspec.Struct, frozen=True, array_like=True):
    """All of it, as it is checkpointed. `number` counts the changes; at 0 the state knows nothing
    of the members, because nothing was ever changed."""

    number: int = 0
    cluster_id: str = ""
    last_id: int = 0
    members: tuple[MemberRecord, ...] = ()
    configurations: tuple[Governs, ...] = ()
    target: ChangeTarget | None = None
    tokens: tuple[JoinToken, ...] = ()
    incarnations: tuple[str, ...] = ()


class _NotMade(Exception):
    """Inside this module: why a change is not made."""

    def __init__(self, reason: MembershipRefusal) -> None:
        super().__init__(reason)
        self.reason = reason


class _Made(NamedTuple):
    """What a change came to: the record, and the id of the member that it is about."""

    record: MembersRecord
    id: int = 0


_decode: Callable[[bytes], MembersRecord] = msgspec.msgpack.Decoder(MembersRecord).decode
_encode = msgspec.msgpack.Encoder().encode


def usual_sizes(voters: int, before: QuorumSystem) -> tuple[int, int]:
    """Phase 1 and phase 2 sizes for so many voters: majorities, unless the operator chose others
    before; then phase 2 stays as it is, as far as it can."""
    majority = len(before.members) // 2 + 1
    if (before.phase1, before.phase2) == (majority, majority):
        return voters // 2 + 1, voters // 2 + 1
    phase2 = min(before.phase2, voters)
    return voters + 1 - phase2, phase2


class Members:
    """The members, the configurations that govern, and the change that is under way."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self.record = MembersRecord()
        self._next_first_slot: Slot = 0

    def restore(self, data: bytes) -> None:
        """Begin with what `encode` gave; b"" is the beginning."""
        self._keep(_decode(data) if data else MembersRecord())

    def begin_anew(self, record: MembersRecord) -> None:
        """Another cluster begins with what this one had: only a recovery does that."""
        self._keep(record)

    def encode(self) -> bytes:
        return _encode(self.record) if self.record.number or self.record.tokens else b""

    def _keep(self, record: MembersRecord) -> None:
        self.record = record
        pending = record.configurations[1:]
        self._next_first_slot = pending[0].first_slot if pending else 0

    # -- reading ----------------------------------------------------------------------------

    @property
    def founded(self) -> bool:
        """Whether the state knows the members; before the first change it need not."""
        return bool(self.record.members)

    @property
    def configurations(self) -> tuple[Configuration, ...]:
        """All that govern slots which are not applied yet; none before the first change."""
        return tuple(
            Configuration(one.first_slot, one.quorums, one.distance)
            for one in self.record.configurations
        )

    @property
    def voters(self) -> frozenset[int]:
        """Who votes on some slot that is not applied yet."""
        return frozenset().union(*(one.voters for one in self.record.configurations))

    @property
    def pending(self) -> bool:
        """Whether the newest configuration does not govern yet."""
        return len(self.record.configurations) > 1

    def find(self, id: int) -> MemberRecord | None:
        return next((one for one in self.record.members if one.id == id), None)

    def rehearse(self, command: Reconfigure, slot: Slot) -> list[Governs] | MembershipRefused:
        """The configurations that `command` would lead over, one after the other, if it were
        applied in `slot`; nothing is changed."""
        trial = Members(Changes())
        trial._keep(self.record)
        steps: list[Governs] = []
        while True:
            done = trial.apply(command, slot, 0)
            if isinstance(done, MembershipRefused):
                return done
            pending = trial.record.configurations[1:]
            steps += pending
            if not pending:
                return steps
            slot = pending[0].first_slot
            trial.reach(slot)
            if trial.record.target is None:
                return steps
            command = Reconfigure(NextStep())

    # -- applying ---------------------------------------------------------------------------

    def reach(self, slot: Slot) -> bool:
        """All slots up to `slot` are applied. Whether the newest configuration governs from the
        next one on, and did not before; a change that it completes is over then."""
        if not self._next_first_slot or slot + 1 < self._next_first_slot:
            return False
        record = self.record
        newest = record.configurations[-1]
        changed: dict[str, Any] = {"configurations": (newest,)}
        if (target := record.target) is not None and newest.quorums == target.quorums:
            changed |= {"target": None, **self._without(target.leaving)}
        self._keep(msgspec.structs.replace(record, number=record.number + 1, **changed))
        return True

    def apply(
        self, command: Reconfigure, slot: Slot, clock_ms: int
    ) -> Reconfigured | MembershipRefused:
        """Make a change in `slot`; deterministic."""
        try:
            made = self._change(command, slot, clock_ms)
        except _NotMade as refused:
            return MembershipRefused(refused.reason, self.record.number)
        self._changes.members_changed(_encode(made.record))
        self._keep(msgspec.structs.replace(made.record, number=made.record.number + 1))
        first_slot = self.record.configurations[-1].first_slot if self.founded else 0
        return Reconfigured(self.record.number, made.id, first_slot)

    def _change(self, command: Reconfigure, slot: Slot, clock_ms: int) -> _Made:
        """Raises _NotMade, and then nothing is changed."""
        record, change = self.record, command.change
        if isinstance(change, IssueToken):
            return _Made(_issued(record, change, clock_ms))
        if isinstance(change, RevokeToken):
            return _Made(_revoked(record, change))
        if command.expected not in (-1, record.number):
            raise _NotMade(MembershipRefusal.CHANGED_MEANWHILE)
        if not record.members:
            if command.founding is None:
                raise _NotMade(MembershipRefusal.CHANGED_MEANWHILE)
            record = _founded(record, command.founding)
        return _Changing(record, slot, clock_ms).make(change)

    def _without(self, leaving: Iterable[int]) -> dict[str, Any]:
        return _without(self.record, leaving)


def _without(record: MembersRecord, leaving: Iterable[int]) -> dict[str, Any]:
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


def _founded(record: MembersRecord, founding: Founding) -> MembersRecord:
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


def _issued(record: MembersRecord, change: IssueToken, clock_ms: int) -> MembersRecord:
    """With one token more; of those that have ended only the newest are remembered."""
    kept = [one for one in record.tokens if one.token != change.token]
    if len(kept) >= TOKENS_MAX:
        over = [one for one in kept if one.expires_ms <= clock_ms or one.uses == 0]
        if not over:
            raise _NotMade(MembershipRefusal.TOO_MANY)
        kept.remove(over[0])
    token = JoinToken(change.token, change.expires_ms, change.uses)
    return msgspec.structs.replace(record, tokens=(*kept, token))


def _revoked(record: MembersRecord, change: RevokeToken) -> MembersRecord:
    kept = tuple(one for one in record.tokens if one.token != change.token)
    if len(kept) == len(record.tokens):
        raise _NotMade(MembershipRefusal.BAD_TOKEN)
    return msgspec.structs.replace(record, tokens=kept)


class _Changing:
    """One change of `record`, in `slot`."""

    def __init__(self, record: MembersRecord, slot: Slot, clock_ms: int) -> None:
        self._record = record
        self._slot = slot
        self._clock_ms = clock_ms

    def make(self, change: Any) -> _Made:
        """Raises _NotMade."""
        if isinstance(change, NextStep):
            return _Made(self._next_step())
        if isinstance(change, BindMember):
            return self._bind(change)
        if isinstance(change, UpdateMember):
            return self._update(change)
        if isinstance(change, AddMember) and (here := self._is_here(change.member)):
            return _Made(self._record, here)
        forced = isinstance(change, SetConfiguration) and change.force
        if len(self._record.configurations) > 1 or (self._record.target and not forced):
            raise _NotMade(MembershipRefusal.UNDER_WAY)
        match change:
            case AddMember():
                return self._add(change)
            case RemoveMember(id):
                return _Made(self._remove(id), id)
            case PromoteMember(id):
                return _Made(self._promote(id), id)
            case SetConfiguration():
                return _Made(self._set(change))
        raise AssertionError(f"no change of members: {change}")

    # -- members ----------------------------------------------------------------------------

    def _is_here(self, new: NewMember) -> int:
        """The id of the member that it is already; asking twice does no harm."""
        for one in self._record.members:
            if new.incarnation and one.incarnation == new.incarnation:
                return one.id
        return 0

    def _add(self, change: AddMember) -> _Made:
        new, record = change.member, self._record
        if change.token and (expected := self._expected(new)):
            bound = BindMember(expected, new.incarnation, new.peer_address, new.client_address)
            return self._bind(bound)
        if change.token:
            if all(one.token != change.token for one in record.tokens):
                raise _NotMade(MembershipRefusal.BAD_TOKEN)
            # A member that has lost its disk hears that, though its token was used up long ago.
            self._check_free(record.members, new.name, new.peer_address)
            record = self._record = self._spend(change.token)
        if new.incarnation and new.incarnation in record.incarnations:
            raise _NotMade(MembershipRefusal.INCARNATION_USED)
        if len(record.members) >= MEMBERS_MAX:
            raise _NotMade(MembershipRefusal.TOO_MANY)
        others = [one for one in record.members if one.id != new.replaces]
        if len(others) == len(record.members) and new.replaces:
            raise _NotMade(MembershipRefusal.UNKNOWN_MEMBER)
        if any(one.replaces == new.replaces for one in others if new.replaces):
            raise _NotMade(MembershipRefusal.UNDER_WAY)
        self._check_free(others, new.name, new.peer_address)
        id, replaces = record.last_id + 1, new.replaces
        if replaces and replaces not in self._newest.voters:
            record, replaces = msgspec.structs.replace(record, **_without(record, (replaces,))), 0
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
        return _Made(msgspec.structs.replace(record, members=added, last_id=id), id)

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
        raise _NotMade(MembershipRefusal.BAD_TOKEN)

    @staticmethod
    def _check_free(others: Iterable[MemberRecord], name: str, peer_address: str) -> None:
        for one in others:
            if name and one.name == name:
                raise _NotMade(MembershipRefusal.NAME_TAKEN)
            if peer_address and one.peer_address == peer_address:
                raise _NotMade(MembershipRefusal.ADDRESS_TAKEN)

    def _bind(self, change: BindMember) -> _Made:
        held = self._member(change.id)
        if held.incarnation == change.incarnation:
            return _Made(self._record, held.id)
        if held.incarnation:
            raise _NotMade(MembershipRefusal.BOUND_ALREADY)
        if change.incarnation in self._record.incarnations:
            raise _NotMade(MembershipRefusal.INCARNATION_USED)
        return self._replaced(
            held,
            incarnation=change.incarnation,
            peer_address=change.peer_address or held.peer_address,
            client_address=change.client_address or held.client_address,
        )

    def _update(self, change: UpdateMember) -> _Made:
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

    def _replaced(self, held: MemberRecord, **fields: Any) -> _Made:
        new = msgspec.structs.replace(held, **fields)
        members = tuple(new if one is held else one for one in self._record.members)
        return _Made(msgspec.structs.replace(self._record, members=members), held.id)

    def _member(self, id: int) -> MemberRecord:
        for one in self._record.members:
            if one.id == id:
                return one
        raise _NotMade(MembershipRefusal.UNKNOWN_MEMBER)

    # -- configurations ---------------------------------------------------------------------

    @property
    def _newest(self) -> Governs:
        return self._record.configurations[-1]

    def _remove(self, id: int) -> MembersRecord:
        self._member(id)
        voters = set(self._newest.voters)
        if id not in voters:
            return msgspec.structs.replace(self._record, **_without(self._record, (id,)))
        return self._lead_to(voters - {id}, (id,))

    def _promote(self, id: int) -> MembersRecord:
        member, voters = self._member(id), set(self._newest.voters)
        if id in voters:
            raise _NotMade(MembershipRefusal.NOT_LEARNER)
        if not member.incarnation:
            raise _NotMade(MembershipRefusal.NOT_THERE_YET)
        leaving = (member.replaces,) if member.replaces else ()
        return self._lead_to((voters | {id}) - set(leaving), leaving)

    def _set(self, change: SetConfiguration) -> MembersRecord:
        wanted = {*change.voters, *change.learners}
        members = [self._member(id) for id in (*change.voters, *change.learners)]
        if not all(member.incarnation for member in members[: len(change.voters)]):
            raise _NotMade(MembershipRefusal.NOT_THERE_YET)
        leaving = tuple(one.id for one in self._record.members if one.id not in wanted)
        return self._lead_to(set(change.voters), leaving, change.phase1, change.phase2)

    def _lead_to(
        self, voters: set[int], leaving: tuple[int, ...], phase1: int = 0, phase2: int = 0
    ) -> MembersRecord:
        """The change to these voters begins: its first step is taken here."""
        if not voters:
            raise _NotMade(MembershipRefusal.LAST_VOTER)
        if len(voters) > VOTERS_MAX:
            raise _NotMade(MembershipRefusal.TOO_MANY)
        usual = usual_sizes(len(voters), self._newest.quorums)
        if phase1 and not phase2:
            phase2 = len(voters) + 1 - phase1
        elif phase2 and not phase1:
            phase1 = len(voters) + 1 - phase2
        target = ChangeTarget(
            tuple(sorted(voters)), phase1 or usual[0], phase2 or usual[1], leaving
        )
        try:
            same = target.quorums == self._newest.quorums
        except QuorumError:
            raise _NotMade(MembershipRefusal.BAD_SIZES) from None
        if same and not leaving:
            raise _NotMade(MembershipRefusal.NOTHING_TO_DO)
        if same:
            without = _without(self._record, leaving)
            return msgspec.structs.replace(self._record, target=None, **without)
        self._record = msgspec.structs.replace(self._record, target=target)
        return self._next_step()

    def _next_step(self) -> MembersRecord:
        """The target's configuration, or one between that meets both."""
        record, newest = self._record, self._newest
        target = record.target
        if target is None or len(record.configurations) > 1:
            raise _NotMade(MembershipRefusal.NOTHING_TO_DO)
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
