"""One member of a simulated cluster: a machine with a disk, and the programs that live on it.

The program is the production one, opened by `open_replica`, and only listened to.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from kvstore.config import Config
from kvstore.errors import StorageError, StorageFailed
from kvstore.event_log import EventLog
from kvstore.peers.refusals import Ending
from kvstore.replica.machine import Machine
from kvstore.replica.open import open_replica
from kvstore.replica.replica import Replica
from kvstore.storage.segment_log import SegmentLog
from paxos.ballot import NodeId, Slot
from paxos.messages import LogEntry
from paxos.node import Node
from paxos.records import Record
from proof.simulation.cluster.listening import MemberProbe
from proof.simulation.cluster.surroundings import Surroundings
from proof.simulation.judge.durable import DurableLog
from proof.simulation.judge.hang_check import HangCheck
from proof.simulation.machine.disk import SimulatedDisk, SimulatedLogWriter
from proof.simulation.machine.files import Names
from proof.simulation.machine.hanging import AgedWriter
from proof.simulation.machine.scheduler import Process
from proof.simulation.tell.describe import value_text
from proof.simulation.tell.trace import Happened, SlotIs

WALL_MS_START = 1_700_000_000_000


class VirtualClock:
    """A program's clocks: monotonic, and a wall clock that is off by `off_ms()`."""

    def __init__(self, process: Process, off_ms: Callable[[], int]) -> None:
        self._process = process
        self._off_ms = off_ms

    def monotonic(self) -> float:
        return self._process.time()

    def wall_ms(self) -> int:
        return WALL_MS_START + self._off_ms() + int(self._process.time() * 1000)


class Events(EventLog):
    """What a program logs goes into the trace."""

    def __init__(self, member: "SimulatedMember") -> None:
        super().__init__(member.id)
        self._member = member

    def event(self, name: str, **fields: object) -> None:
        text = ", ".join(f"{key} {value}" for key, value in fields.items() if key != "seconds")
        self._member.happened(name, text)
        if reached := _LOGGED.get(name):
            self._member.world.reached(reached)
        if name in ("disk slow", "disk well again"):
            self._member.disk_slow = name == "disk slow"
        if name == "link refused" and "incarnation" in text:
            self._member.world.reached("member without its disk refused")
        if name == "changing members":
            self._member.world.reached("leader changes the members by itself")

    def defect(self, error: BaseException) -> None:
        self._member.happened("defect", repr(error))


_LOGGED = {
    "formed": "cluster formed",
    "checkpoint failed": "checkpoint failed",
    "snapshot installed": "catch-up by snapshot",
    "log end cut off": "torn end of a log cut off",
    "disk slow": "slow disk told",
    "disk well again": "disk well again",
    "clocks differ": "clocks differ",
    "clocks agree again": "clocks agree again",
}
HANG_PATIENCE_S = 1.0
RECYCLED_S = 0.2
"""From when a node hears that it was removed until its machine is a spare."""


