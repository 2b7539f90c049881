"""The last slots of one node, put together from what its recorder kept."""

from collections.abc import Iterable
from typing import Any

import msgspec

from paxos.ballot import NodeId, Slot
from paxos.messages import Accept, Accepted

LOOKED_AT_MAX = 4_000
"""So many messages are looked at, newest first: a millisecond or two."""
SLOTS_MAX = 60

PROPOSED, ACCEPTED, CHOSEN, APPLIED = "proposed", "accepted", "chosen", "applied"
_RANK = {PROPOSED: 0, ACCEPTED: 1, CHOSEN: 2, APPLIED: 3}
_ACCEPT, _ACCEPTED = Accept.__name__, Accepted.__name__


class SlotNow(msgspec.Struct):
    """What a node knows of one slot. `accepted_by`: the nodes whose acceptance it heard of, itself
    included. `commands` is None until the slot is applied here; `no_op` likewise."""

    slot: Slot
    state: str = PROPOSED
    ballot: str = ""
    accepted_by: list[NodeId] = []
    commands: int | None = None
    no_op: bool | None = None
    bytes: int = 0


def recent_slots(
    node: NodeId, newest_first: Iterable[tuple[Any, ...]], chosen_through: Slot
) -> list[SlotNow]:
    """The last SLOTS_MAX slots that the events tell of, lowest first."""
    found: dict[Slot, SlotNow] = {}
    for looked, event in enumerate(newest_first):
        _, name, what, peer, ballot, slot, number, _ = event
        if looked >= LOOKED_AT_MAX:
            break
        if name == "applied" or name == "proposed" or what in (_ACCEPT, _ACCEPTED):
            one = found.get(slot)
            if one is None:
                one = found[slot] = SlotNow(slot, accepted_by=[])
            _note(one, node, name, what, peer, ballot, number)
    for one in found.values():
        if one.slot <= chosen_through:
            _raise(one, CHOSEN)
        one.accepted_by.sort()
    return [found[slot] for slot in sorted(found)[-SLOTS_MAX:]]


def _note(
    one: SlotNow, node: NodeId, name: str, what: str, peer: NodeId, ballot: Any, number: int
) -> None:
    if name == "applied":
        one.commands, one.no_op = number, what == "no-op"
        _raise(one, APPLIED)
        return
    if not one.ballot:
        one.ballot = str(ballot)
    elif one.ballot != str(ballot):
        return  # an older ballot
    if what == _ACCEPTED:
        by = peer if name == "received" else node
        if by not in one.accepted_by:
            one.accepted_by.append(by)
        _raise(one, ACCEPTED)
    else:
        one.bytes = number


def _raise(one: SlotNow, state: str) -> None:
    if _RANK[state] > _RANK[one.state]:
        one.state = state
