"""A log that nobody reads, and one whose reader is gone: nodes must not notice."""

import asyncio
import re
import time
from collections.abc import AsyncIterator

from proof.torture.faults.kinds import Group, Target, fault

COME_S_MAX = 5.0
POLL_S = 0.05
_STAMP = "%Y-%m-%dT%H:%M:%S"
_DROPPED = re.compile(rb"^kvstore_log_lines_dropped(?:_total)? ([0-9.e+]+)$", re.MULTILINE)


@fault("full-log", "nobody reads the nodes' logs, and the pipes are full",
       Group.SURROUNDINGS, nodes_min=2)  # fmt: skip
async def _full_log(target: Target) -> AsyncIterator[str]:
    pipes = target.places.pipes
    for pipe in pipes.values():
        pipe.fill()
    sizes = _sizes(target)
    began = time.strftime(_STAMP, time.gmtime())
    try:
        await _new_leader(target)
        yield "nobody reads the nodes' logs"
    finally:
        ended = time.strftime(_STAMP, time.gmtime())
        for pipe in pipes.values():
            pipe.read()
    deadline = time.monotonic() + COME_S_MAX
    while not (lines := _waited(target, sizes, began, ended)) and time.monotonic() < deadline:
        await asyncio.sleep(POLL_S)
    target.count("lines that waited for a reader", lines, judged=target.alone)


@fault("closed-log", "the reader of the nodes' logs is gone, and comes back",
       Group.SURROUNDINGS, nodes_min=2)  # fmt: skip
async def _closed_log(target: Target) -> AsyncIterator[str]:
    before = await _dropped(target)
    for pipe in target.places.pipes.values():
        pipe.leave()
    try:
        await _new_leader(target)
        yield "the readers of the nodes' logs are gone"
        # A node that was started meanwhile counts from nothing.
        after = await _dropped(target)
    finally:
        for pipe in target.places.pipes.values():
            pipe.read()
    lines = sum(max(0, after.get(node, 0) - count) for node, count in before.items())
    target.count("lines that nobody could take", lines, judged=target.alone)


async def _new_leader(target: Target) -> None:
    """Something that all nodes log."""
    leader = await target.leader()
    target_ = "/v1/cluster/handover"
    await target.requests.send(leader, "POST", target_, body=b"{}", timeout_s=3.0)


def _sizes(target: Target) -> dict[int, int]:
    files = {number: node.log_file for number, node in target.cluster.nodes.items()}
    return {n: file.stat().st_size if file.exists() else 0 for n, file in files.items()}


def _waited(target: Target, sizes: dict[int, int], began: str, ended: str) -> int:
    """Lines beyond `sizes` of the nodes' logs that were made between the two times."""
    found = 0
    for number, size in sizes.items():
        text = target.cluster.nodes[number].log_file.read_bytes()[size:].decode(errors="replace")
        found += sum(1 for line in text.splitlines() if began <= line[: len(began)] < ended)
    return found


async def _dropped(target: Target) -> dict[int, int]:
    """How many lines each node has dropped, of those that answer."""
    found = {}
    for number in target.numbers:
        reply = await target.requests.send(number, "GET", "/metrics", timeout_s=2.0)
        if match := _DROPPED.search(reply.body):
            found[number] = int(float(match[1]))
    return found
