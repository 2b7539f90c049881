"""The nemesis: makes the faults of a scenario happen, and undoes them all at the end.

Each fault is a pair of deeds, one when it begins and one when it ends. Faults overlap freely: cuts
add up, and what one fault took down another may bring back.
"""

from collections.abc import Callable, Iterable

from paxos.ballot import NodeId
from proof.simulation.cluster.fault_plan import LEADER, Fault
from proof.simulation.cluster.member import SimulatedMember
from proof.simulation.cluster.membership import SimulatedCluster
from proof.simulation.machine.paths import Pair
from proof.simulation.machine.scheduler import Process
from proof.simulation.tell.trace import FaultBegan, FaultEnded

Undo = Callable[[], None]

SLOW_LINK_S = 0.2
SLOW_DISK_S = 0.3
LOSS = 0.9
DYING_S = 0.2
DYING_LOSS = 0.8
FLAPS = 6
LOOK_S = 0.002
_YEAR_MS = 365 * 86_400_000
WALL_STEPS_MS = (-10 * _YEAR_MS, -86_400_000, -30_000, -900, 900, 30_000, 86_400_000, 10 * _YEAR_MS)
TAKEN_BACK = 0.7
"""This share of the steps is taken back."""
RESETS = 0.5
"""This share of the cuts resets the connections, as a firewall does; the others drop silently."""


