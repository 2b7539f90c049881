"""Single-decree Paxos on a stage: the proposers of `paxos.synod` and the real acceptors."""

from functools import partial

from paxos.acceptor import Acceptor
from paxos.ballot import ZERO, Ballot, NodeId
from paxos.configuration import Governance
from paxos.election import Election
from paxos.messages import Accept, Accepted, AnyMessage, LogEntry, Nack, Prepare, Promise
from paxos.quorum import QuorumSystem
from paxos.records import Promised
from paxos.synod import SLOT, PendingEffects, SynodLearner, SynodProposer
from proof.simulation.lessons.stage import COMMIT_US, Stage
from proof.simulation.tell.describe import value_text

BACK_OFF_TICKS = 16
"""`election_ticks` of a proposer that backs off: a little more than an attempt takes."""


class SynodStage(Stage):
    """Each node is a proposer or an acceptor, so that every message crosses a link.

    A proposer that is preempted tries again at once if it is in `eager`; after a random back-off
    if it has been given one; else when the script says so.
    """

    def __init__(
        self,
        proposers: dict[NodeId, bytes],
        quorums: QuorumSystem,
        *,
        commit_us: int = COMMIT_US,
    ) -> None:
        super().__init__([*proposers, *quorums.members])
        self.quorums = quorums
        self.commit_us = commit_us
        self.proposers = {
            node: SynodProposer(node, quorums, value) for node, value in proposers.items()
        }
        self.outboxes = {node: PendingEffects() for node in sorted(quorums.members)}
        self.acceptors = {node: Acceptor(out) for node, out in self.outboxes.items()}
        self.learners = {node: SynodLearner(quorums) for node in proposers}
        self.chosen: dict[NodeId, bytes] = {}
        self.preempted: list[Ballot] = []
        self._proposed: dict[Ballot, bytes] = {}
        self.eager: set[NodeId] = set()
        self.patience: dict[NodeId, int] = {}
        self._drawn = ""
        self._elections: dict[NodeId, Election] = {}
        self._next: dict[NodeId, Ballot] = {node: ZERO.next_for(node) for node in proposers}
        for node in self.nodes:
            self._happened(node, "started", "proposer" if node in proposers else "acceptor")

    # -- the script ------------------------------------------------------------------------

    def prepare(self, node: NodeId, ballot: Ballot | None = None) -> None:
        """Begin phase 1 with `ballot`, or with the lowest that may still succeed."""
        message = self.proposers[node].prepare(ballot or self._next[node])
        self._next[node] = message.ballot.next_for(node)
        if node in self._elections:
            self._elections[node].campaign(message.ballot)
        for acceptor in self.acceptors:
            self._transmit(node, acceptor, message)

    def back_off(self, patience: dict[NodeId, int]) -> None:
        """From now on a preempted proposer waits as `paxos.election` says.

        `patience` is each one's jitter: per cent of the range that it draws from. A script may
        change it.
        """
        self.eager.clear()
        self.patience.update(patience)
        for node in patience:
            self._elections[node] = Election(
                node,
                Governance(node, self.quorums),
                election_ticks=BACK_OFF_TICKS,
                jitter=partial(self._draw, node),
            )
            self._elections[node].wait()

    def _draw(self, node: NodeId, n: int) -> int:
        draw = (n - 1) * self.patience[node] // 100
        self._drawn = f"{BACK_OFF_TICKS} ms and {draw} ms more, drawn from 0 to {n - 1}"
        return draw

    def accepted(self, node: NodeId) -> LogEntry | None:
        """What an acceptor has accepted."""
        return self.acceptors[node].log.get(SLOT)

    # -- the actors ------------------------------------------------------------------------

    def _tick(self) -> None:
        for node, election in self._elections.items():
            idle = self.proposers[node].state.proposed is None or self._is_preempted(node)
            if idle and node not in self.chosen and election.tick():
                self.prepare(node)

    def _is_preempted(self, node: NodeId) -> bool:
        return self.proposers[node].state.ballot in self.preempted

    def _arrive(self, sender: NodeId, to: NodeId, message: AnyMessage) -> None:
        match message:
            case Prepare():
                self.acceptors[to].on_prepare(sender, message)
            case Accept():
                self.acceptors[to].on_accept(sender, message)
            case Promise():
                self._on_promise(sender, to, message)
            case Accepted():
                self._on_accepted(sender, to, message)
            case Nack():
                self._on_nack(to, message)
        if to in self.outboxes:
            self._obey(to)

    def _obey(self, node: NodeId) -> None:
        """Refusals leave at once, everything else after the commit."""
        effects = self.outboxes[node].take()
        for to, message in effects.send_first:
            self._transmit(node, to, message)

        def commit() -> None:
            for record in effects.persist:
                if isinstance(record, Promised):
                    self._happened(node, "promised", f"{record.ballot} is on disk")
                elif isinstance(record, LogEntry):
                    self._slot_is(node, record.slot, "accepted", record.ballot, record.value)
            for to, message in effects.send:
                self._transmit(node, to, message)

        if effects.send:
            self._later(self.commit_us, commit)

    def _on_promise(self, sender: NodeId, node: NodeId, message: Promise) -> None:
        accept = self.proposers[node].on_promise(sender, message)
        if accept is None:
            return
        self._proposed[accept.ballot] = accept.value
        value = value_text(accept.value)
        self._happened(node, "proposes", f"{value} in {accept.ballot}: phase 1 is complete")
        for acceptor in self.acceptors:
            self._transmit(node, acceptor, accept)

    def _on_accepted(self, sender: NodeId, node: NodeId, message: Accepted) -> None:
        if not self.learners[node].on_accepted(sender, message) or node in self.chosen:
            return
        value = self.chosen[node] = self._proposed[message.ballot]
        self._slot_is(node, SLOT, "chosen", message.ballot, value)
        self.claim(len(set(self.chosen.values())) == 1, "one value is chosen")

    def _on_nack(self, node: NodeId, message: Nack) -> None:
        higher = self.proposers[node].on_nack(message)
        if higher is None or node in self.chosen:
            return
        self._next[node] = max(self._next[node], higher)
        if message.ballot in self.preempted:
            return
        self.preempted.append(message.ballot)
        self._happened(node, "preempted", f"{message.ballot} is over: {message.promised} is higher")
        if node in self._elections:
            self._elections[node].wait()
            self._happened(node, "backs off", self._drawn)
        elif node in self.eager:
            self.prepare(node)
