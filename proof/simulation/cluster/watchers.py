"""Watchers in the simulation: each follows all changes, whatever happens to the nodes that tell it.

A watcher keeps one stream open at one node. When the stream breaks, or is silent for too long, it
goes on at another node from the next revision. Every change must reach it once, in order and whole,
unless compaction overtakes it; then it is told so, and goes on from there.
"""

import asyncio

from kvstore.errors import KvError, RevisionCompacted
from kvstore.replica.interest import Interest, RevisionEvents
from kvstore.replica.replica import Replica
from kvstore.state.mvcc import KeyEvent
from proof.simulation.cluster.calls import DELAY_S, SimulatedCaller
from proof.simulation.cluster.membership import SimulatedCluster

FIRST, END = b"a", b"z"
"""All keys of all clients are between these."""
CHANGES_MAX = 50

_Told = list[RevisionEvents] | RevisionCompacted | None
"""What comes over a stream: changes, that they are gone, or that the stream ended."""


class SimulatedWatcher(SimulatedCaller):
    """Runs until the end of the world. `seen` is the last revision it was told of."""

    def __init__(self, world: SimulatedCluster, number: int) -> None:
        super().__init__(world, number, 1 + number % world.scenario.nodes, 1.0)
        self.seen = 1
        self._told: asyncio.Queue[_Told] = asyncio.Queue()
        self._stream = 0
        self._arrives_s = 0.0

    def start(self) -> None:
        """Begin to watch from the beginning."""
        self.process.post(0, lambda: self.process.create_task(self._run()))

    async def _run(self) -> None:
        while True:
            self._stream += 1
            self._told = asyncio.Queue()
            stop = self._open(self._stream)
            try:
                while True:
                    async with asyncio.timeout(self.rng.uniform(0.5, 3.0)):
                        told = await self._told.get()
                    if told is None:
                        break
                    self._take(told)
            except TimeoutError:
                pass
            stop()
            self.elsewhere()
            await asyncio.sleep(self.rng.uniform(0.001, 0.1))

    def _take(self, told: list[RevisionEvents] | RevisionCompacted) -> None:
        if isinstance(told, RevisionCompacted):
            if told.compacted_revision <= self.seen:
                self._complain(f"is refused revision {self.seen + 1} as compacted: {told}")
            self.seen = max(self.seen, told.compacted_revision - 1)
            self.world.reached("watcher cut off by compaction")
            return
        model = self.world.monitor.model
        for change in told:
            if change.revision != self.seen + 1:
                self._complain(f"is told of revision {change.revision} after {self.seen}")
            expected = [
                (was.key, was.value, was.revision) for was in model.changes.get(change.revision, [])
            ]
            if [_shape(event) for event in change.events] != expected:
                self._complain(f"is told that {change} happened; it was {expected}")
            self.seen = change.revision

    def _complain(self, text: str) -> None:
        self.world.monitor.violated("every change once", f"watcher {self.number} {text}")

    # -- one stream -------------------------------------------------------------------------

    def _open(self, stream: int) -> "Stop":
        """Ask the node for a stream from the next revision on."""
        stop = Stop()
        self.process.post(self.rng.uniform(*DELAY_S), self._arrive, stream, stop)
        return stop

    def _arrive(self, stream: int, stop: "Stop") -> None:
        member = self.world.members[self.node]
        program, replica = member.process, member.replica
        if program is None or replica is None:
            self._post(stream, None)
            return

        def reset() -> None:
            self._post(stream, None)

        program.on_kill.append(reset)
        self.world.reached("watch opened")

        def begin() -> None:
            stop.task = program.create_task(self._serve(replica, stream))
            if stop.stopped:
                stop.task.cancel()

        stop.program = program
        program.post(0, begin)

    async def _serve(self, replica: Replica, stream: int) -> None:
        """At the node: what `GET /v1/watch` does."""
        try:
            watcher = replica.feed.watch(Interest(FIRST, END), self.seen + 1)
        except RevisionCompacted as error:
            self._post(stream, error)
            return
        except KvError:
            self._post(stream, None)
            return
        try:
            while True:
                changes = await watcher.next(CHANGES_MAX)
                self._post(stream, changes)
                await asyncio.sleep(self.rng.choice((0.0, 0.0, 0.02)))
        except RevisionCompacted as error:
            self._post(stream, error)
        finally:
            watcher.close()

    def _post(self, stream: int, told: _Told) -> None:
        """Over the network, which keeps the order of a stream."""
        now_s = self.world.scheduler.now_s
        self._arrives_s = max(now_s + self.rng.uniform(*DELAY_S), self._arrives_s)
        self.process.post(self._arrives_s - now_s, self._receive, stream, told)

    def _receive(self, stream: int, told: _Told) -> None:
        if stream == self._stream:
            self._told.put_nowait(told)


class Stop:
    """Ends a stream from the watcher's side."""

    def __init__(self) -> None:
        self.stopped = False
        self.task: asyncio.Task[None] | None = None
        self.program: object = None

    def __call__(self) -> None:
        self.stopped = True
        task, program = self.task, self.program
        if task is not None and getattr(program, "alive", False):
            program.post(0, task.cancel)  # type: ignore[attr-defined]


def _shape(event: KeyEvent) -> tuple[bytes, bytes | None, int]:
    item = event.item
    return item.key, None if event.deleted else item.value, item.mod_revision
