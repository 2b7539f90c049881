"""What surrounds the members of a simulated cluster: time, chance, network, judge and trace."""

import random
from collections.abc import Callable
from pathlib import Path

from kvstore.config import Config
from kvstore.peers.frames import decode_message
from paxos.ballot import NodeId
from paxos.configuration import DISTANCE
from proof.histories.history import CallHistory
from proof.simulation.cluster.scenario import Scenario
from proof.simulation.judge.coverage import Coverage
from proof.simulation.judge.invariants import Monitor
from proof.simulation.judge.lease_book import LeaseBook
from proof.simulation.judge.log_clock_check import LogClockCheck
from proof.simulation.judge.members_model import MembersModel
from proof.simulation.machine.network import SimulatedNetwork
from proof.simulation.machine.paths import Pair
from proof.simulation.machine.scheduler import Process, Scheduler
from proof.simulation.tell.describe import ballot_of, describe, name_of, slot_of
from proof.simulation.tell.trace import Sent, Trace


class Surroundings:
    """Of one run. Used once."""

    def __init__(self, scenario: Scenario, keep_trace: bool = False) -> None:
        self.scenario = scenario
        self.randomness = seeded(scenario.seed)
        self.scheduler = Scheduler()
        self.trace = Trace(keep=keep_trace)
        self.coverage = Coverage()
        self.reached = self.coverage.reached
        leases = LeaseBook(max(scenario.clock_rates), lambda: self.scheduler.now_s)
        log_clock = LogClockCheck(scenario.clock_rates, lambda: self.scheduler.spent_s)
        distance = scenario.settings.get("distance", DISTANCE)
        members = MembersModel(scenario.nodes, scenario.phase1, scenario.phase2, distance)
        close_slots = scenario.settings.get("close_slots", Config.close_slots)
        self.monitor = Monitor(members, close_slots, leases, log_clock, self.reached)
        self.network = SimulatedNetwork(scenario.conditions, self.randomness, self.trace)
        self.network.on_frame = self._on_frame
        self.network.reached = self.reached
        self._frame_bytes_max = scenario.settings.get("frame_bytes_max", 1 << 30)
        self.history = CallHistory()
        self.processes: list[Process] = []
        self.asked = self.answered = 0
        self.changes_asked = 0
        """By operators, of the members; those whose outcome nobody knows count for ever."""

    @property
    def machines(self) -> range:
        """Their numbers: those of the founders first, then the spare ones."""
        return range(1, self.scenario.nodes + self.scenario.spares + 1)

    @property
    def idempotency_ttl_ms(self) -> int:
        return int(self.scenario.settings["idempotency_ttl_s"] * 1000)

    @staticmethod
    def data_dir(node: NodeId) -> Path:
        return Path(f"/node-{node}")

    def _on_frame(self, number: int, pair: Pair, frame: bytes) -> None:
        now_us = self.scheduler.now_us
        if 2 * len(frame) > self._frame_bytes_max:
            self.reached("frame near its bound")
            if len(frame) - 4 > self._frame_bytes_max:
                text = f"node {pair[0]} sends a frame of {len(frame)} bytes"
                self.monitor.violated("sound nodes", text)

        def make() -> Sent:
            message = decode_message(frame[4:])
            return Sent(
                now_us,
                number,
                *pair,
                name_of(message),
                describe(message),
                slot_of(message),
                ballot_of(message),
            )

        self.trace.add_raw(b"%d/%d/%d/%d" % (now_us, number, *pair) + frame, make)


def seeded(seed: int) -> Callable[[str], random.Random]:
    """Independent streams of randomness, by name: using more of one does not change another."""
    return lambda name: random.Random(f"{seed}/{name}")
