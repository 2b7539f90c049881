"""Faults of linearizable reads, which never touch the log."""

from kvstore.replica.pending import PendingReads
from paxos.node_roles import NodeRoles
from paxos.reads import Reads
from proof.simulation.mutations.edit import edit, mutation

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
                "[self.on_heartbeat_reply(node, self.probe) for node in self._governance.members]",
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
        "read before the barrier",
        "A new leader serves reads once a slot of its own ballot is chosen: before, it may not "
        "know all that earlier leaders got chosen.",
        edit(NodeRoles, "serves_reads", ("and self.chosen_through >= self.proposer.barrier", "")),
    ),
    mutation(
        "read before it is applied",
        "A read may be served once the slot that its read index names is applied here.",
        edit(PendingReads, "ready", ("if slot <= applied_through:", "if True:")),
    ),
)
