"""Faults of linearizable reads, which never touch the log."""

from kvstore.pending import PendingReads
from paxos.node import Node
from paxos.reads import Reads
from simulation.mutations.edit import edit, mutation

MUTATIONS = (
    mutation(
        "read without confirmation",
        "Read index: a leader must hear from a phase 2 quorum that it still leads, after the read "
        "came; a deposed one would serve old values.",
        edit(
            Reads,
            "start_probe",
            (
                "self.on_heartbeat_reply(self.node, self.probe)",
                "[self.on_heartbeat_reply(node, self.probe) for node in self.quorums.members]",
            ),
        ),
    ),
    mutation(
        "take an old confirmation",
        "Read index: the confirmation must be of a probe sent after the read came.",
        edit(
            Reads,
            "on_heartbeat_reply",
            ("if not self._probed or probe < self.probe:", "if not self._probed:"),
            ("if acked >= self.probe]", "if acked]"),
        ),
    ),
    mutation(
        "confirm a deposed leader",
        "A follower that promised a higher ballot must not confirm the leader of a lower one.",
        edit(
            Node,
            "_on_leader",
            (
                "self._send_first(sender, Nack(message.ballot, self.ballot))",
                "probe = getattr(message, 'probe', 0)\n"
                "        self._send_first(sender, HeartbeatReply(message.ballot, probe, 0))",
            ),
        ),
    ),
    mutation(
        "read before the barrier",
        "A new leader serves reads once a slot of its own ballot is chosen: before, it may not know "
        "all that earlier leaders got chosen.",
        edit(Node, "serves_reads", (" and self.chosen_through >= self.proposer.barrier", "")),
    ),
    mutation(
        "read before it is applied",
        "A read may be served once the slot that its read index names is applied here.",
        edit(PendingReads, "ready", ("if slot <= applied_through:", "if True:")),
    ),
    mutation(
        "take an old read index",
        "An answer to an earlier request names a slot from before the read came.",
        edit(Reads, "on_read_index_reply", ("message.request == self._request and ", "")),
    ),
    mutation(
        "number read requests anew in each life",
        "The answer to a request of an earlier life must not be taken for one of this life.",
        edit(Node, "__init__", ("first_request=config.life << 32", "first_request=0")),
    ),
)
