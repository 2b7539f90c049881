"""Recordings to draw: a chaotic run from a seed, a lesson, and one whose every text is hostile."""

import random

from proof.simulation.tell.trace import (
    Answered,
    Asked,
    Delivered,
    FaultBegan,
    FaultEnded,
    Happened,
    Lost,
    Note,
    Recording,
    Sent,
    SlotIs,
    TraceEvent,
)

HOSTILE = "</script><script>window.bad=1</script><!-- <b onmouseover='bad=2'>\"'\u2028 ☃ {{script}}"


class Chaos:
    """Draws a run of five nodes from one seed: elections, faults, clients, slots; no real Paxos,
    but the same events in the same proportions."""

    NODES = (1, 2, 3, 4, 5)
    CLIENTS = (1, 2, 3)
    STEP_US = 4_000

    def __init__(self, seed: int, seconds: float) -> None:
        self.random = random.Random(seed)
        self.end_us = int(seconds * 1e6)
        self.events: list[TraceEvent] = []
        self.ids = self.round = self.slot = 0
        self.leader: int | None = None
        self.down: set[int] = set()
        self.plans: list[tuple[int, int, float]] = []
        self.active = (0, 0)
        self.side: dict[int, int] = dict.fromkeys(self.NODES, 0)

    def recording(self) -> Recording:
        """The whole run, with one violation, at 7 s."""
        self.faults()
        for at in range(0, self.end_us, self.STEP_US):
            self.step(at)
        self.events.append(Happened(7_000_000, 3, "violation", "slot 320 has two values"))
        self.events.sort(key=lambda event: event.at_us)
        return Recording(
            title="Seed 8814",
            summary="Five nodes, three clients, 20 virtual seconds of faults; one violation.",
            command="kvstore simulate --seed 8814 --trace seed-8814.html",
            nodes=self.NODES,
            clients=self.CLIENTS,
            facts=(
                ("Nodes", "5"),
                ("Quorums", "3 and 3"),
                ("Faults", "partitions, crashes, pauses"),
                ("Slots chosen", f"{self.slot}"),
                ("Digest", "5b0c7c0a"),
            ),
            events=tuple(self.events),
        )

    def new_id(self) -> int:
        self.ids += 1
        return self.ids

    def faults(self) -> None:
        """Plan them, one after another: (begins, ends, what kind)."""
        at = 900_000
        while at < self.end_us - 2_000_000:
            length = self.random.randint(300_000, 1_600_000)
            self.plans.append((at, at + length, self.random.random()))
            at += length + self.random.randint(100_000, 900_000)

    def step(self, at: int) -> None:
        for begin, end, kind in self.plans:
            if begin <= at < begin + self.STEP_US:
                self.begin_fault(at, end, kind)
            if end <= at < end + self.STEP_US:
                self.end_fault(at)
        if self.leader is None and self.random.random() < 0.02:
            self.elect(at)
        if self.leader is not None:
            if at % 52_000 == 0:
                self.broadcast(at, "Heartbeat", "HeartbeatReply", None)
            if self.random.random() < 0.21:
                self.choose(at)

    def begin_fault(self, at: int, end: int, kind: float) -> None:
        number, victim = self.new_id(), self.random.choice(self.NODES)
        self.active = (number, victim)
        if kind < 0.4:
            minority = {victim, victim % 5 + 1}
            cut = tuple(
                (a, b) for a in self.NODES for b in self.NODES if (a in minority) != (b in minority)
            )
            self.side = {node: int(node in minority) for node in self.NODES}
            text = f"{sorted(minority)} | {sorted(set(self.NODES) - minority)}"
            nodes = tuple(sorted(minority))
            self.events.append(FaultBegan(at, number, "partition", text, nodes, cut))
            self.events.append(Happened(at + 400, victim, "link_lost", "to the others"))
        else:
            name, happened = ("crash", "crashed") if kind < 0.75 else ("pause", "paused")
            self.down.add(victim)
            self.events.append(FaultBegan(at, number, name, f"node {victim}", (victim,)))
            self.events.append(Happened(at, victim, happened, "kill -9" if kind < 0.75 else ""))
        if self.leader in self.down or (self.leader and self.side[self.leader]):
            if self.leader not in self.down:
                self.events.append(
                    Happened(at + 2, self.leader or 1, "follower", "lost its quorum")
                )
            self.leader = None

    def end_fault(self, at: int) -> None:
        number, victim = self.active
        self.events.append(FaultEnded(at, number))
        self.side = dict.fromkeys(self.NODES, 0)
        if victim in self.down:
            crashed = any(
                isinstance(e, Happened) and e.node == victim and e.name == "crashed"
                for e in self.events[-4000:]
            )
            self.down.remove(victim)
            self.events.append(Happened(at, victim, "started" if crashed else "resumed"))

    def elect(self, at: int) -> None:
        able = [node for node in self.NODES if node not in self.down and not self.side[node]]
        self.round += 1
        candidate = self.random.choice(able)
        self.events.append(Happened(at, candidate, "candidate"))
        self.leader = candidate
        self.broadcast(at, "PreVote", "PreVoteReply", None)
        self.broadcast(at + 9_000, "Prepare", "Promise", None)
        self.events.append(Happened(at + 18_000, candidate, "leader", f"ballot {self.ballot()}"))

    def ballot(self) -> str:
        return f"{self.round}.{self.leader}"

    def broadcast(self, at: int, name: str, reply: str, slot: int | None) -> None:
        leader, ballot = self.leader or 1, self.ballot()
        for node in self.NODES:
            if node == leader:
                continue
            text = f"{ballot}" + (f" slot {slot} = put k{slot}" if slot else "")
            arrived = self.send(at, leader, node, name, text, slot)
            if arrived is not None:
                self.send(arrived + 300, node, leader, reply, ballot, slot)
                if name == "Accept" and slot:
                    self.slot_is(arrived + 250, node, slot, "accepted")
                    self.slot_is(arrived + 2_600, node, slot, "chosen")
                    self.slot_is(arrived + 2_900, node, slot, "applied")

    def slot_is(self, at: int, node: int, slot: int, state: str) -> None:
        value = "" if slot % 40 == 0 else f"put k{slot}"
        self.events.append(SlotIs(at, node, slot, state, self.ballot(), value))

    def send(self, at: int, a: int, b: int, name: str, text: str, slot: int | None) -> int | None:
        number = self.new_id()
        self.events.append(Sent(at, number, a, b, name, text, slot, self.ballot()))
        arrives = at + self.random.randint(600, 3_500)
        if self.side[a] != self.side[b]:
            self.events.append(Lost(at, number, "the link is cut"))
        elif b in self.down:
            self.events.append(Lost(arrives, number, "the node is down"))
        elif self.random.random() < 0.01:
            self.events.append(Lost(arrives, number, "dropped"))
        else:
            self.events.append(Delivered(arrives, number))
            if self.random.random() < 0.005:
                self.events.append(Delivered(arrives + 2_000, number))
            return arrives
        return None

    def choose(self, at: int) -> None:
        self.slot += 1
        client, number = self.random.choice(self.CLIENTS), self.new_id()
        leader = self.leader or 1
        self.events.append(Asked(at - 500, number, client, leader, f"put k{self.slot}", "k"))
        self.slot_is(at + 300, leader, self.slot, "accepted")
        self.broadcast(at, "Accept", "Accepted", self.slot)
        self.slot_is(at + 5_000, leader, self.slot, "chosen")
        self.slot_is(at + 5_200, leader, self.slot, "applied")
        outcome = self.random.choices(("ok", "refused", "unknown"), (95, 2, 3))[0]
        self.events.append(Answered(at + 6_000, number, outcome, f"revision {self.slot}"))


