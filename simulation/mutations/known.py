"""Where to begin to look: for each fault a seed that finds it, and which invariants it broke.

Scenarios change whenever `simulation.scenario` does, so a seed is a place to begin, not a promise.
Rewrite this file from the table that `python -m simulation.mutations` prints.
"""

from typing import NamedTuple


class Known(NamedTuple):
    """`seed` finds it in the default swarm; searches from several starts ended in `invariants`."""

    seed: int
    invariants: tuple[str, ...]


KNOWN: dict[str, Known] = {
    "accept below the promise": Known(3, ("durable promise", "stability")),
    "keep the promise in memory only": Known(1, ("durable promise",)),
    "keep accepted values in memory only": Known(1, ("durable promise",)),
    "report no accepted values": Known(1, ("durable promise",)),
    "promise what is truncated": Known(13, ("durable promise",)),
    "hand out what is merely accepted": Known(1, ("validity",)),
    "pick the value of the lowest ballot": Known(43, ("stability",)),
    "ignore the values of phase 1": Known(1, ("stability",)),
    "leave gaps unfilled": Known(235, ("liveness",)),
    "use a slot twice in one ballot": Known(1, ("agreement",)),
    "count a promise before its last piece": Known(52, ("stability", "no stale read")),
    "count phase 1 with one less": Known(1, ("validity",)),
    "count phase 2 with one less": Known(1, ("validity",)),
    "choose on the first vote": Known(1, ("validity",)),
    "believe an entry of another ballot": Known(3, ("agreement",)),
    "announce before it is chosen": Known(1, ("validity",)),
    "serve the log from before a snapshot": Known(45, ("stability",)),
    "answer before sync": Known(1, ("durable promise",)),
    "answer past the commits before": Known(1, ("durable promise",)),
    "forget the promise on restart": Known(11, ("durable promise",)),
    "forget accepted values on restart": Known(2, ("durable promise",)),
    "carry on past a failed sync": Known(13, ("sound nodes",)),
    "take a failed sync for a good one": Known(13, ("durable promise",)),
    "replay what is merely accepted": Known(2, ("sound nodes",)),
    "truncate ahead of the checkpoint": Known(15, ("sound nodes",)),
    "checkpoint one slot too many": Known(1, ("equal digests",)),
    "forget what changed during a checkpoint": Known(1, ("equal digests", "no stale read")),
    "lose deletions in a checkpoint": Known(1, ("no stale read", "equal digests")),
    "lose the sessions in a checkpoint": Known(1, ("equal digests",)),
    "lose the idempotency keys in a checkpoint": Known(1, ("exactly once", "equal digests")),
    "install an old snapshot": Known(10, ("prefix",)),
    "take a snapshot for one slot more": Known(1, ("sound nodes",)),
    "vote with an emptied disk": Known(1, ("durable promise",)),
    "vote before the cluster has formed": Known(1, ("durable promise",)),
    "begin the same life again": Known(6, ("liveness", "nothing lost")),
    "read without confirmation": Known(2, ("no stale read",)),
    "take an old confirmation": Known(2, ("no stale read",)),
    "read before the barrier": Known(23, ("no stale read",)),
    "read before it is applied": Known(1, ("no stale read",)),
    "apply a bundle twice": Known(10, ("exactly once",)),
    "forget idempotency keys": Known(1, ("exactly once",)),
    "ignore conditions": Known(1, ("no stale read",)),
    "apply what depends on the node": Known(1, ("equal digests",)),
    "compact one revision too many": Known(5, ("no stale read",)),
    "deny a write that was sent": Known(17, ("exactly once",)),
    "never send a proposal again": Known(1, ("liveness",)),
    "never fetch": Known(1, ("liveness",)),
    "never fetch again": Known(2, ("liveness",)),
    "keep settled slots in the window": Known(57, ("liveness",)),
    "lead without heartbeats": Known(49, ("liveness",)),
}