class Nemesis:
    """Runs in a program of its own, which no fault touches."""

    def __init__(self, world: SimulatedCluster) -> None:
        self.world = world
        self.injected = 0
        self._process = Process(world.scheduler, "nemesis")
        self._under_way: dict[int, Undo] = {}

    def start(self) -> None:
        """Schedule every fault of the scenario."""
        for number, fault in enumerate(self.world.scenario.faults, 1):
            self._process.post(fault.at_s, self._begin, number, fault)

    def _begin(self, number: int, fault: Fault) -> None:
        nodes = self._resolve(fault)
        deed = getattr(self, "_" + fault.kind.replace("-", "_"))
        cuts_before = set(self._cut_pairs())
        undo: Undo | None = deed(nodes, fault)
        if undo is None:
            return
        self.injected += 1
        self.world.reached(f"fault: {fault.kind}")
        cut = tuple(pair for pair in self._cut_pairs() if pair not in cuts_before)
        if cut and fault.amount * 10 % 1 < RESETS:
            self.world.reached("connections reset by a cut")
            self.world.network.reset(cut)
        now_us = self.world.scheduler.now_us
        text = f"{fault.kind} of {', '.join(map(str, nodes)) or 'all'}"
        self.world.trace.add(FaultBegan(now_us, number, fault.kind, text, nodes, cut))
        self._under_way[number] = undo
        self._process.post(fault.for_s, self._end, number)

    def _end(self, number: int) -> None:
        undo = self._under_way.pop(number, None)
        if undo is not None:
            undo()
            self.world.trace.add(FaultEnded(self.world.scheduler.now_us, number))

    def heal(self) -> None:
        """End every fault, and bring back every member."""
        for number in sorted(self._under_way):
            self._end(number)
        for member in self.world.members.values():
            member.give_new_disk_back()
            member.disk.fails = member.disk.full = False
            member.disk.hang.end()
            member.start()

    def _resolve(self, fault: Fault) -> tuple[NodeId, ...]:
        """Who is meant. If the leader is, and nobody leads, anybody."""
        if LEADER not in fault.nodes:
            return fault.nodes
        anybody = 1 + int(fault.amount * self.world.scenario.nodes)
        return (self.world.leader() or anybody,)

    def _members(self, nodes: Iterable[NodeId]) -> "list[SimulatedMember]":
        return [self.world.members[node] for node in nodes]

    # -- programs and machines --------------------------------------------------------------

    def _kill(self, nodes: tuple[NodeId, ...], fault: Fault, power: bool = False) -> Undo | None:
        victims = [member for member in self._members(nodes) if member.up]
        for member in victims:
            member.kill(power=power)

        def undo() -> None:
            for member in victims:
                member.start()

        return undo if victims else None

    def _power(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo | None:
        return self._kill(nodes, fault, power=True)

    _kill_all = _kill
    _power_all = _power

    def _dying(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo | None:
        """Most of what it sends is lost, and a little later its power is."""
        victims = [member for member in self._members(nodes) if member.up]
        network, process = self.world.network, self._process
        pairs = [pair for pair in self._pairs() if pair[0] in nodes]
        for pair in pairs:
            network.lossy(pair, DYING_LOSS)

        def die() -> None:
            for member in victims:
                member.kill(power=True)
            for pair in pairs:
                network.lossless(pair, DYING_LOSS)
            process.post(fault.for_s, rise)

        def rise() -> None:
            for member in victims:
                member.start()

        process.post(DYING_S * fault.amount, die)
        return lambda: None

    def _pause(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo | None:
        paused: list[tuple[SimulatedMember, Process]] = []
        for member in self._members(nodes):
            if member.process is not None and not member.process.frozen:
                member.process.freeze()
                member.happened("paused")
                paused.append((member, member.process))

        def undo() -> None:
            for member, process in paused:
                if process.alive:
                    process.thaw()
                    member.happened("resumed")

        return undo if paused else None

    def _restart(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo | None:
        victims = [member for member in self._members(nodes) if member.up]
        for member in victims:
            member.stop()

        def undo() -> None:
            for member in victims:
                member.start()

        return undo if victims else None

    def _hand_over(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo | None:
        replica = self.world.members[nodes[0]].replica
        if replica is None or replica.begin_hand_over() is None:
            return None
        return lambda: None

    # -- network ----------------------------------------------------------------------------

    def _cut_pairs(self) -> list[Pair]:
        return [pair for pair in self._pairs() if self.world.network.path(pair).cuts]

    def _pairs(self) -> list[Pair]:
        members = list(self.world.members)
        return [(a, b) for a in members for b in members if a != b]

    def _cut(self, pairs: Iterable[Pair]) -> Undo:
        network, cut = self.world.network, list(pairs)
        for pair in cut:
            network.cut(pair)

        def undo() -> None:
            for pair in cut:
                network.mend(pair)

        return undo

    def _isolate(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        return self._cut(p for p in self._pairs() if (p[0] in nodes) != (p[1] in nodes))

    def _split(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        return self._isolate(nodes, fault)

    def _one_way(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        """Nothing comes from them, or nothing reaches them."""
        side = 0 if fault.amount < 0.5 else 1
        return self._cut(p for p in self._pairs() if p[side] in nodes and p[1 - side] not in nodes)

    def _bridge(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        """Two groups, and one node that reaches both."""
        bridge = next(node for node in self.world.members if node not in nodes)
        return self._cut(
            p for p in self._pairs() if bridge not in p and (p[0] in nodes) != (p[1] in nodes)
        )

    def _chain(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        """Each reaches its two neighbours only."""
        place = {node: i for i, node in enumerate(nodes)}
        far = len(self.world.members)  # spares reach nobody
        return self._cut(
            p for p in self._pairs() if abs(place.get(p[0], -far) - place.get(p[1], 2 * far)) > 1
        )

    def _only_by_one(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        """All but one other lose sight of it."""
        victim = nodes[0]
        others = [node for node in self.world.members if node != victim]
        friend = others[int(fault.amount * len(others))]
        return self._cut(p for p in self._pairs() if victim in p and friend not in p)

    def _flap(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        """Cut and mended, again and again."""
        pairs = [p for p in self._pairs() if (p[0] in nodes) != (p[1] in nodes)]
        ends = [self._cut(pairs)]

        over = False

        def toggle() -> None:
            if ends:
                ends.pop()()
            elif not over:
                ends.append(self._cut(pairs))

        for n in range(1, FLAPS):
            self._process.post(fault.for_s * n / FLAPS, toggle)

        def undo() -> None:
            nonlocal over
            over = True
            while ends:
                ends.pop()()

        return undo

    def _depose(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        """It is cut off until another leads, and then reaches all but its successor: nothing but
        the others' answers tells it that it is deposed."""
        old = nodes[0]
        over: list[bool] = []
        ends = [self._cut(p for p in self._pairs() if old in p)]

        def look() -> None:
            new = self.world.leader()
            if over:
                return
            if new is None or new == old:
                self._process.post(LOOK_S, look)
                return
            ends.append(self._cut([(old, new), (new, old)]))
            ends.pop(0)()

        def undo() -> None:
            over.append(True)
            while ends:
                ends.pop()()

        self._process.post(LOOK_S, look)
        return undo

    def _half_open(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        """All connections that it has are dead, and neither end is told; new ones work."""
        network = self.world.network
        network.forget_streams([p for p in self._pairs() if p[0] in nodes or p[1] in nodes])
        return lambda: None

    def _slow_links(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        network, delay_s = self.world.network, SLOW_LINK_S * fault.amount
        pairs = [p for p in self._pairs() if p[0] in nodes or p[1] in nodes]
        for pair in pairs:
            network.slow(pair, delay_s)

        def undo() -> None:
            for pair in pairs:
                network.fast(pair, delay_s)

        return undo

    def _lossy_links(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        network, loss = self.world.network, LOSS * fault.amount
        pairs = [p for p in self._pairs() if p[0] in nodes or p[1] in nodes]
        for pair in pairs:
            network.lossy(pair, loss)

        def undo() -> None:
            for pair in pairs:
                network.lossless(pair, loss)

        return undo

    def _laggard(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        """It is cut off, and needs a snapshot; while that is on its way, and its disk slow to take
        it, another leads, who may still have the log."""
        mend = self._isolate(nodes, fault)
        hangs = [member.disk.hang for member in self._members(nodes)]

        def undo() -> None:
            mend()
            for hang in hangs:
                hang.begin()
                self._process.post(0.1 + 0.6 * fault.amount, hang.end)
            self._process.post(0.3 * fault.amount, change_leader)

        def change_leader() -> None:
            leader = self.world.leader()
            replica = self.world.members[leader].replica if leader is not None else None
            if replica is not None:
                replica.begin_hand_over()

        return undo

    # -- disks ------------------------------------------------------------------------------

    def _slow_disk(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        disks = [member.disk for member in self._members(nodes)]
        for disk in disks:
            disk.slow_s += SLOW_DISK_S * fault.amount

        def undo() -> None:
            for disk in disks:
                disk.slow_s -= SLOW_DISK_S * fault.amount

        return undo

    def _failing_disk(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        """Every write fails; the node must stop, and comes back with a good disk."""
        members = self._members(nodes)
        for member in members:
            member.disk.fails = True

        def undo() -> None:
            for member in members:
                member.disk.fails = False
                member.start()

        return undo

    def _full_disk(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        members = self._members(nodes)
        for member in members:
            member.disk.full = True

        def undo() -> None:
            for member in members:
                member.disk.full = False
                member.start()

        return undo

    def _hung_disk(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        """What is asked of it returns late; never, if the node ends before."""
        hangs = [member.disk.hang for member in self._members(nodes)]
        for hang in hangs:
            hang.begin()

        def undo() -> None:
            for hang in hangs:
                hang.end()

        return undo

    # -- clocks -----------------------------------------------------------------------------

    def _wall_step(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo:
        """The wall clock is set, to a wrong time, and back; at times it stays wrong."""
        step_ms = WALL_STEPS_MS[int(fault.amount * len(WALL_STEPS_MS))]
        members = self._members(nodes)
        for member in members:
            member.wall_off_ms += step_ms
            member.happened("wall clock set", f"by {step_ms / 1000:+.0f} s")

        def undo() -> None:
            for member in members if fault.amount * 100 % 1 < TAKEN_BACK else ():
                member.wall_off_ms -= step_ms

        return undo

    def _lost_disk(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo | None:
        """Once in a run, and only if the others can do without it: a cluster that has not formed
        never could, and of two voters both are needed. Else the machine only loses power."""
        world = self.world
        member = world.members[nodes[0]]
        if not world.formed or not world.may_lose_for_good(member):
            return self._power(nodes, fault)
        member.lose_disk(for_good=True)
        return member.start

    def _wipe(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo | None:
        """It comes back with an empty disk, and must be taken in again without a command. Only
        while the others have all that was acknowledged, or no protocol could help."""
        member = self.world.members[nodes[0]]
        if not self.world.may_lose(member):
            return None
        member.lose_disk()
        return member.start

    def _old_disk(self, nodes: tuple[NodeId, ...], fault: Fault) -> Undo | None:
        """The disk that it had lost comes back for a while: nobody may take it for a member."""
        member = self.world.members[nodes[0]]
        if not member.bring_back_old_disk():
            return None

        def undo() -> None:
            member.give_new_disk_back()

        return undo
