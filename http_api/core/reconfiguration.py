"""Changes of the members, from the request to the configuration that governs."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from http_api.core.port import ReplicaPort
from http_api.core.problems import membership_refusal, refusal
from kvstore.commands.members import (
    IssueToken,
    MemberChange,
    MembershipRefusal,
    Reconfigure,
    SetConfiguration,
)
from kvstore.commands.results import MembershipRefused, Reconfigured, Result
from kvstore.errors import KvError, Stopping
from kvstore.state.members_record import Governs, JoinToken

LOOK_S = 0.02
"""How often those look who wait."""
CLOCK_MS = 1000
"""What this node takes for the log's clock may be late by so much."""

Submit = Callable[[Reconfigure, float], "asyncio.Future[Result]"]


class MembersChanged(NamedTuple):
    """What a change came to: the member that it was about (0: none), the configurations that it
    leads over, and whether the last of them governs already."""

    member: int
    steps: tuple[Governs, ...]
    settled: bool


def _rehearsed(store: ReplicaPort, command: Reconfigure) -> tuple[Governs, ...]:
    """Raises what the change would be refused with: also if too few voters that are there now would
    be left to go on, which `force` overrides."""
    steps = store.rehearse(command)
    if isinstance(steps, MembershipRefused):
        raise refused(store, steps)
    change = command.change
    if not (isinstance(change, SetConfiguration) and change.force):
        status = store.status()
        there = {member.id for member in status.members if member.connected}
        for step in steps:
            if len(there.intersection(step.voters)) < max(step.phase1, step.phase2):
                number = 0 if status.configuration is None else status.configuration.number
                raise membership_refusal(MembershipRefused(MembershipRefusal.MINORITY, number))
    return tuple(steps)


def refused(store: ReplicaPort, result: Result) -> KvError:
    """The error for another result than the one wanted, with where a change under way leads."""
    if not isinstance(result, MembershipRefused):
        return refusal(result)
    configuration = store.status().configuration
    under_way = "" if configuration is None else configuration.under_way
    return membership_refusal(result, under_way)


async def rehearse(
    store: ReplicaPort, change: MemberChange, expected: int, timeout_s: float
) -> MembersChanged:
    """What `change` would lead over, as of a read barrier; nothing is done.

    Raises the refusal, or Unavailable.
    """
    await store.barrier(timeout_s)
    steps = _rehearsed(store, store.reconfiguration(change, expected))
    return MembersChanged(0, steps, settled=False)


async def reconfigure(
    store: ReplicaPort, submit: Submit, change: MemberChange, expected: int, timeout_s: float
) -> MembersChanged:
    """Make `change`, and wait until what it leads to governs, or the time is up.

    Raises the refusal, Unavailable or OutcomeUnknown.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    await store.barrier(timeout_s)
    command = store.reconfiguration(change, expected)
    steps = _rehearsed(store, command)
    await store.make_way(command, _left(deadline_s))
    result = await submit(command, _left(deadline_s))
    if not isinstance(result, Reconfigured):
        raise refused(store, result)
    try:
        settled = await store.members_settled(_left(deadline_s))
        await _until_kept(store, result.number, deadline_s)
    except Stopping:
        settled = False  # this node is no member any more; the change was chosen
    return MembersChanged(result.member, steps, settled)


async def _until_kept(store: ReplicaPort, number: int, deadline_s: float) -> None:
    """Links, and the status, follow the members only once the log is durable that far."""
    now_s = asyncio.get_running_loop().time
    while (roster := store.roster) is not None and roster.number < number and now_s() < deadline_s:
        await asyncio.sleep(LOOK_S)
        store.check_running()


async def until_it_votes(store: ReplicaPort, member: int, timeout_s: float) -> bool:
    """Wait until `member` votes and no change is under way; whether that came in time. Raises
    Stopping."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    while True:
        members = store.state.members
        if member in members.voters and members.record.target is None and not members.pending:
            return True
        if members.find(member) is None or loop.time() >= deadline_s:
            return False
        await asyncio.sleep(LOOK_S)


async def issue_token(
    store: ReplicaPort, submit: Submit, token: bytes, ttl_s: int, uses: int, timeout_s: float
) -> JoinToken:
    """Let whoever shows a token with the hash `token` join. Raises like `reconfigure`.

    A node that was away knows the log's clock only once it has applied something new. If it is
    later than it seemed, the token's end is set anew.
    """
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    await store.barrier(timeout_s)
    while True:
        assumed_ms = store.status().clock_ms
        change = IssueToken(token, assumed_ms + ttl_s * 1000, uses)
        result = await submit(store.reconfiguration(change), _left(deadline_s))
        if not isinstance(result, Reconfigured):
            raise refused(store, result)
        if store.state.clock_ms - assumed_ms <= CLOCK_MS:
            return JoinToken(token, change.expires_ms, uses)


def _left(deadline_s: float) -> float:
    return max(deadline_s - asyncio.get_running_loop().time(), 0.001)
