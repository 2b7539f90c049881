"""One simulated cluster and everything around it, from one scenario to one outcome.

Two phases. In the first, clients run their plans while the nemesis does its worst. Then everything
is healed, and within a bounded time all requests must succeed and all members must meet in one
state.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from paxos.ballot import NodeId
from proof.histories.linearizability import check
from proof.simulation.cluster.bulk import SimulatedBulk
from proof.simulation.cluster.clients import SimulatedClient
from proof.simulation.cluster.holders import SimulatedHolder
from proof.simulation.cluster.membership import SimulatedCluster
from proof.simulation.cluster.nemesis import DYING_S, Nemesis
from proof.simulation.cluster.operators import SimulatedOperator
from proof.simulation.cluster.people import SimulatedAdministrator, SimulatedUser
from proof.simulation.cluster.plans import ClientPlan
from proof.simulation.cluster.repeaters import SimulatedRepeater
from proof.simulation.cluster.scenario import Scenario
from proof.simulation.cluster.watchers import SimulatedWatcher
from proof.simulation.judge.invariants import Violation
from proof.simulation.tell.trace import Note, TraceEvent

HEALING_TIMEOUTS = 60
"""How many longest election time-outs a healed cluster may take until all is well."""
CLIENTS_S_MAX = 120.0
"""Clients whose plans are not through by then are a fault of the simulation."""


@dataclass(frozen=True)
class RunOutcome:
    """What one run came to. `events` is empty unless the trace was kept."""

    scenario: Scenario
    violations: tuple[Violation, ...]
    reached: Counter[str]
    digest: str
    virtual_s: float
    messages: int
    answered: int
    unanswered: int
    events: list[TraceEvent]

    @property
    def ok(self) -> bool:
        return not self.violations


class World(SimulatedCluster):
    """All of it. Used once."""

    def __init__(self, scenario: Scenario, keep_trace: bool = False) -> None:
        super().__init__(scenario, keep_trace)
        self.nemesis = Nemesis(self)
        self._looked_s = -1.0
        self.clients = [
            *(SimulatedClient(self, plan) for plan in scenario.clients),
            *(SimulatedHolder(self, plan) for plan in scenario.holders),
            *(SimulatedBulk(self, plan) for plan in scenario.bulk),
            *(SimulatedRepeater(self, plan) for plan in scenario.repeaters),
            *(SimulatedAdministrator(self, plan) for plan in scenario.administrators),
            *(SimulatedUser(self, plan) for plan in scenario.users),
            *(SimulatedOperator(self, plan) for plan in scenario.operators),
        ]
        self.watchers = [SimulatedWatcher(self, 500 + n) for n in range(scenario.watchers)]

    # -- the run ----------------------------------------------------------------------------

    def run(self) -> RunOutcome:
        """From the start to the verdict."""
        collecting = gc.isenabled()
        gc.collect()  # the world before this one: of itself the collector would leave gigabytes
        gc.disable()  # what is collected when must not be a matter of memory
        try:
            self._run()
        finally:
            for process in self.processes:
                process.abandon()
            if collecting:
                gc.enable()
        return RunOutcome(
            self.scenario,
            tuple(self.monitor.violations),
            self.coverage.counts,
            self.trace.digest,
            self.scheduler.now_s,
            self.network.messages,
            self.answered,
            self.asked - self.answered,
            self.trace.events,
        )

    def _run(self) -> None:
        scenario = self.scenario
        if (scenario.phase1, scenario.phase2) != (scenario.nodes // 2 + 1,) * 2:
            self.reached("flexible quorums")
        if any(abs(rate - 1) > 0.1 for rate in scenario.clock_rates):
            self.reached("clock far off")
        for member in self.members.values():
            member.start()
        self.nemesis.start()
        for client in self.clients:
            client.start()
        for watcher in self.watchers:
            watcher.start()
        self._until(scenario.chaos_ends_s + DYING_S, lambda: False)
        self._heal()
        if not self._until(
            self.scheduler.now_s + CLIENTS_S_MAX, lambda: all(c.done for c in self.clients)
        ):
            self._fail_unless_failed("liveness", "the clients' plans do not come to an end")
        self._converge()
        self._judge()

    def _until(self, until_s: float, done: Callable[[], bool]) -> bool:
        """Run until then, or until `done()`, or until something is violated."""
        violations, defects = self.monitor.violations, self.scheduler.defects
        came = self.scheduler.run(until_s, lambda: bool(violations or defects) or done())
        if defects and not violations:
            self.monitor.violated("sound nodes", defects[0])
        return came and not violations

    def _heal(self) -> None:
        self.trace.add(Note(self.scheduler.now_us, "Everything is healed."))
        self.network.calm()
        self.nemesis.heal()

    def _fail_unless_failed(self, invariant: str, text: str) -> None:
        if not self.monitor.violations:
            self.monitor.violated(invariant, text)

    def _converge(self) -> None:
        """Every healthy member answers reads and writes, and all of them meet in one state."""
        if self.monitor.violations:
            return
        settings = self.scenario.settings
        patience_s = HEALING_TIMEOUTS * settings["election_ticks"] * settings["tick_s"]
        deadline_s = self.scheduler.now_s + 10 + patience_s / min(self.scenario.clock_rates)
        if not self._until(deadline_s, self._settled):
            members = self.monitor.members
            text = f"healed: members {members.members}, {members.newest}, at {self._places()}"
            self._fail_unless_failed("liveness", text)
            return
        last = _LastClient(self)
        last.start()
        if not self._until(deadline_s, lambda: last.done):
            self._fail_unless_failed("liveness", f"healed, and {last.doing} does not succeed")
        elif not self._until(deadline_s, self._met):
            seen = [watcher.seen for watcher in self.watchers]
            leases = sorted(self.monitor.model.leases)
            text = f"healed: members at {self._places()}, watchers at {seen}, leases {leases}"
            self._fail_unless_failed("liveness", text)

    def _places(self) -> dict[NodeId, int]:
        """How far every member is whose disk may come back."""
        found = {}
        for node in sorted(self.monitor.members.ids - self.lost_for_good):
            member = self.holder(node)
            replica = None if member is None else member.replica
            away = replica is None or replica.failure or not replica.membership.formed
            found[node] = -1 if away or replica is None else replica.state.applied_through
        return found

    def _lingering(self) -> list[NodeId]:
        """Who was removed, and has not heard so."""
        ids = self.monitor.members.ids
        return [
            member.node_id
            for member in self.members.values()
            if (replica := member.replica) is not None
            and replica.membership.formed
            and not replica.failure
            and member.node_id not in ids
        ]

    def _settled(self) -> bool:
        """Whether no change of the members is under way, and each is there."""
        if self.scheduler.now_s == self._looked_s:
            return False
        self._looked_s = self.scheduler.now_s
        return self.monitor.members.quiet and min(self._places().values(), default=-1) >= 0

    def _met(self) -> bool:
        """Whether all have applied everything, every watcher knows, and every lease has ended,
        which nobody keeps alive any more; digests are compared slot by slot anyway. It is enough
        to look once at each moment."""
        if self.scheduler.now_s == self._looked_s:
            return False
        self._looked_s = self.scheduler.now_s
        revision = self.monitor.model.revision
        through = max(self.monitor.applied, default=0)
        return (
            set(self._places().values()) == {through}
            and not self._lingering()
            and all(watcher.seen == revision for watcher in self.watchers)
            and not self.monitor.model.leases
        )

    def _judge(self) -> None:
        monitor = self.monitor
        if monitor.violations:
            return
        verdict = check(self.history.operations)
        if not verdict.linearizable:
            key = verdict.failures[0].key if verdict.failures else None
            monitor.violated("no stale read", verdict.describe(), key=key)
        if monitor.model.revision == 1:
            monitor.violated("a run that shows nothing", "no write was chosen")
        if self.scenario.faults and not self.nemesis.injected:
            monitor.violated("a run that shows nothing", "no fault was injected")


class _LastClient(SimulatedClient):
    """After healing: writes and reads every key at every healthy member until each succeeds."""

    def __init__(self, world: World) -> None:
        plan = ClientPlan(1000, 0, 0.0, (0, 0), (1,), 1, 0, 5.0)
        super().__init__(world, plan)
        self.doing = "nothing"

    async def _run(self) -> None:
        world = self.world
        gone = world.lost_for_good
        nodes = [number for number in world.places if world.members[number].node_id not in gone]
        for node in nodes:
            for key in (f"k{n}" for n in range(world.scenario.keys)):
                self.doing = f"writing {key} at node {node}"
                await self._insist(partial(self._put_at, node, key))
                self.doing = f"reading {key} at node {node}"
                await self._insist(partial(self.get, key, node))
        self.done = True

    async def _put_at(self, node: NodeId, key: str) -> bool:
        self.node = node
        return await self.put(key)

    @staticmethod
    async def _insist(attempt: Callable[[], Awaitable[bool]]) -> None:
        while not await attempt():
            await asyncio.sleep(0.1)


def run(scenario: Scenario, keep_trace: bool = False) -> RunOutcome:
    """Run one scenario to its outcome."""
    return World(scenario, keep_trace).run()
