"""Faults in what was built on the key space: transactions, leases, and the change feed."""

from kvstore.replica.feed import Feed
from kvstore.replica.lease_timers import LeaseTimers
from kvstore.replica.leasing import Leasing
from kvstore.state import transactions as transaction
from kvstore.state.state_machine import StateMachine
from proof.simulation.mutations.edit import edit, mutation

MUTATIONS = (
    mutation(
        "apply a transaction that cannot be",
        "All of a transaction or nothing: one whose lease is not there changes nothing.",
        edit(transaction, "_refused_put", ("return NoLease(put.lease)", "return None")),
    ),
    mutation(
        "run the branch whose compares fail",
        "The first branch runs only if every compare holds.",
        edit(transaction, "_choose", ("succeeded = all(", "succeeded = any(")),
    ),
    mutation(
        "let a lease end halfway",
        "A lease lasts its full time since it was last kept alive.",
        edit(LeaseTimers, "renew", ("now_s + ttl_s", "now_s + ttl_s / 2")),
    ),
    mutation(
        "keep a lease alive without looking",
        "A lease that was kept alive lasts: a deadline that did not move must not be answered for.",
        edit(LeaseTimers, "renew", ("self._deadline_s[lease] = now_s + ttl_s", "pass")),
    ),
    mutation(
        "forget the keys of a lease that ends",
        "When a lease ends, its keys are deleted, on every node and in one revision.",
        edit(
            StateMachine,
            "_end_lease",
            ("deleted = self._keyspace.end_lease(lease)", "deleted = len(self.leases.keys(lease))"),
        ),
    ),
    mutation(
        "never end a lease",
        "A lease that nobody keeps alive ends.",
        edit(Leasing, "due", ("if self.timers.running:", "if False:")),
    ),
    mutation(
        "skip a change",
        "A watcher is told of every change from where it begins.",
        edit(Feed, "read", ("skip = first -", "skip = 1 + first -")),
    ),
    mutation(
        "tell a change twice",
        "A watcher is told of every change once.",
        edit(Feed, "read", ("changes[-1].revision + 1", "changes[-1].revision")),
    ),
    mutation(
        "wake nobody",
        "A watcher that waits is woken by the next change that it wants.",
        edit(Feed, "_on_change", ("self._wake(watcher, revision)", "pass")),
    ),
)
