"""The steward: what a leader does about the members without being told.

It takes the next step of a change that is under way, makes learners voters once they are close,
takes in again who came back without its disk, and lets a spare replace who has been gone for long.
One thing at a time, each of it a command like any other: if leaders change meanwhile, the next one
finds in the state what is to be done.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from kvstore.commands.commands import AsUser, Command
from kvstore.commands.members import (
    AddMember,
    BindMember,
    MemberChange,
    MemberRecord,
    MembershipRefusal,
    NewMember,
    NextStep,
    PromoteMember,
    RemoveMember,
    SetConfiguration,
)
from kvstore.commands.results import MembershipRefused, Result
from kvstore.config import Config
from kvstore.errors import KvError
from kvstore.event_log import EventLog
from kvstore.peers.membership import Claim, Membership
from kvstore.replica.ports import LinkView
from kvstore.replica.reconfiguring import Reconfiguring
from kvstore.state.members_record import Governs
from kvstore.state.rights import ITSELF
from kvstore.state.state_machine import StateMachine
from paxos.node import Node

LOOK_TICKS = 4
"""How often it looks."""
CLOSE_LOOKS = 3
"""A learner is close if it has been so for so many looks."""


class Submits(Protocol):
    """The door for commands of this node's own."""

    def submit(self, command: Command, timeout_s: float) -> "asyncio.Future[Result]":
        """See `Admission.submit`."""


