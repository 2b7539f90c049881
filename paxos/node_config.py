"""What a node is told when it is made: who it is, and how patient."""

from dataclasses import dataclass

from paxos.ballot import NodeId
from paxos.configuration import DISTANCE
from paxos.messages import PIECE_BYTES_MAX
from paxos.quorum import QuorumSystem


@dataclass(frozen=True)
class NodeConfig:
    """Who the node is and how patient. All durations are in ticks of the caller's clock.

    `start` says which start of this node this is, counted durably, so that none mistakes an answer
    meant for an earlier one. `window` bounds the slots in flight; `ahead_max` bounds how many slots
    beyond the chosen prefix an acceptor keeps, so that a laggard does not hoard what it cannot
    apply yet.
    Promises and fetched entries travel in pieces of about `piece_bytes_max` bytes.

    `quorums` and `distance` are the first configuration, which governs until `Node.configure` says
    otherwise; None: the caller has none yet, and this node learns without a vote.
    """

    node: NodeId
    quorums: QuorumSystem | None
    distance: int = DISTANCE
    start: int = 1
    window: int = 2
    heartbeat_ticks: int = 2
    election_ticks: int = 16
    resend_ticks: int = 8
    ahead_max: int = 256
    piece_bytes_max: int = PIECE_BYTES_MAX
