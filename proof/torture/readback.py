"""After the load: is everything that was acknowledged there, at every node alike?"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from proof.histories.history import CallOutcome, Get, Returned
from proof.torture.cluster import IDEMPOTENCY_TTL_S, statuses
from proof.torture.record import Acknowledged, RunRecord
from proof.torture.requests import Requests, key_target

READERS = 16
ATTEMPTS_MAX = 5
ATTEMPT_S = 3.0
PAUSE_S = 0.1
CONVERGE_S_MAX = 30.0
FORGOTTEN_S = 2.5 * IDEMPOTENCY_TTL_S
"""The log's clock does not move while no node is up, so answers may be kept for longer."""

T = TypeVar("T")


@dataclass
class ReadBack:
    """What was found. `lost` and `unread` are in words, one for each write."""

    checked: int = 0
    lost: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """Reads without an answer, and revisions that were compacted: nothing is known of them."""
    problems: list[str] = field(default_factory=list)
    revision: int = 0
    """The store's revision in the end; 0 if the nodes did not agree."""


async def read_all(requests: Requests, record: RunRecord, clients: int) -> None:
    """Read every key at every node, as operations of the history by clients of their own."""

    async def read(work: tuple[int, str]) -> None:
        node, key = work
        for _ in range(ATTEMPTS_MAX):
            called_s = record.now_s()
            reply = await requests.send(node, "GET", key_target(key), timeout_s=ATTEMPT_S)
            if reply.unexpected:
                record.complain(f"last get of {key}: answered {reply.status} {reply.body[:200]!r}")
            value = None if reply.absent else reply.body.decode(errors="replace")
            answer = Returned(value=value) if reply.outcome is CallOutcome.OK else None
            record.finished("last get", reply.outcome, clients + node, key, Get(), called_s, answer)
            if reply.outcome is CallOutcome.OK:
                if value is not None:
                    record.seen(key, value, reply.revision)
                return
            await asyncio.sleep(PAUSE_S)
        record.complain(f"{key} cannot be read at node {node} after the load")

    await _each([(n, k) for k in record.keys for n in requests.endpoints], read)


async def check_acknowledged(requests: Requests, record: RunRecord, found: ReadBack) -> None:
    """Read every acknowledged write at the revision it was given, at one of the nodes.

    So a write that was overwritten since is looked for as well.
    """
    nodes = sorted(requests.endpoints)

    async def check(work: tuple[int, Acknowledged]) -> None:
        index, write = work
        node = nodes[index % len(nodes)]
        target = key_target(write.key, revision=write.revision, consistency="serializable")
        found.checked += 1
        for _ in range(ATTEMPTS_MAX):
            reply = await requests.send(node, "GET", target, timeout_s=ATTEMPT_S)
            if reply.status in (200, 404, 410):
                break
            await asyncio.sleep(PAUSE_S)
        wrote = "removal" if write.value is None else repr(write.value)
        text = f"{write.key}: {wrote} acknowledged at revision {write.revision}; node {node} has "
        if reply.status == 200:
            value = reply.body.decode(errors="replace")
            if (value, reply.revision) != (write.value, write.revision):
                found.lost.append(f"{text}{value!r} of revision {reply.revision} there")
        elif reply.absent:
            if write.value is not None:
                found.lost.append(f"{text}nothing there")
        else:
            found.unread.append(f"{text}answered {reply.status} {reply.body[:100]!r}")

    await _each(list(enumerate(record.acknowledged)), check)


async def check_convergence(requests: Requests, found: ReadBack) -> list[str]:
    """Wait until all nodes have applied the same slots, and compare their digests; what is wrong.

    Sets `found.revision` if nothing is.
    """
    deadline = time.monotonic() + CONVERGE_S_MAX
    while True:
        views = await statuses(requests)
        if all(views.values()) and len({v["applied_through"] for v in views.values()}) == 1:
            break
        if time.monotonic() > deadline:
            return [f"the nodes did not converge: {_applied(views)}"]
        await asyncio.sleep(PAUSE_S)
    digests = {n: v["node"]["digest"] for n, v in views.items()}
    revisions = {v["revision"] for v in views.values()}
    if len(set(digests.values())) > 1 or len(revisions) > 1:
        return [f"states differ after the same slot: {digests}, {revisions}"]
    found.revision = revisions.pop()
    return []


def check_count(record: RunRecord, found: ReadBack, before: int) -> None:
    """The store's revision counts the writes: no acknowledged one is missing, none came twice.

    Only for a store that nobody else writes to. `before`: its revision when the run began.
    """
    if not found.revision:
        return
    applied = found.revision - before
    acknowledged = len(record.acknowledged) + record.leases.sure
    perhaps = record.unknown_writes + record.leases.perhaps
    if not acknowledged <= applied <= acknowledged + perhaps:
        found.problems.append(
            f"{applied} writes were applied; {acknowledged} were acknowledged and "
            f"{perhaps} more may have been applied"
        )


async def check_expiry(requests: Requests, record: RunRecord) -> None:
    """An answer that was kept for far longer than it must be is forgotten: the log's clock moves,
    whatever the wall clocks showed. Comes last, because it writes."""
    old = record.first_put
    if old is None or record.now_s() - old.at_s < FORGOTTEN_S:
        return
    for node in requests.endpoints:
        reply = await requests.send(
            node, "PUT", key_target(old.key), body=old.value.encode(),
            headers={"Idempotency-Key": old.once}, timeout_s=ATTEMPT_S,
        )  # fmt: skip
        if reply.status == 200:
            record.counts["expired write", CallOutcome.OK] += 1
            if reply.document().get("revision") == old.revision:
                record.complain(
                    f"the answer to {old.once} is kept after {record.now_s() - old.at_s:.0f} s: "
                    "the log's clock stands or lags"
                )
            return
    record.complain(f"{old.once} could not be sent again after the load")


def _applied(views: dict[int, dict[str, Any]]) -> str:
    return ", ".join(f"node {n} at {v.get('applied_through', '?')}" for n, v in views.items())


async def _each(work: Iterable[T], do: Callable[[T], Awaitable[None]]) -> None:
    """All of `work`, some at a time."""
    left = iter(work)

    async def worker() -> None:
        for item in left:
            await do(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(READERS):
            group.create_task(worker())
