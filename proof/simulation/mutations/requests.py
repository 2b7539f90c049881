"""Faults between the log and the client: what is applied, how often, and what is answered."""

from kvstore.replica.log_clock import LogClock
from kvstore.state.budget import Budget
from kvstore.state.kept_answers import KeptAnswers
from kvstore.state.rights import Auth
from kvstore.state.sessions import Sessions
from kvstore.state.state_machine import StateMachine
from kvstore.state.transaction_cost import _Meter
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
        "never forget idempotency keys",
        "An answer is kept for the time that was asked for, by the log's clock, on every node.",
        edit(KeptAnswers, "find", ("if expires_ms > clock_ms:", "if True:")),
    ),
    mutation(
        "let the log's clock follow the wall",
        "The log's clock goes on by elapsed time: a wall clock that is set must not move it.",
        edit(LogClock, "__init__", ("clock.monotonic()", "clock.wall_ms() / 1000")),
        edit(LogClock, "now_ms", ("self._clock.monotonic()", "self._clock.wall_ms() / 1000")),
    ),
    mutation(
        "apply beyond the budget",
        "One command looks at a bounded number of keys and bytes, wherever it is applied.",
        edit(
            Budget,
            "take",
            ("if self.keys > KEYS_MAX:", "if False:"),
            ("if self.bytes > BYTES_MAX:", "if False:"),
        ),
    ),
    mutation(
        "count more for what is in memory",
        "What a command costs depends on it and the state, not on what a node has checkpointed.",
        edit(
            _Meter,
            "range",
            (
                "in mvcc.records(start, end):\n            budget.take(len(key) + len(record))",
                "in mvcc.records(start, end):\n            budget.take((len(key) + len(record))"
                " << (key in mvcc._keys.active))",
            ),
        ),
    ),
    mutation(
        "let a right reach too far",
        "A range must be covered as a whole.",
        edit(
            Auth,
            "_covers",
            (
                "return end is None or (demand.end is not None and demand.end <= end)",
                "return True",
            ),
        ),
    ),
    mutation(
        "keep what was issued before",
        "A password that is changed, or a user that is made anew, voids what was issued before.",
        edit(
            Auth,
            "user",
            ("user is None or user.valid_from > by.auth_revision", "user is None"),
        ),
    ),
)
