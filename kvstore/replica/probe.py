"""What a replica tells whoever listens: production code marks, the flight recorder and rigs hear.

Every method does nothing here. The recorder (`kvstore.replica.recorder`) keeps what it hears. The
simulation overrides them, to check invariants and to count what was reached; it must change
nothing. Calls are made once a message, a slot or a step, never once a command, so that nobody
notices what they cost.
"""

from collections.abc import Callable
from typing import Any

from kvstore.peers.frames import PeerMessage
from kvstore.state.state_machine import AppliedBundle, StateMachine
from paxos.ballot import Ballot, NodeId, Slot
from paxos.marks import Marks
from paxos.messages import AnyMessage
from paxos.node import Node


class Probe(Marks):
    """Hears what happens in one replica, from its start on, on the replica's loop."""

    def opened(self, node: Node, state: StateMachine, formed: bool) -> None:
        """The data directory is read, and what its log knows as chosen is applied; `formed`: it
        says that this node is a member."""

    def sent(self, to: NodeId, message: PeerMessage) -> None:
        """`message` is about to be queued for `to`, or dropped because the link is down."""

    def received(self, sender: NodeId, message: PeerMessage) -> None:
        """`message` came from `sender`, and is about to be looked at."""

    def linked(self, peer: NodeId, up: bool) -> None:
        """The link from `peer` came or went."""

    def reached(self, peer: NodeId) -> None:
        """The link to `peer` came: what is sent from now on leaves."""

    def answered_itself(self, message: AnyMessage) -> None:
        """The consensus node is about to take its own message, whose records are durable."""

    def applied(
        self,
        state: StateMachine,
        slot: Slot,
        value: bytes,
        results: list[AppliedBundle],
    ) -> None:
        """`value` was applied, and each admitted bundle of it gave these results."""

    def stepped(self, node: Node) -> None:
        """A step is over."""

    def leader_noticed(self, leader: NodeId | None, ballot: Ballot, unanswered: int) -> None:
        """Another leader, or none, is known; `unanswered` bundles of this node wait."""

    def checkpointed(self, through: Slot) -> None:
        """The state as of slot `through` is durable."""

    def truncated(self, first_slot: Slot) -> None:
        """The log begins at `first_slot` from now on."""

    def snapshot_installed(self, before: Slot, state: StateMachine) -> None:
        """The state as of slot `before` was replaced by a snapshot's."""


class TwoProbes(Probe):
    """Both hear everything, `first` before `second`."""

    def __init__(self, first: Probe, second: Probe) -> None:
        self._first = first
        self._second = second


def _both(name: str) -> Callable[..., None]:
    def hear(self: TwoProbes, *facts: Any, **more: Any) -> None:
        getattr(self._first, name)(*facts, **more)
        getattr(self._second, name)(*facts, **more)

    return hear


for _name in [name for kind in (Marks, Probe) for name in vars(kind) if not name.startswith("_")]:
    setattr(TwoProbes, _name, _both(_name))


SILENT = Probe()
"""Nobody listens."""
