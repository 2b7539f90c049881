"""The exhibits: what went wrong elsewhere, or here once, and our rule that stands against it.

Each is shown by a deliberate fault of `proof.simulation.mutations` that breaks the same rule. It is
the same kind of mistake, not the other system's code.
"""

from typing import NamedTuple


class Exhibit(NamedTuple):
    """`mutation` breaks the rule here. `text` says what happened there, and what the rule is."""

    name: str
    title: str
    source: str
    mutation: str
    text: str


EXHIBITS = (
    Exhibit(
        "stale-reads",
        "The leader reads what it has, and is no leader any more",
        "Jepsen: etcd 0.4.1 and Consul 0.5 (Kingsbury, 2014)",
        "read without confirmation",
        "Reads were answered by whoever took itself for the leader, from its own state. One that "
        "had been replaced without knowing it answered with values that had been overwritten. "
        "Here a leader confirms with a quorum, after the read came, that it still leads.",
    ),
    Exhibit(
        "index-ahead-of-data",
        "The position on disk says more than the data does",
        "etcd 3.5.0 to 3.5.2, data inconsistency after a crash (2022)",
        "checkpoint one slot too many",
        "The position of the last applied entry could reach the disk without what that entry "
        "wrote. After a crash the entry was not applied again, and one member silently differed. "
        "Here both are written in one transaction, and digests are compared at agreed slots.",
    ),
    Exhibit(
        "fsync-gate",
        "A sync failed, and the next one said that all is well",
        "PostgreSQL and Linux, fsync errors (2018); Rebello and others, ATC 2020",
        "take a failed sync for a good one",
        "After a failed fsync the kernel drops the dirty pages and forgets the error, so trying "
        "again succeeds and saves nothing. Here a node whose sync failed stops, and never answers "
        "for what it could not write.",
    ),
    Exhibit(
        "disk-swapped",
        "A disk was lost, and its node votes as if nothing had been promised",
        "Chandra, Griesemer, Redstone, Paxos Made Live (2007), section 5.1",
        "vote with an emptied disk",
        "A replica that lost its disk forgets what it promised and accepted. If it votes before "
        "it has caught up, a chosen value can be chosen anew. Here each disk has an incarnation "
        "that the others have pinned, and they refuse another one.",
    ),
    Exhibit(
        "believed-too-early",
        "What was merely proposed is taken for decided after a restart",
        "ZooKeeper, ZOOKEEPER-2845: data kept in memory across a leader election (2017)",
        "replay what is merely accepted",
        "A server kept transactions that no quorum had acknowledged and served them after a new "
        "election. Here a restart replays only what its log knows as chosen; what is merely "
        "accepted waits for a leader.",
    ),
    Exhibit(
        "answered-before-sync",
        "Acknowledged, and gone after a power failure",
        "The default or an option of many stores: answers that do not wait for the disk",
        "answer before sync",
        "A write is acknowledged while it is only in the page cache. One power failure in a whole "
        "rack and a quorum has forgotten it. Here every answer waits for the sync of its records.",
    ),
    Exhibit(
        "retried-twice",
        "A retry after a lost answer is carried out once more",
        "Any client that retries; Ongaro, Consensus (2014), section 6.3",
        "forget idempotency keys",
        "The answer was lost, the client asked again, and the counter went up by two. Here a "
        "write carries a key, and every replica remembers what it answered to it.",
    ),
    Exhibit(
        "lowest-ballot",
        "The new leader picks the wrong one of two accepted values",
        "The classic mistake in writing phase 2 of Paxos; Paxos Made Simple (2001), P2c",
        "pick the value of the lowest ballot",
        "Acceptors report values of several ballots. Only that of the highest one may have been "
        "chosen; any other can replace a chosen value.",
    ),
    Exhibit(
        "amnesia",
        "A promise that lived in memory only",
        "Our own rule D2, and what every paper says in one line",
        "keep the promise in memory only",
        "The acceptor promised, restarted, and accepted in a lower ballot. Two leaders then both "
        "have a quorum. Here a promise is on disk before anyone hears of it.",
    ),
    Exhibit(
        "lease-cut-short",
        "A lease ends while its holder still counts on it",
        "Jepsen: etcd 3.4.3, locks (Kingsbury, 2020), for the danger of locks by leases",
        "let a lease end halfway",
        "Who holds a lock by a lease acts as long as the lease lasts by its own clock. If the "
        "store ends it sooner, two hold the lock. Here a lease lasts its time since the last "
        "answer that kept it alive, also across leaders; and writes can be tied to the lock's key.",
    ),
)


def named(name: str) -> Exhibit:
    """Raises KeyError."""
    return next(one for one in EXHIBITS if one.name == name)
