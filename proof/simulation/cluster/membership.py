"""The machines of a simulated cluster in their surroundings, as clients and nemesis see them."""

from paxos.ballot import ZERO, Ballot, NodeId
from proof.simulation.cluster.member import SimulatedMember
from proof.simulation.cluster.scenario import Scenario
from proof.simulation.cluster.surroundings import Surroundings


class SimulatedCluster(Surroundings):
    """All machines, up or down: those of the founders, and spare ones. A machine's number is the
    id of the node on it until its disk is lost; the node that is taken in then has another."""

    def __init__(self, scenario: Scenario, keep_trace: bool = False) -> None:
        super().__init__(scenario, keep_trace)
        self.members = {number: SimulatedMember(self, number) for number in self.machines}

    @property
    def formed(self) -> bool:
        """Whether every founder knows that the cluster has formed."""
        return all(
            member.replica is not None and member.replica.membership.formed
            for member in self.members.values()
            if not member.spare
        )

    @property
    def spares(self) -> list[SimulatedMember]:
        """Machines on which no node is that any cluster has known."""
        return [one for one in self.members.values() if one.spare and one.node_id == 0]

    @property
    def lost_for_good(self) -> frozenset[NodeId]:
        """Members whose disk is lost, and that nobody replaces."""
        return frozenset(one.lost_as for one in self.members.values() if one.disk_lost)

    @property
    def places(self) -> list[NodeId]:
        """Machines on which members are, as clients hear of them."""
        ids = self.monitor.members.ids
        return [number for number, one in self.members.items() if one.node_id in ids]

    def holder(self, node: NodeId) -> SimulatedMember | None:
        """The machine on which the member `node` is, with its disk."""
        held = (one for one in self.members.values() if one.node_id == node and not one.lost)
        return next(held, None)

    def may_lose(self, member: SimulatedMember) -> bool:
        """Whether the members can do without the disk of `member` until it is replaced: no change
        is under way or asked for, or the only one is that another one is replaced."""
        members = self.monitor.members
        lost = [one for one in self.members.values() if one.lost]
        return (
            self.formed_once
            and not self.changes_asked
            and member.config.replace_lost == "automatic"
            and (members.quiet or (not members.changing and len(lost) == 1))
            and member.node_id in members.newest.voters
            and not any(one.away for one in self.members.values())
            and self.enough_without(member)
        )

    def may_lose_for_good(self, member: SimulatedMember) -> bool:
        """Whether the members can do without the disk of `member` for ever: none is lost so, and no
        change is under way that might make it dear."""
        return (
            not any(one.disk_lost for one in self.members.values())
            and not self.changes_asked
            and self.monitor.members.quiet
            and self.enough_without(member)
        )

    def enough_without(self, member: SimulatedMember) -> bool:
        """Whether the other voters that have their disks are a quorum of both kinds."""
        newest = self.monitor.members.newest
        there = [v for v in newest.voters - {member.node_id} if self.holder(v) is not None]
        return len(there) >= max(newest.phase1, newest.phase2)

    @property
    def formed_once(self) -> bool:
        """Whether the cluster has formed at some time."""
        return bool(self.monitor.applied)

    def leader(self) -> NodeId | None:
        """The machine of whom leads in the highest ballot, if anybody does."""
        return max(self._leading(), default=(ZERO, None))[1]

    def oldest_leader(self) -> NodeId | None:
        """Who still leads in the lowest ballot, deposed or not."""
        return min(self._leading(), default=(ZERO, None))[1]

    def _leading(self) -> list[tuple[Ballot, NodeId]]:
        return [
            (member.replica.node.proposer.ballot, number)
            for number, member in self.members.items()
            if member.replica is not None and member.replica.node.proposer.leading
        ]
