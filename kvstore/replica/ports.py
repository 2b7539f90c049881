"""What the parts of a replica ask of one another: the few calls that more than one of them needs.

`kvstore.replica.open` gives each part the things that fit. The simulation brings its own clock.
"""

from collections.abc import Callable
from typing import Protocol

from kvstore.peers.frames import PeerMessage
from paxos.ballot import Ballot, NodeId, Slot


class Clock(Protocol):
    """Time as the replica sees it."""

    def monotonic(self) -> float:
        """Seconds; never goes back."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""


class PeerLinks(Protocol):
    """The sending side of the links to the peers."""

    def send(self, to: NodeId, message: PeerMessage) -> None:
        """Queue `message`, or drop it."""

    def flush(self) -> None:
        """Let what was queued leave."""

    def connected(self, peer: NodeId) -> bool:
        """Whether messages to `peer` leave, on a link on which it was heard lately."""


class LinkView(Protocol):
    """What is known of the links."""

    def connected(self, peer: NodeId) -> bool:
        """Whether messages to `peer` leave, on a link on which it was heard lately."""

    def word(self, peer: NodeId) -> str:
        """ "up", or since when there is no link to `peer`, and why."""

    def silent_s(self, peer: NodeId) -> float | None:
        """For how long nothing was heard of `peer`; None if it never was."""

    def absent_s(self, peer: NodeId) -> float:
        """The same, if it never was for how long this node has looked for it."""

    def plain(self) -> int:
        """How many links of peers to this node are without TLS."""

    @property
    def certificate_ends_s(self) -> float:
        """When what is shown to peers ends, in seconds since 1970; 0 without TLS."""

    @property
    def warning(self) -> str:
        """What of the links an operator must mend although they are there, or ""."""


class LeaderView(Protocol):
    """Who leads, as the consensus node knows."""

    @property
    def id(self) -> NodeId:
        """This node."""

    @property
    def leader(self) -> NodeId | None:
        """Who leads, as far as this node knows."""

    @property
    def leader_ballot(self) -> Ballot:
        """The ballot of the last leader heard of, or of this node's own leadership."""

    @property
    def leading(self) -> bool:
        """Whether this node leads."""

    @property
    def own_ballot(self) -> Ballot:
        """The ballot that this node leads, or last tried to lead."""

    @property
    def barrier(self) -> Slot:
        """As leader: the last slot that earlier leaders may have got chosen."""

    @property
    def serves_reads(self) -> bool:
        """As leader: whether everything that earlier leaders got chosen is chosen here too."""


class StandsForElection(Protocol):
    """The consensus node as far as it can be kept from leading."""

    fit_to_lead: bool

    @property
    def leading(self) -> bool:
        """Whether this node leads."""

    @property
    def successors(self) -> list[NodeId]:
        """Who may lead after this node."""

    def hand_over(self, to: NodeId | None = None) -> NodeId | None:
        """As leader, make another member lead; who was asked to."""


Wake = Callable[[], None]
"""Asks for a step once this turn of the loop has delivered all its inputs."""
