"""Who belongs to the cluster, as replicated state.

A change of voters or quorum sizes made in slot s governs from s + distance on.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from kvstore.commands.members import (
    IssueToken,
    MemberRecord,
    MembershipRefusal,
    NextStep,
    Reconfigure,
    RevokeToken,
)
from kvstore.commands.results import MembershipRefused, Reconfigured
from kvstore.state.changes import Changes
from kvstore.state.member_changes import (
    Made,
    MembersChange,
    NotMade,
    founded,
    issued,
    revoked,
    without,
)
from kvstore.state.members_record import Governs, MembersRecord
from paxos.ballot import Slot
from paxos.configuration import Configuration

_decode: Callable[[bytes], MembersRecord] = msgspec.msgpack.Decoder(MembersRecord).decode
_encode = msgspec.msgpack.Encoder().encode


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
            changed |= {"target": None, **without(record, target.leaving)}
        self._keep(msgspec.structs.replace(record, number=record.number + 1, **changed))
        return True

    def apply(
        self, command: Reconfigure, slot: Slot, clock_ms: int
    ) -> Reconfigured | MembershipRefused:
        """Make a change in `slot`; deterministic."""
        try:
            made = self._change(command, slot, clock_ms)
        except NotMade as refused:
            return MembershipRefused(refused.reason, self.record.number)
        self._changes.members_changed(_encode(made.record))
        self._keep(msgspec.structs.replace(made.record, number=made.record.number + 1))
        first_slot = self.record.configurations[-1].first_slot if self.founded else 0
        return Reconfigured(self.record.number, made.id, first_slot)

    def _change(self, command: Reconfigure, slot: Slot, clock_ms: int) -> Made:
        """Raises NotMade, and then nothing is changed."""
        record, change = self.record, command.change
        if isinstance(change, IssueToken):
            return Made(issued(record, change, clock_ms))
        if isinstance(change, RevokeToken):
            return Made(revoked(record, change))
        if command.expected not in (-1, record.number):
            raise NotMade(MembershipRefusal.CHANGED_MEANWHILE)
        if not record.members:
            if command.founding is None:
                raise NotMade(MembershipRefusal.CHANGED_MEANWHILE)
            record = founded(record, command.founding)
        return MembersChange(record, slot, clock_ms).make(change)
