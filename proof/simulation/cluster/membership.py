"""The members of a simulated cluster in their surroundings, as clients and the nemesis see them."""

from paxos.ballot import ZERO, Ballot, NodeId
from proof.simulation.cluster.member import SimulatedMember
from proof.simulation.cluster.scenario import Scenario
from proof.simulation.cluster.surroundings import Surroundings


class SimulatedCluster(Surroundings):
    """All members, up or down."""

    def __init__(self, scenario: Scenario, keep_trace: bool = False) -> None:
        super().__init__(scenario, keep_trace)
        self.members = {node: SimulatedMember(self, node) for node in range(1, scenario.nodes + 1)}

    @property
    def formed(self) -> bool:
        """Whether every member knows that the cluster has formed."""
        return all(
            member.replica is not None and member.replica.membership.formed
            for member in self.members.values()
        )

    def leader(self) -> NodeId | None:
        """Who leads in the highest ballot, if anybody does."""
        return max(self._leading(), default=(ZERO, None))[1]

    def oldest_leader(self) -> NodeId | None:
        """Who still leads in the lowest ballot, deposed or not."""
        return min(self._leading(), default=(ZERO, None))[1]

    def _leading(self) -> list[tuple[Ballot, NodeId]]:
        return [
            (member.replica.node.proposer.ballot, node)
            for node, member in self.members.items()
            if member.replica is not None and member.replica.node.proposer.leading
        ]
