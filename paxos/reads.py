"""Linearizable reads without a log write: prove that no newer leader exists, then read.

The leader notes how far the log is chosen, and sends one probe. Once a phase 2 quorum has answered
it, no leader of a higher ballot had finished its phase 1 when the probe left: that leader would
need promises from a phase 1 quorum, which meets the quorum that answered. So nothing newer had been
chosen, and the noted slot covers every write acknowledged before the read began. All reads that
wait share one probe; those that come while it is under way share the next. While the configuration
changes, a quorum of each that may govern a later slot must answer.

Source: Ongaro, "Consensus: Bridging Theory and Practice" (2014), section 6.4 (read index); the
quorum argument is Howard, "Distributed Consensus Revised" (2019), for reads.
"""

from collections.abc import Callable

from paxos.ballot import NodeId, Slot
from paxos.configuration import Governance
from paxos.effects import Effects
from paxos.messages import ReadIndex, ReadIndexReply

_Read = tuple[NodeId, int]
"""Who asks, and its number for it: a token of this node, or a ReadIndex request of a peer."""

REMOTE_READS_MAX = 4096
"""Requests of followers that a leader keeps; beyond, they are dropped and asked again."""


class Reads:
    """One node's reads. As leader it runs probes; as follower it asks the leader.

    `first_request` is above every number of the node's earlier starts. Failing schedule otherwise:
    request 1 is answered late, the node restarts, sends its new request 1, and takes the old answer
    for it: the slot named is from before a write that has been acknowledged since.
    """

    def __init__(
        self,
        node: NodeId,
        governance: Governance,
        out: Callable[[], Effects],
        *,
        resend_ticks: int,
        first_request: int,
    ) -> None:
        self.node = node
        self._governance = governance
        self._out = out
        self._resend_ticks = resend_ticks
        self._waiting: list[_Read] = []
        self.probe = 0
        self._probed: list[_Read] = []
        self._probe_index: Slot = 0
        self._acks: dict[NodeId, int] = {}
        self._request = first_request
        self._asked: list[int] = []
        self._asked_ticks = 0

    def add(self, token: int) -> None:
        """A read of this node; it is answered in `effects.reads`, or never if cancelled."""
        self._waiting.append((self.node, token))

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._probed) + len(self._asked)

    def cancel(self, tokens: set[int]) -> None:
        """The caller gave up on these."""
        mine = self.node
        self._waiting = [r for r in self._waiting if r[0] != mine or r[1] not in tokens]
        self._probed = [r for r in self._probed if r[0] != mine or r[1] not in tokens]
        self._asked = [token for token in self._asked if token not in tokens]

    # -- leader -----------------------------------------------------------------------------

    def on_read_index(self, sender: NodeId, request: int) -> None:
        if len(self._waiting) < REMOTE_READS_MAX:
            self._waiting.append((sender, request))

    def start_probe(self, chosen_through: Slot) -> bool:
        """Begin a probe for all that wait, unless one is under way; whether to send it."""
        if self._probed or not self._waiting:
            return False
        self.probe += 1
        self._probed, self._waiting = self._waiting, []
        self._probe_index = chosen_through
        self.on_heartbeat_reply(self.node, self.probe)
        return bool(self._probed)

    def on_heartbeat_reply(self, sender: NodeId, probe: int) -> None:
        """A follower (or this node) still follows; answer the reads that now have a quorum."""
        self._acks[sender] = max(probe, self._acks.get(sender, 0))
        if not self._probed or probe < self.probe:
            return
        answered = [n for n, acked in self._acks.items() if acked >= self.probe]
        if self._governance.is_phase2(answered, self._probe_index):
            out = self._out()
            for asker, number in self._probed:
                if asker == self.node:
                    out.reads.append((number, self._probe_index))
                else:
                    out.send_first.append((asker, ReadIndexReply(number, self._probe_index)))
            self._probed = []

    def reconfigured(self) -> None:
        """Other configurations govern: what was answered so far was counted by the old ones. The
        reads that wait for the probe wait for the next one, which begins where the log is then."""
        self._waiting = self._probed + self._waiting
        self._probed = []

    # -- follower ---------------------------------------------------------------------------

    def ask_leader(self, leader: NodeId) -> None:
        """Send what waits as one request, unless one is under way."""
        if self._asked or not self._waiting:
            return
        self._asked = [token for asker, token in self._waiting if asker == self.node]
        self._waiting = []
        if self._asked:
            self._request += 1
            self._asked_ticks = 0
            self._out().send_first.append((leader, ReadIndex(self._request)))

    def on_read_index_reply(self, message: ReadIndexReply) -> None:
        if message.request == self._request and self._asked:
            self._out().reads.extend((token, message.slot) for token in self._asked)
            self._asked = []

    def tick(self, leader: NodeId | None) -> None:
        """Ask again: the request, the answer or the leader may be lost."""
        if not self._asked:
            return
        self._asked_ticks += 1
        if self._asked_ticks >= self._resend_ticks:
            self.leader_changed()
            if leader is not None:
                self.ask_leader(leader)

    def leader_changed(self) -> None:
        """Own reads start over; those of peers are dropped, and their askers ask the new leader.

        A probe or a request of the old leadership must not answer a read under the new one, so the
        numbers move on.
        """
        self._waiting = [
            *((self.node, token) for token in self._asked),
            *(read for read in self._probed if read[0] == self.node),
            *(read for read in self._waiting if read[0] == self.node),
        ]
        self._asked, self._probed = [], []
        self._acks.clear()
        self.probe += 1
        self._request += 1