def lesson() -> Recording:
    """A leader crashes after one follower accepted: a lesson of three nodes and six steps."""
    events: list[TraceEvent] = [
        Note(0, "Node 1 leads with ballot 1.1: a quorum promised it every slot.", 1),
        Happened(0, 1, "leader", "ballot 1.1"),
        Note(1_000, "It asks the others to accept a in slot 2. Only node 2 hears it.", 2),
        Asked(1_000, 1, 1, 1, "put a = 7", "a"),
        Sent(1_500, 1, 1, 2, "Accept", "1.1 2=a, chosen through 1", 2, "1.1"),
        Sent(1_500, 2, 1, 3, "Accept", "1.1 2=a, chosen through 1", 2, "1.1"),
        SlotIs(1_800, 1, 2, "accepted", "1.1", "a"),
        Delivered(2_500, 1),
        Lost(2_700, 2, "dropped by the network"),
        SlotIs(2_900, 2, 2, "accepted", "1.1", "a"),
        Sent(3_000, 3, 2, 1, "Accepted", "1.1 slot 2", 2, "1.1"),
        Note(3_400, "Node 1 crashes before it hears that. Nobody knows whether a is chosen.", 1),
        Happened(3_400, 1, "crashed", "power loss"),
        Lost(4_000, 3, "the node is down"),
        Answered(303_000, 1, "unknown", "no answer in time"),
        Note(304_000, "After a time-out node 3, which never saw a, prepares ballot 2.3.", 3),
        Happened(304_000, 3, "candidate"),
        Sent(304_000, 4, 3, 2, "Prepare", "2.3 from slot 1", None, "2.3"),
        Sent(304_000, 5, 3, 1, "Prepare", "2.3 from slot 1", None, "2.3"),
        Lost(305_000, 5, "the node is down"),
        Delivered(305_100, 4),
        Note(305_400, "Node 2's promise reports a. Node 3 must propose it again.", 2),
        Sent(305_400, 6, 2, 3, "Promise", "2.3 from slot 1: 2=a in 1.1", None, "2.3"),
        Delivered(306_400, 6),
        Happened(306_400, 3, "leader", "ballot 2.3"),
        Sent(306_600, 7, 3, 2, "Accept", "2.3 2=a", 2, "2.3"),
        SlotIs(306_900, 3, 2, "accepted", "2.3", "a"),
        Delivered(307_600, 7),
        Note(308_000, "Two of three accept: a is chosen, as it may have been all along.", 3),
        SlotIs(308_000, 2, 2, "accepted", "2.3", "a"),
        Sent(308_000, 8, 2, 3, "Accepted", "2.3 slot 2", 2, "2.3"),
        Delivered(309_000, 8),
        SlotIs(309_000, 3, 2, "chosen", "2.3", "a"),
        SlotIs(309_100, 3, 2, "applied", "2.3", "a"),
    ]
    return Recording(
        title="Leader crash",
        summary="The leader crashes after one follower accepted: the value must survive.",
        command="kvstore simulate --lesson leader-crash",
        nodes=(1, 2, 3),
        clients=(1,),
        facts=(("Nodes", "3"), ("Quorums", "2 and 2")),
        events=tuple(events),
    )


def hostile() -> Recording:
    """Every text of a recording is markup that would be heard of if it were taken for such."""
    events: tuple[TraceEvent, ...] = (
        Happened(0, 1, "leader", HOSTILE),
        Happened(5, 2, HOSTILE, HOSTILE),
        FaultBegan(10, 90, HOSTILE, HOSTILE, (1,), ((1, 2),)),
        Asked(20, 91, 1, 1, HOSTILE, HOSTILE),
        Sent(30, 1, 1, 2, HOSTILE, HOSTILE, 1, HOSTILE),
        SlotIs(40, 1, 1, "accepted", HOSTILE, HOSTILE),
        Lost(900, 1, HOSTILE),
        Answered(910, 91, HOSTILE, HOSTILE),
        Note(1_000, HOSTILE, 1),
    )
    facts = ((HOSTILE, HOSTILE),)
    return Recording(HOSTILE, HOSTILE, HOSTILE, (1, 2), (1,), facts, events)
