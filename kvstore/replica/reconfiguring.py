"""Between the members as the state holds them, and those who act on it: consensus and links."""

from collections.abc import Callable
from functools import partial

from kvstore.commands.members import Founding, MemberChange, MemberRecord, Reconfigure
from kvstore.peers.membership import Membership
from kvstore.peers.roster import Roster, RosterMember
from kvstore.state.state_machine import StateMachine
from paxos.node import Node


def follow(node: Node, state: StateMachine) -> None:
    """Tell the consensus node how far the state is, and what configurations it holds by then."""
    if state.members.founded:
        members = [member.id for member in state.members.record.members]
        node.configure(state.members.configurations, members)
    node.applied(state.applied_through)


class Reconfiguring:
    """`applied` is called whenever the state has moved on, and `keep` at the end of each step.

    Consensus follows the state at once, the links once the log that led there is durable. Failing
    schedule otherwise: the one voter that stays refuses those that were removed, they are given up,
    and it loses power and with it the last slots before its configuration, which only they have.
    """

    def __init__(self, node: Node, state: StateMachine, membership: Membership) -> None:
        self._node = node
        self._state = state
        self._membership = membership
        self._seen = state.members.record
        self._waiting: Roster | None = None
        self.joined = False
        """Whether what is applied here has led to where this node is a member, or this node founded
        the cluster. Before, its state is empty or that of an earlier time than its own. It stays so
        until the process ends."""

    def start(self) -> None:
        """What the state says at the beginning may be newer than what was kept beside it."""
        if self._state.members.founded:
            self._membership.adopt(self.roster(), by_peer=False)
        self._look()

    def applied(self) -> None:
        """The state has moved on, or is another one: a snapshot was installed."""
        members = self._state.members
        if not self.joined:
            self._look()
        if members.record is self._seen:
            self._node.applied(self._state.applied_through)
            return
        self._seen = members.record
        follow(self._node, self._state)
        if members.founded:
            self._waiting = self.roster()
            self._node.record_chosen()

    def _look(self) -> None:
        membership = self._membership
        if membership.first is not None:
            self.joined = membership.formed
        elif (own := self._state.members.find(membership.node)) is not None:
            self.joined = own.incarnation == membership.incarnation

    def keep(self, after_commits: Callable[[Callable[[], None]], None]) -> None:
        """`after_commits(call)` makes the call once all records so far are durable."""
        roster, self._waiting = self._waiting, None
        if roster is not None:
            after_commits(partial(self._membership.adopt, roster, by_peer=False))

    def roster(self) -> Roster:
        """The members as of what is applied here."""
        record, voters = self._state.members.record, self._state.members.voters
        newest = record.configurations[-1] if record.configurations else None
        return Roster(
            record.cluster_id,
            record.number,
            record.last_id,
            tuple(
                RosterMember(
                    one.id,
                    one.incarnation,
                    one.name,
                    one.peer_address,
                    one.client_address,
                    one.id in voters,
                )
                for one in record.members
            ),
            0 if newest is None else len(newest.voters) + 1 - newest.phase1,
        )

    def command(self, change: MemberChange, expected: int = -1) -> Reconfigure:
        """`change` as a command. The first one carries what the cluster began with."""
        founding = None if self._state.members.founded else self._founding()
        return Reconfigure(change, expected, founding)

    def _founding(self) -> Founding | None:
        membership, first = self._membership, self._node.governance.last
        roster = membership.roster
        if roster is None or first is None:
            return None
        members = tuple(
            MemberRecord(
                one.id,
                one.incarnation,
                membership.names.get(one.id) or one.name,
                one.peer_address,
                membership.client_addresses.get(one.id, ""),
            )
            for one in roster.members
        )
        quorums = first.quorums
        return Founding(roster.cluster_id, members, quorums.phase1, quorums.phase2, first.distance)
