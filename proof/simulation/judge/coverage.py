"""The named events that runs are meant to reach: a search that never gets there proves nothing.

`kvstore simulate` prints how often each was reached. What is not in this list cannot be counted.
"""

from collections import Counter

from proof.simulation.cluster.fault_plan import FAULTS

EVENTS: dict[str, str] = {
    "cluster formed": "all members have pinned each other",
    "pre-vote": "a member asks whether it could lead",
    "pre-vote refused": "by one that hears a leader, or has promised more",
    "campaign": "a member starts phase 1",
    "two candidates at once": "and one of them will be preempted",
    "election": "a member becomes leader",
    "preempted": "a candidate or leader hears of a higher ballot and stops",
    "leader stepped down": "preempted, or out of reach of a quorum",
    "leader lost its quorum": "and steps down by itself",
    "promise in pieces": "phase 1 asked again for more",
    "value recovered": "phase 1 found an accepted value, and proposes it again",
    "gap filled with a no-op": "phase 1 found a later slot accepted, and nothing in this one",
    "catch-up by log": "a laggard fetched chosen entries",
    "catch-up refused": "what a laggard lacks is truncated",
    "catch-up by snapshot": "a laggard installed a snapshot",
    "hand-over": "the leader asked another to lead",
    "relay": "a follower sent a bundle to the leader",
    "relay of a deposed leader's time": "a bundle is sent again under a new leader",
    "second copy of a bundle refused": "by the sessions, at apply",
    "retry answered from memory": "an idempotency key was known",
    "condition refused": "a conditional write found another state",
    "read index of a follower": "a follower asked the leader where to read",
    "read below compaction refused": "and an older revision is gone",
    "old revision read": "a page as of an earlier revision",
    "transaction succeeded": "all its compares held",
    "transaction failed": "and its other branch ran",
    "compaction by a client": "",
    "watch opened": "",
    "watcher cut off by compaction": "and told from where to go on",
    "lease kept alive": "by its holder, through any node",
    "lease expired": "by the leader's clock, through the log",
    "lease ended before it was revoked": "",
    "automatic compaction": "proposed by the leader",
    "idempotency key expired": "and its request was carried out again",
    "answer not kept": "it was too large, and a repeat hears that",
    "command over the budget refused": "where it is applied",
    "command over the budget refused at the door": "before it was replicated",
    "large answer": "of more than a megabyte",
    "large command with unknown outcome": "",
    "user told of a missing right": "",
    "change of users or roles": "",
    "command refused for want of a right": "where it is applied",
    "frame near its bound": "more than half of it",
    "checkpoint": "the state reached the disk",
    "checkpoint failed": "and was tried again",
    "log truncated": "behind a checkpoint",
    "commits shared": "several groups of records in one commit",
    "restart": "a member came back with its disk",
    "crash kept a commit": "that was under way",
    "crash dropped a commit": "that was under way, or a part of it",
    "torn end of a log cut off": "of a group that a crash kept in part",
    "node stopped by its disk": "as it must, when a sync fails",
    "slow disk told": "a commit took longer than an election",
    "disk well again": "",
    "hand-over because of a slow disk": "",
    "clocks differ": "one wall clock was set to another time",
    "clocks agree again": "",
    "several slots wait": "chosen, for a later turn of the loop",
    "snapshot overtakes waiting slots": "it covers slots that were chosen and not yet applied",
    "node begins again as another member": "after it was taken in",
    "leader changes the members by itself": "takes in, promotes, or goes on with a change",
    "change of the members by an operator": "",
    "change of the members refused": "",
    "second change at a time refused": "and told of the first",
    "removed node ends": "it hears so from a member, and disturbs nobody",
    "old disk refused": "one that was lost, replaced, and has come back",
    "members changed: AddMember": "",
    "members changed: BindMember": "one that was added has come",
    "members changed: RemoveMember": "",
    "members changed: PromoteMember": "",
    "members changed: UpdateMember": "",
    "members changed: SetConfiguration": "",
    "members changed: NextStep": "from a configuration between to the wanted one",
    "lost disk replaced": "the member that came back without it is a voter again",
    "configuration between": "with quorums that meet those before and after it",
    "voting under another configuration": "than that of the slot before",
    "member without its disk refused": "by those that know its old incarnation",
    "message lost": "for no other reason than chance",
    "message repeated": "",
    "message overtakes": "one that left earlier",
    "connections reset by a cut": "so that both ends notice at once",
    "messages held while cut": "and delivered late, all at once",
    "outcome unknown to a client": "a write may or may not have been applied",
    "request refused": "certainly not applied",
    "write retried at another node": "under the same idempotency key",
    "flexible quorums": "a run whose quorums are not majorities",
    "clock far off": "a run with a clock rate off by more than a tenth",
    **{f"fault: {kind}": "" for kind in FAULTS},
}


class Coverage:
    """Counts named events of one run, or of many."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def reached(self, name: str) -> None:
        """Raises KeyError if the event is not in the list."""
        EVENTS[name]
        self.counts[name] += 1
