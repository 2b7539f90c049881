"""A disk that hangs: every sync of one node waits, and the rest of it goes on."""

import asyncio
import time
from collections.abc import AsyncIterator

from proof.processes.faulty_places import FaultyPlaces
from proof.processes.network import NodeNetwork
from proof.processes.waiting import until
from proof.torture.cluster import leader_of, wait_ready_one
from proof.torture.faults.kinds import Group, Target, fault

SAY_S = 3.0
"""A commit counts as hanging after one second; the rest is for elections and a busy machine."""
BACK_S_MAX = 15.0
MEET_S_MAX = 5.0
"""How long to wait for the first sync; only then the fault's time begins."""
LASTS_S = (2.0, 6.0)
POLL_S = 0.05


def needs_grips(_: NodeNetwork, places: FaultyPlaces) -> str:
    """Disks and clocks need what is preloaded."""
    return places.why_no_grips


@fault("hang-disk", "one node's fsync does not return", Group.SURROUNDINGS,
       lasts_s=LASTS_S, unavailable=needs_grips)  # fmt: skip
async def _hang_disk(target: Target) -> AsyncIterator[str]:
    node = await target.victim()
    grip, lives = target.places.grips[node], target.lives(node)
    before = grip.hung
    seen = _Seen(target, node)
    watch = asyncio.create_task(seen.watch(before))
    grip.hang(True)
    try:
        await until(lambda: grip.hung > before, MEET_S_MAX)
        yield f"the disk of node {node} hangs"
        if target.alone and seen.hangs_s >= SAY_S:
            await seen.judge()
    finally:
        grip.hang(False)
        watch.cancel()
    same = target.lives(node) == lives
    target.count("syncs that had to wait", grip.hung - before, judged=same)
    if target.alone and not await wait_ready_one(target.requests, node, BACK_S_MAX):
        target.problems.append(f"node {node} does not serve {BACK_S_MAX:g} s after its disk did")


class _Seen:
    """What a node says of its disk, from the first sync that hangs on."""

    def __init__(self, target: Target, node: int) -> None:
        self._target = target
        self._node = node
        self._began_s: float | None = None
        self._said = False

    @property
    def hangs_s(self) -> float:
        """For how long a sync has been hanging."""
        return 0.0 if self._began_s is None else time.monotonic() - self._began_s

    async def watch(self, before: int) -> None:
        """Until it is cancelled."""
        grip = self._target.places.grips[self._node]
        while grip.hung == before:
            await asyncio.sleep(POLL_S)
        self._began_s = time.monotonic()
        while not self._said:
            reply = await self._target.requests.send(self._node, "GET", "/readyz")
            self._said = reply.status == 503 and b"disk" in reply.body
            await asyncio.sleep(POLL_S)

    async def judge(self) -> None:
        """It has hung for long enough: the node has said so, and does not lead."""
        node, problems = self._node, self._target.problems
        if not self._said:
            problems.append(f"node {node} is ready though its disk hangs for {self.hangs_s:.1f} s")
        if len(self._target.numbers) > 1 and await leader_of(self._target.requests) == node:
            problems.append(f"node {node} leads though its disk hangs for {self.hangs_s:.1f} s")