class SimulatedMember:
    """`id` of the cluster. At most one of its programs runs at a time."""

    def __init__(self, world: Surroundings, id: NodeId) -> None:
        scenario = world.scenario
        self.world = world
        self.id = id
        self.disk = SimulatedDisk(
            world.randomness(f"disk/{id}"),
            scenario.disk_latency_s,
            scenario.conditions.moment_s,
            world.randomness(f"tears/{id}"),
        )
        self.spare = id > scenario.nodes
        """Whether it is there to be taken in, by an operator."""
        self.node_id: NodeId = 0 if self.spare else id
        """Of the node on it, as its disk says; 0 on a spare that nobody has taken in."""
        place = (id - 1) % scenario.nodes
        self.rate = scenario.clock_rates[place]
        self.wall_off_ms = scenario.clock_skews_ms[place]
        """How far the machine's wall clock is off, now."""
        self.disk_slow = False
        """Whether the program has said that its disk is slow, and not yet that it is well."""
        self.starts = 0
        self.lives = 0
        self.process: Process | None = None
        self._machine = Process(world.scheduler, f"machine-{id}")
        self.replica: Replica | None = None
        self.lost = False
        """Whether its disk is lost, and no other node is on it yet."""
        self.disk_lost = False
        """And will not be: the cluster may not replace it."""
        self.lost_as: NodeId = 0
        self._old_disks: list[tuple[NodeId, Names]] = []
        self._new_disk: tuple[NodeId, bool, Names] | None = None
        self._role = ""
        self._start_again = False
        self._failures_before = 0
        self._log: DurableLog | None = None  # of this start: a lost disk has another file
        self._writer: AgedWriter | None = None
        self._hang_check = HangCheck(0, 0)
        founders = {n: (f"node-{n}", 2380) for n in range(1, scenario.nodes + 1)}
        self.config = Config(
            node_id=0 if self.spare else id,
            members={} if self.spare else founders,
            name=f"machine{id}" if self.spare else "",
            listen_peer=(f"node-{id}", 2380),
            data_dir=world.data_dir(id),
            phase1_quorum=scenario.phase1,
            phase2_quorum=scenario.phase2,
            log_tail_slots=scenario.log_tails[place],
            **scenario.settings,
        )

    @property
    def up(self) -> bool:
        return self.process is not None

    @property
    def log_path(self) -> Path:
        return self.config.data_dir / "log"

    def happened(self, name: str, text: str = "") -> None:
        """Into the trace."""
        self.world.trace.add(Happened(self.world.scheduler.now_us, self.id, name, text))

    # -- starts -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start its program, unless it runs; after a clean stop if one is under way."""
        if self.process is not None:
            self._start_again = True
            return
        self._start_again = False
        self.starts += 1
        world = self.world
        world.network.host_up(self.id)
        self._failures_before = self.disk.failures
        self._log = None
        self.disk_slow = False
        self.process = Process(
            world.scheduler,
            f"node-{self.id}/{self.starts}",
            rate=self.rate,
            sockets=world.network,
            blocking=self.disk,
        )
        world.processes.append(self.process)
        self.happened("started", f"life {self.starts}")
        if self.starts > 1:
            world.reached("restart")
        process = self.process
        process.post(0, lambda: process.create_task(self._live(process)))

    async def _live(self, process: Process) -> None:
        """What `kvstore serve` does, without HTTP."""
        while await self._serve(process):
            self.world.reached("node begins again as another member")
        self._ended(silently=False)

    async def _serve(self, process: Process) -> bool:
        """One replica, to its end; whether it is to begin anew."""
        machine = Machine(
            clock=VirtualClock(process, lambda: self.wall_off_ms),
            disk=self.disk,
            randomness=self.world.randomness(f"node/{self.id}/{self.starts}"),
            log_writer=partial(self._log_writer, process),
            probe=self._probe(),
        )
        try:
            replica = await open_replica(self.config, Events(self), machine)
        except Exception as error:
            self.happened("failed", str(error))
            if not self._disk_to_blame or not isinstance(error, StorageError | OSError):
                self._unsound(f"cannot start: {error!r}")
            return False
        self.replica = replica
        if self.spare and not replica.membership.formed:
            # As it would hear from the cluster that it is told to join.
            replica.ask_at({node: f"node-{node}:2380" for node in self.world.machines})
        await replica.wait_failed()
        ending = replica.ending
        self._check_failure(replica.failure, ending)
        self.replica = None
        try:
            await replica.stop()
        except Exception as error:
            self._unsound(f"cannot stop: {error!r}")
        return ending is Ending.AGAIN

    def _removed(self, reason: str) -> None:
        if self.away:
            self.world.reached("old disk refused")
        elif self.node_id in self.world.monitor.members.ids:
            self._unsound(f"takes itself for removed: {reason}")
        else:
            self.world.reached("removed node ends")
            self._machine.post(RECYCLED_S, self._recycle, self.node_id)

    def _recycle(self, node_id: NodeId) -> None:
        """The machine of a member that was removed is used again, as another one."""
        if node_id == self.node_id and not self.away:
            self.become_spare()

    def _unsound(self, text: str) -> None:
        self.world.monitor.violated("sound nodes", f"node {self.id} {text}")

    @property
    def _disk_to_blame(self) -> bool:
        return self.disk.failures > self._failures_before

    def _check_failure(self, reason: str, ending: Ending) -> None:
        self.happened("failed", reason)
        if ending is Ending.AGAIN:
            return
        if ending is Ending.REMOVED:
            self._removed(reason)
        elif self._disk_to_blame:
            self.world.reached("node stopped by its disk")
        else:
            self._unsound(f"stopped: {reason}")

    def _log_writer(
        self, process: Process, store: SegmentLog, failed: Callable[[StorageFailed], None]
    ) -> AgedWriter:
        def stop(error: StorageFailed) -> None:
            failed(error)
            if self.replica is not None and not self.replica.failure:
                self._unsound("goes on past a failed commit")

        writer = SimulatedLogWriter(process, store, stop, self._committed)
        self._writer = AgedWriter(writer, process.time)
        config = self.config
        patience_s = HANG_PATIENCE_S + 3 * config.tick_s + 1000 * self.world.scenario.apply_s
        self._hang_check = HangCheck(config.tick_s * config.election_ticks, patience_s)
        return self._writer

    def kill(self, *, power: bool) -> None:
        """SIGKILL, or the machine loses power: then peers hear nothing, and memory is gone."""
        if self.process is None:
            return
        self.happened("crashed", "power lost" if power else "killed")
        if power:
            self.world.network.host_down(self.id)
        self._ended(silently=power)
        if power:
            self.disk.crash()

    def _ended(self, *, silently: bool) -> None:
        process = self.process
        assert process is not None
        kept, dropped = process.kill()
        if kept:
            self.world.reached("crash kept a commit")
        if dropped:
            self.world.reached("crash dropped a commit")
        self.world.network.process_ended(process, silently)
        self.disk.release_locks()
        self.process = self.replica = None
        self._role = ""

    def stop(self) -> None:
        """A clean stop, as by SIGTERM."""
        process, replica = self.process, self.replica
        if process is None or replica is None or replica.failure:
            return
        self._start_again = False

        async def stop() -> None:
            await replica.stop()
            self.happened("crashed", "stopped cleanly")
            self._ended(silently=False)
            if self._start_again:
                self.start()

        process.post(0, lambda: process.create_task(stop()))

    def lose_disk(self, for_good: bool = False) -> None:
        """The machine comes back with an empty disk; `for_good`: and stays a stranger."""
        self.kill(power=True)
        self._old_disks.append((self.node_id, self.disk.lose()))
        self.world.monitor.on_disk_lost(self.node_id)
        self.lost, self.disk_lost = True, for_good
        self.lost_as, self.node_id = self.node_id, 0
        self._log = None

    @property
    def away(self) -> bool:
        """Whether an old disk is in it, for a while."""
        return self._new_disk is not None

    def bring_back_old_disk(self) -> bool:
        """Start with a disk that it has lost; whether there is one."""
        if self.away or not self._old_disks or self.disk_lost:
            return False
        self.kill(power=True)
        node_id, names = self._old_disks[-1]
        self._new_disk = (self.node_id, self.lost, self.disk.exchange(names))
        self.world.monitor.on_disk_back(node_id)
        self.node_id, self._log = node_id, None
        self.start()
        return True

    def give_new_disk_back(self) -> None:
        """And go on with the disk that it has instead."""
        if self._new_disk is None:
            return
        self.kill(power=True)
        (self.node_id, self.lost, names), self._new_disk = self._new_disk, None
        self.world.monitor.on_disk_lost(self._old_disks[-1][0])
        self._old_disks[-1] = (self._old_disks[-1][0], self.disk.exchange(names))
        self._log = None
        self.start()

    def become_spare(self) -> None:
        """The node on it was removed: the machine gets an empty disk, and another name."""
        self.kill(power=True)
        self._old_disks.append((self.node_id, self.disk.lose()))
        self.spare, self.lost, self.node_id, self._log = True, False, 0, None
        self.lives += 1
        self.config = replace(
            self.config, node_id=0, members={}, name=f"machine{self.id}-{self.lives}"
        )
        self.start()

    # -- looking on -------------------------------------------------------------------------

    def _probe(self) -> MemberProbe:
        return MemberProbe(
            self.world.monitor,
            self.world.reached,
            log=self._durable_log,
            formed=lambda: self.replica is None or self.replica.membership.formed,
            stepped=self._stepped,
            now_applied=self._now_applied,
            disk_slow=lambda: self.disk_slow,
            opened_as=self._opened_as,
        )

    def _opened_as(self, node: NodeId, formed: bool) -> None:
        """The data directory says that it is `node`, of a cluster that has `formed`."""
        if formed or not (self.spare or self.lost):
            self.node_id, self.lost = node, False

    def _durable_log(self) -> DurableLog:
        if self._log is None:
            self._log = DurableLog(self.disk.names.durable, self.log_path)
        return self._log

    def _stepped(self, node: Node) -> None:
        if node.role != self._role:
            self._role = node.role
            self.happened(str(node.role), f"ballot {node.ballot}")
        if self._writer is not None and self.process is not None:
            oldest_s = self._writer.oldest_s
            if oldest_s is None or self.disk_slow:
                self._hang_check.well()
            elif complaint := self._hang_check.look(self.process.time(), oldest_s):
                self._unsound(complaint)

    def _now_applied(self, slot: Slot, value: bytes) -> None:
        if self.process is not None:
            self.process.spend(self.world.scenario.apply_s)
        for is_now in ("chosen", "applied"):
            self._slot_is(slot, is_now, self.world.monitor.chosen_ballot(slot), value)

    def _committed(self, records: list[Record], groups: int) -> None:
        if groups > 1:
            self.world.reached("commits shared")
        log = self._durable_log()
        for record in records:
            self.world.monitor.on_commit(self.node_id, log, record)
            if isinstance(record, LogEntry):
                self._slot_is(record.slot, "accepted", str(record.ballot), record.value)

    def _slot_is(self, slot: Slot, state: str, ballot: str, value: bytes) -> None:
        now_us = self.world.scheduler.now_us
        self.world.trace.add_raw(
            f"{now_us}/{self.id}/{slot}/{state}/{ballot}".encode() + value,
            lambda: SlotIs(now_us, self.id, slot, state, ballot, value_text(value)),
        )
