"""Faults of linearizable reads, which never touch the log."""

from kvstore.pending import PendingReads
from paxos.node import Node
from simulation.mutations.edit import edit, mutation

MUTATIONS = (
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
)
