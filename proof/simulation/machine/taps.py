"""Counts what the consensus roles of a running replica go through, without changing it."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from kvstore.peers.frames import PeerMessage, Relay
from kvstore.replica.replica import Replica
from paxos.messages import (
    Fetched,
    HandOver,
    PreVote,
    PreVoteReply,
    Promise,
    ReadIndexReply,
    Truncated,
)

Reached = Callable[[str], None]


def before(owner: Any, name: str, look: Callable[..., None]) -> None:
    """Call `look` with the arguments of `owner.name` before each call of it."""
    call = getattr(owner, name)

    @wraps(call)
    def tapped(*args: Any, **kwargs: Any) -> Any:
        look(*args, **kwargs)
        return call(*args, **kwargs)

    setattr(owner, name, tapped)


def tap_consensus(replica: Replica, reached: Reached) -> None:
    """Count the named events of `judge.coverage` that only the inside of a node shows."""
    node, proposer = replica.node, replica.node.proposer

    def stepping_down() -> None:
        if proposer.leading:
            reached("leader stepped down")
            if node.election._quorum_ticks > node.config.election_ticks:
                reached("leader lost its quorum")

    def nacked(message: Any) -> None:
        if (proposer.leading or proposer.preparing) and message.ballot == proposer.ballot:
            reached("preempted")

    def preparing(sender: int, message: Any) -> None:
        if proposer.preparing and sender != node.id:
            reached("two candidates at once")

    def leading(phase1: Any) -> None:
        reached("election")
        entries, first = phase1.entries, phase1.first_slot
        for slot in range(first, max(entries, default=first - 1) + 1):
            held = entries.get(slot)
            if held is None:
                reached("gap filled with a no-op")
            elif held.value:
                reached("value recovered")

    def fetched(sender: int, message: Fetched) -> None:
        if any(entry.slot > node.chosen_through for entry in message.entries):
            reached("catch-up by log")

    def relayed_again() -> None:
        if replica.writes.sealed:
            reached("relay of a deposed leader's time")

    before(node, "_step_down", stepping_down)
    before(node, "_on_nack", nacked)
    before(node, "_on_prepare", preparing)
    before(node, "_campaign", lambda ballot: reached("campaign"))
    before(node, "_on_fetched", fetched)
    before(proposer, "_lead", leading)
    before(replica.outbox, "leader_changed", relayed_again)
    before(replica.state, "checkpointed", lambda through: reached("checkpoint"))
    before(replica, "truncate", lambda first_slot: reached("log truncated"))
    before(replica.transport, "send", lambda to, message: _sent(message, reached))


def _sent(message: PeerMessage, reached: Reached) -> None:
    match message:
        case PreVote():
            reached("pre-vote")
        case PreVoteReply(_, False, _):
            reached("pre-vote refused")
        case Promise(_, _, _, int()):
            reached("promise in pieces")
        case Truncated():
            reached("catch-up refused")
        case HandOver():
            reached("hand-over")
        case ReadIndexReply():
            reached("read index of a follower")
        case Relay():
            reached("relay")
