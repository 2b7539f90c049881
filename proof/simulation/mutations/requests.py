"""Faults between the log and the client: what is applied, how often, and what is answered."""

from kvstore.replica.pending import PendingWrites
from kvstore.state.kept_answers import KeptAnswers
from kvstore.state.mvcc import Mvcc
from kvstore.state.sessions import Sessions
from kvstore.state.state_machine import StateMachine
from proof.simulation.mutations.edit import edit, mutation

MUTATIONS = (
    mutation(
        "apply a bundle twice",
        "A bundle sent again after a change of leader may be chosen twice, and is applied once.",
        edit(
            Sessions,
            "admit",
            ("or bundle.number in session.applied", ""),
        ),
    ),
    mutation(
        "forget idempotency keys",
        "A retry under the same idempotency key is answered again, not applied again.",
        edit(KeptAnswers, "find", ("if held is not None:", "if False:")),
    ),
    mutation(
        "ignore conditions",
        "A conditional write changes nothing unless its condition holds when it is applied.",
        edit(
            StateMachine,
            "_refusal",
            ("held = found > 0 if wanted < 0 else found == wanted", "held = True"),
        ),
    ),
    mutation(
        "apply what depends on the node",
        "Replication of a state machine: the same log gives the same state on every node, whatever "
        "else the node is doing.",
        edit(
            StateMachine,
            "_put",
            (
                "self._keyspace.put(put.key, put.value, lease)",
                'self._keyspace.put(put.key, put.value + b"!" * self._store.freezing, lease)',
            ),
        ),
    ),
    mutation(
        "compact one revision too many",
        "After compaction at C the state as of C stays readable.",
        edit(
            Mvcc,
            "discard",
            ("place_of(compacted_revision, 0)", "place_of(compacted_revision + 2, 0)"),
        ),
    ),
    mutation(
        "deny a write that was sent",
        "A request that times out after it was sent may be applied yet: only unsent ones may be "
        "answered as certainly not applied.",
        edit(
            PendingWrites,
            "expire",
            (
                "NoQuorum(_NOT_SENT) if sealed.sent_in == ZERO else OutcomeUnknown(_UNKNOWN)",
                "NoQuorum(_NOT_SENT)",
            ),
        ),
    ),
)
