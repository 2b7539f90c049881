"""The code that the lessons show: what a node does when a message comes, as it runs here."""

import inspect
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TypedDict

ANSWERS = {
    "PreVote": "paxos.node:Node._on_pre_vote",
    "PreVoteReply": "paxos.election:Election.on_pre_vote_reply",
    "Prepare": "paxos.acceptor:Acceptor.on_prepare",
    "Promise": "paxos.proposer:Proposer.on_promise",
    "Accept": "paxos.acceptor:Acceptor.on_accept",
    "Accepted": "paxos.node:Node._on_accepted",
    "Nack": "paxos.node:Node._on_nack",
    "Heartbeat": "paxos.node:Node._on_leader",
    "Chosen": "paxos.node:Node._on_leader",
    "Fetch": "paxos.acceptor:Acceptor.on_fetch",
    "Fetched": "paxos.learner:Learner.on_fetched",
}
"""Message to the method that answers it."""


class Excerpt(TypedDict):
    """`file` is relative to where the packages are; `line` is that of the first line of `text`."""

    file: str
    line: int
    text: str


def excerpt(place: str) -> Excerpt | None:
    """The method `module:Class.method`; None if this build has none, or no source."""
    name, _, path = place.partition(":")
    module = import_module(name)
    found: object = module
    for part in path.split("."):
        found = getattr(found, part, None)
    if not inspect.isfunction(found):
        return None
    try:
        lines, first = inspect.getsourcelines(found)
    except OSError:
        return None
    file = Path(*name.split(".")).with_suffix(".py")
    return {"file": file.as_posix(), "line": first, "text": inspect.cleandoc("\n" + "".join(lines))}


@cache
def answering_code() -> dict[str, Excerpt]:
    """By the message's name."""
    found = {name: excerpt(place) for name, place in ANSWERS.items()}
    return {name: one for name, one in found.items() if one is not None}
