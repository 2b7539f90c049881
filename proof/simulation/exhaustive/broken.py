"""Rules of the algorithm removed, one at a time."""

from collections.abc import Iterable

from paxos.acceptor import Acceptor
from paxos.ballot import NodeId
from paxos.messages import Accept, LogEntry, Prepare
from paxos.proposer import safe_values
from paxos.quorum import QuorumSystem
from paxos.synod import SLOT, SynodProposer


class BreaksPromise(Acceptor):
    """Without P1a: accepts in a ballot below its promise."""

    def on_accept(self, sender: NodeId, message: Accept) -> bool:
        promised, self.promised = self.promised, min(self.promised, message.ballot)
        accepted = super().on_accept(sender, message)
        self.promised = max(promised, self.promised)
        return accepted


class ForgetsPromise(Acceptor):
    """Without durability: answers Prepare without recording the promise."""

    def on_prepare(self, sender: NodeId, message: Prepare) -> None:
        super().on_prepare(sender, message)
        self._out().persist.clear()


class InsistsOnOwnValue(SynodProposer):
    """Without P2c: ignores what the promises report."""

    def value_for(self, reported: Iterable[LogEntry]) -> bytes:
        return self.value


class TakesLowestValue(SynodProposer):
    """With half of P2c: takes a value reported, but not that of the highest ballot."""

    def value_for(self, reported: Iterable[LogEntry]) -> bytes:
        lowest = sorted(reported, key=lambda entry: entry.ballot)[:1]
        recovered = safe_values(SLOT, lowest)
        return recovered[0][1] if recovered else self.value


class UncheckedQuorums(QuorumSystem):
    """Quorum sizes that `QuorumSystem` would refuse."""

    def __post_init__(self) -> None:
        pass