class Steward:
    """`tick` looks; only a leader's does anything."""

    def __init__(
        self,
        config: Config,
        node: Node,
        state: StateMachine,
        membership: Membership,
        links: LinkView,
        reconfiguring: Reconfiguring,
        door: Submits,
        events: EventLog,
    ) -> None:
        self._config = config
        self._node = node
        self._state = state
        self._membership = membership
        self._links = links
        self._reconfiguring = reconfiguring
        self._door = door
        self._events = events
        self._ticks = 0
        self._asking: asyncio.Future[Result] | None = None
        self._close_slots = config.close_slots
        self._close: dict[int, int] = {}
        self.held_back = ""
        """The change that waits until enough of the voters that it leads to are there."""

    @property
    def warning(self) -> str:
        """What an operator must mend, "" if nothing."""
        if not self.held_back:
            return ""
        return f"held back: {self.held_back}: {MembershipRefusal.MINORITY.value}"

    def tick(self) -> None:
        """Look, now and then."""
        self._ticks += 1
        if self._ticks % LOOK_TICKS:
            return
        claims = self._membership.take_claims()
        if not self._node.leading:
            self._tell_held_back("")
        if not self._node.serves_reads or self._asking is not None:
            return
        if self._membership.of_release_before:
            return  # they could not follow
        if self._state.members.pending:
            return
        wanted = list(self._wanted(claims))
        change = next(filter(self._can_be_reached, wanted), None)
        self._tell_held_back("" if change is not None or not wanted else described(wanted[0]))
        if change is not None:
            self._propose(change)

    def _wanted(self, claims: list[Claim]) -> Iterator[MemberChange]:
        """What is to be done now, the first that can be."""
        if self._state.members.record.target is not None:
            yield NextStep()
            return
        steps: tuple[Callable[[], MemberChange | None], ...] = (
            lambda: self._taken_in(claims),
            self._completed,
            self._promoted,
            self._replaced_dead,
        )
        for step in steps:
            if (change := step()) is not None:
                yield change

    def _can_be_reached(self, change: MemberChange) -> bool:
        """Whether the members that are there are enough for all that `change` leads over.

        Failing schedule otherwise: of four voters with quorums of 3 and 2 two are lost, and the
        other two get values chosen. A learner that is to replace one of them comes close, and the
        configuration with all five takes 4 promises. Only three are there: nothing is chosen or
        read any more.
        """
        command = self._reconfiguring.command(change)
        steps = self._state.members.rehearse(command, self._state.applied_through + 1)
        return isinstance(steps, MembershipRefused) or self.reachable(steps)

    def _tell_held_back(self, change: str) -> None:
        """A line when it begins, and when it ends."""
        before, self.held_back = self.held_back, change
        if before and before != change:
            self._events.event("change no longer held back", change=before)
        if change and before != change:
            reason = MembershipRefusal.MINORITY.value
            self._events.event("change held back", change=change, reason=reason)

    def _propose(self, change: MemberChange) -> None:
        number = self._state.members.record.number
        command: Command = self._reconfiguring.command(change, number)
        if self._state.auth.enabled:
            command = AsUser(ITSELF, 0, self._reconfiguring.command(change, number))
        self._events.event("changing members", change=described(change))
        try:
            self._asking = self._door.submit(command, self._config.request_timeout_s)
        except KvError:
            return  # the next look tries again
        self._asking.add_done_callback(self._answered)

    def _answered(self, future: "asyncio.Future[Result]") -> None:
        self._asking = None
        if future.cancelled() or future.exception() is not None:
            return
        if isinstance(result := future.result(), MembershipRefused):
            self._events.event("members not changed", reason=result.reason.value)

    # -- who came without a disk ------------------------------------------------------------

    def _taken_in(self, claims: list[Claim]) -> MemberChange | None:
        for claim in claims:
            member = self._member_named(claim.name)
            if member is None or member.id == self._node.id:
                continue
            if not member.incarnation:
                return BindMember(
                    member.id, claim.incarnation, claim.peer_address, claim.client_address
                )
            if self._is_lost(member):
                if member.replaces and not self._votes(member.id):
                    # It lost its disk again before it voted; the next claim is for the first one.
                    return RemoveMember(member.id)
                new = NewMember(
                    member.name,
                    claim.peer_address or member.peer_address,
                    claim.client_address,
                    claim.incarnation,
                    member.promote or self._votes(member.id),
                    member.id,
                )
                return AddMember(new)
        return None

    def _member_named(self, name: str) -> MemberRecord | None:
        """The newest whom links know by that name. Before the first change the state knows none,
        and a founder that has a name of its own is called by its number there."""
        if self._state.members.founded:
            members = self._state.members.record.members
            return next((one for one in reversed(members) if one.name == name), None)
        roster, founding = self._membership.roster, self._reconfiguring.command(NextStep()).founding
        known = None if roster is None else roster.named(name)
        if founding is None or known is None:
            return None
        return next((one for one in founding.members if one.id == known.id), None)

    def _is_lost(self, member: MemberRecord) -> bool:
        """Whether its old incarnation may be given up: it is silent, and those who are there are
        enough without it. Failing schedule otherwise: an empty copy of a node that runs is started
        by mistake, and takes its place."""
        if self._config.replace_lost != "automatic" or self._links.connected(member.id):
            return False
        if self._links.absent_s(member.id) < self._config.replace_lost_after_s:
            return False
        learning = [
            one
            for one in self._state.members.record.members
            if one.replaces and not self._votes(one.id) and one.id != member.id
        ]
        return not learning and self._enough_without({member.id})

    def _enough_without(self, gone: set[int]) -> bool:
        """Whether the voters that are there get values chosen without these."""
        newest = self._node.governance.last
        return newest is not None and newest.quorums.is_phase2(
            {voter for voter in newest.quorums.members - gone if self._is_there(voter)}
        )

    def _is_there(self, member: int) -> bool:
        return member == self._node.id or self._links.connected(member)

    def reachable(self, steps: Iterable[Governs]) -> bool:
        """Whether the members that are there, as this node sees them, are quorums of both kinds in
        each of these configurations."""
        for step in steps:
            there = {voter for voter in step.voters if self._is_there(voter)}
            if not (step.quorums.is_phase1(there) and step.quorums.is_phase2(there)):
                return False
        return True

    # -- learners and spares ----------------------------------------------------------------

    def _votes(self, member: int) -> bool:
        newest = self._node.governance.last
        return newest is not None and member in newest.quorums.members

    def _is_close(self, member: int) -> bool:
        """Whether it has been close behind for a few looks."""
        progress = self._node.progress_of(member)
        lag = None if progress is None else self._node.chosen_through - progress
        if lag is None or lag > self._close_slots or not self._is_there(member):
            self._close.pop(member, None)
            return False
        self._close[member] = self._close.get(member, 0) + 1
        return self._close[member] >= CLOSE_LOOKS

    def in_step(self, member: int) -> bool:
        """Whether a learner may vote from now on, as far as this leader knows."""
        progress = self._node.progress_of(member)
        return progress is not None and self._node.chosen_through - progress <= self._close_slots

    def _promoted(self) -> MemberChange | None:
        for member in self._state.members.record.members:
            waits = member.promote and member.incarnation and not self._votes(member.id)
            if waits and self._is_close(member.id):
                return PromoteMember(member.id)
        return None

    def _completed(self) -> MemberChange | None:
        """Who has been replaced goes, however the new one came to vote. Failing schedule otherwise:
        an operator's change names all voters, the lost one and the learner that replaces it among
        them; both vote then, nobody promotes the learner, and the lost one stays for ever."""
        for member in self._state.members.record.members:
            replaced = member.replaces
            if replaced and self._votes(member.id) and self._enough_without({replaced}):
                return RemoveMember(replaced)
        return None

    def _replaced_dead(self) -> MemberChange | None:
        """A spare is a learner that is not to be promoted by itself."""
        after_s, newest = self._config.dead_after_s, self._node.governance.last
        if not after_s or newest is None:
            return None
        record = self._state.members.record
        spares = [
            one.id
            for one in record.members
            if not one.promote and not self._votes(one.id) and self._is_close(one.id)
        ]
        for voter in sorted(newest.quorums.members - {self._node.id}):
            gone = self._links.absent_s(voter) >= after_s and not self._links.connected(voter)
            if gone and spares and self._enough_without({voter}):
                voters = (newest.quorums.members - {voter}) | {spares[0]}
                rest = {one.id for one in record.members} - voters
                return SetConfiguration(tuple(sorted(voters)), tuple(sorted(rest)))
        return None


def described(change: MemberChange) -> str:
    """A change in a few words, for the log."""
    match change:
        case AddMember(new):
            replacing = f" in place of node {new.replaces}" if new.replaces else ""
            return f"add {new.name or new.peer_address}{replacing}"
        case BindMember(id):
            return f"node {id} has come"
        case PromoteMember(id):
            return f"promote node {id}"
        case RemoveMember(id):
            return f"remove node {id}, which was replaced or lost its disk"
        case SetConfiguration(voters, learners):
            return f"voters {list(voters)}, learners {list(learners)}"
        case NextStep():
            return "next step"
    return type(change).__name__
