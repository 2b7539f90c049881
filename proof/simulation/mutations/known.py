"""Where to begin to look: for each fault a seed that finds it, and which invariants it broke.

Scenarios change whenever `proof.simulation.cluster.scenario` does, so a seed is a place to begin,
not a promise. Rewrite this file from the table that `python -m proof.simulation.mutations` prints.
"""

from typing import NamedTuple

from proof.simulation.mutations.measure import DEFAULT
from proof.simulation.runner import Swarm


class Known(NamedTuple):
    """`seed` finds it in `swarm`; searches from several starts ended in `invariants`."""

    seed: int
    invariants: tuple[str, ...]
    swarm: Swarm = DEFAULT


LEFT_BEHIND = Swarm(5, ("laggard", "depose", "kill", "power"))
"""Some have truncated what others do not have yet."""
DEPOSED = Swarm(5, ("split", "depose", "isolate", "flap", "kill"))
"""Leaders come and go, so that slots have values of several ballots: rare in the default swarm."""


KNOWN: dict[str, Known] = {
    "accept below the promise": Known(
        10,
        (
            "durable promise",
            "stability",
        ),
    ),
    "keep the promise in memory only": Known(1, ("durable promise",)),
    "keep accepted values in memory only": Known(1, ("durable promise",)),
    "report no accepted values": Known(5, ("durable promise",)),
    "promise what is truncated": Known(77, ("durable promise",), LEFT_BEHIND),
    "hand out what is merely accepted": Known(11, ("validity",)),
    "pick the value of the lowest ballot": Known(15, ("stability",), DEPOSED),
    "ignore the values of phase 1": Known(5, ("stability",)),
    "leave gaps unfilled": Known(191, ("liveness",)),
    "use a slot twice in one ballot": Known(1, ("agreement",)),
    "count a promise before its last piece": Known(
        48,
        (
            "stability",
            "no stale read",
        ),
    ),
    "count phase 1 with one less": Known(1, ("validity",)),
    "count phase 2 with one less": Known(1, ("validity",)),
    "choose on the first vote": Known(1, ("validity",)),
    "believe an entry of another ballot": Known(8, ("agreement",)),
    "announce before it is chosen": Known(1, ("validity",)),
    "serve the log from before a snapshot": Known(
        26,
        (
            "stability",
            "sound nodes",
        ),
    ),
    "answer before sync": Known(1, ("durable promise",)),
    "answer past the commits before": Known(4, ("durable promise",)),
    "forget the promise on restart": Known(605, ("durable promise",)),
    "forget accepted values on restart": Known(49, ("durable promise",)),
    "carry on past a failed sync": Known(14, ("sound nodes",)),
    "take a failed sync for a good one": Known(14, ("durable promise",)),
    "replay what is merely accepted": Known(
        49,
        (
            "every change once",
            "equal digests",
            "sound nodes",
        ),
    ),
    "acknowledge a group before its sync": Known(52, ("durable promise",)),
    "replay what a used file held before": Known(200, ("durable promise",)),
    "do not sync the log's directory": Known(52, ("durable promise",)),
    "believe what was read without writing it again": Known(431, ("durable promise",)),
    "seal a group before its sync": Known(431, ("durable promise",)),
    "truncate ahead of the checkpoint": Known(15, ("sound nodes",)),
    "checkpoint one slot too many": Known(5, ("equal digests",)),
    "forget what changed during a checkpoint": Known(
        1,
        (
            "equal digests",
            "sound nodes",
            "no stale read",
        ),
    ),
    "lose deletions in a checkpoint": Known(
        1,
        (
            "equal digests",
            "true results",
            "no stale read",
        ),
    ),
    "lose the sessions in a checkpoint": Known(1, ("equal digests",)),
    "lose the idempotency keys in a checkpoint": Known(
        3,
        (
            "true results",
            "exactly once",
            "equal digests",
        ),
    ),
    "install an old snapshot": Known(115, ("prefix",)),
    "take a snapshot for one slot more": Known(6, ("sound nodes",)),
    "vote with an emptied disk": Known(47, ("durable promise",)),
    "vote before the cluster has formed": Known(1, ("durable promise",)),
    "begin the same life again": Known(
        6,
        (
            "liveness",
            "nothing lost",
        ),
    ),
    "read without confirmation": Known(79, ("no stale read",)),
    "take an old confirmation": Known(8, ("no stale read",)),
    "read before the barrier": Known(9, ("no stale read",)),
    "read before it is applied": Known(54, ("no stale read",)),
    "apply a bundle twice": Known(4, ("exactly once",)),
    "forget idempotency keys": Known(
        3,
        (
            "true results",
            "exactly once",
        ),
    ),
    "ignore conditions": Known(
        1,
        (
            "true results",
            "no stale read",
        ),
    ),
    "apply what depends on the node": Known(
        1,
        (
            "equal digests",
            "every change once",
        ),
    ),
    "apply a transaction that cannot be": Known(3, ("true results",)),
    "run the branch whose compares fail": Known(2, ("true results",)),
    "let a lease end halfway": Known(2, ("no lease ends early",)),
    "keep a lease alive without looking": Known(2, ("no lease ends early",)),
    "forget the keys of a lease that ends": Known(2, ("true results",)),
    "never end a lease": Known(2, ("liveness",)),
    "skip a change": Known(3, ("every change once",)),
    "tell a change twice": Known(1, ("every change once",)),
    "wake nobody": Known(10, ("every change once",)),
    "never send a proposal again": Known(3, ("liveness",)),
    "never fetch": Known(1, ("liveness",)),
    "never fetch again": Known(3, ("liveness",)),
    "lead without heartbeats": Known(3, ("liveness",)),
    "never give up a link": Known(11, ("liveness",)),
    "let the log's clock follow the wall": Known(57, ("elapsed time",)),
    "do not notice that the disk hangs": Known(92, ("sound nodes",)),
    "apply beyond the budget": Known(1, ("true results",)),
    "never forget idempotency keys": Known(
        1,
        (
            "true results",
            "equal digests",
            "exactly once",
        ),
    ),
    "count more for what is in memory": Known(
        37,
        (
            "equal digests",
            "true results",
        ),
    ),
    "keep the users of before a snapshot": Known(
        148,
        (
            "equal digests",
            "true results",
        ),
    ),
    "keep what was issued before": Known(10, ("true results",)),
    "let a right reach too far": Known(10, ("true results",)),
    "vote under the old configuration": Known(4, ("validity",)),
    "count a learner": Known(1, ("validity",)),
    "take effect at once": Known(1, ("true results",)),
    "forget the old configuration in phase 1": Known(2, ("validity",)),
    "propose beyond the distance": Known(8, ("validity",)),
    "lead under a configuration that has not promised": Known(8, ("validity",)),
    "skip the configuration between": Known(2, ("validity",)),
    "reuse an id": Known(5, ("true results",)),
    "accept the old disk back": Known(7, ("liveness",)),
    "forget the members in a checkpoint": Known(1, ("equal digests",)),
    "promote a laggard": Known(1, ("voters are close",)),
    "heal two at once": Known(24, ("one change at a time",)),
    "leave a change halfway": Known(2, ("liveness",)),
    "take nobody in again": Known(12, ("liveness",)),
}
