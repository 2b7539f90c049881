"""The stage of a lesson: virtual time, links with fixed delays, and the trace of what happens.

A lesson is a script: it says a sentence, lets something happen, and claims what the sentence said.
The stage carries messages between the real classes and records everything. Nothing is random and
nothing reads a clock, so a lesson is the same, byte for byte, each time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush

from paxos.ballot import Ballot, NodeId, Slot
from paxos.messages import AnyMessage
from proof.simulation.tell.describe import ballot_of, describe, name_of, slot_of, value_text
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
    Trace,
)

COMMIT_US = 500
"""What a durable write takes: the time between a request's arrival and its answer."""

TICK_US = 1_000
"""A tick of the nodes' clocks. A real node's is 25 ms; here it suits links of a few ms."""

LIMIT_MS = 400.0
"""How long a script waits for what it expects."""


class LessonError(RuntimeError):
    """A sentence of a lesson does not hold: the lesson is wrong, or the code that it shows."""


@dataclass(slots=True)
class Flight:
    """A message on its way."""

    id: int
    sender: NodeId
    to: NodeId
    message: AnyMessage
    sent_us: int
    arrives_us: int


def delay_us(sender: NodeId, to: NodeId) -> int:
    """How long the link takes, 2 to 5 ms among five nodes: no two links alike, so that arrows that
    leave together do not arrive together."""
    return 1_300 + 600 * abs(sender - to) + 90 * to + 40 * sender


class Stage(ABC):
    """Time, links and the trace. Subclasses bring the actors: what `_arrive` and `_tick` do."""

    def __init__(self, nodes: Iterable[NodeId], clients: Iterable[int] = ()) -> None:
        self.nodes = tuple(sorted(nodes))
        self.clients = tuple(clients)
        self.now_us = 0
        self.delay_us = delay_us
        self.trace = Trace()
        self.down: set[NodeId] = set()
        self._ids = 0
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._timer_number = 0
        self._flights: dict[int, Flight] = {}
        self._faults: dict[NodeId, int] = {}
        self._next_tick_us = TICK_US
        self.ticking = True

    # -- the script ------------------------------------------------------------------------

    def say(self, text: str, node: NodeId | None = None) -> None:
        """A sentence of the lesson, about what comes next or what has just been seen."""
        self.trace.add(Note(self.now_us, text, node))

    def claim(self, holds: bool, what: str) -> None:
        """Raises LessonError unless `what` holds."""
        if not holds:
            raise LessonError(f"at {self.now_us / 1000:.1f} ms it does not hold that {what}")

    def run(self, ms: float) -> None:
        """Let virtual time pass."""
        end_us = self.now_us + round(ms * 1000)
        while self._step(end_us):
            pass
        self.now_us = end_us

    def run_until(self, condition: Callable[[], bool], what: str) -> None:
        """Let time pass until `what` comes true. Raises LessonError if it does not."""
        end_us = self.now_us + round(LIMIT_MS * 1000)
        while not condition():
            if not self._step(end_us):
                raise LessonError(f"in {LIMIT_MS:.0f} ms it did not come to this: {what}")

    def settle(self) -> None:
        """Stop the nodes' clocks and let everything under way arrive."""
        self.ticking = False
        end_us = self.now_us + round(LIMIT_MS * 1000)
        while self._step(end_us):
            pass
        self.claim(not self._timers, "the messages come to an end")

    def in_flight(
        self, kind: type, sender: NodeId | None = None, to: NodeId | None = None
    ) -> list[Flight]:
        """The messages of a kind that are on their way; None is anyone."""
        return [
            flight
            for flight in self._flights.values()
            if isinstance(flight.message, kind)
            and sender in (None, flight.sender)
            and to in (None, flight.to)
        ]

    def lose(self, kind: type, sender: NodeId | None = None, to: NodeId | None = None) -> None:
        """These messages, now on their way, will not arrive. Raises LessonError if there are none.

        They vanish half-way, or at once if they are further.
        """
        lost = self.in_flight(kind, sender, to)
        route = f"from {sender or 'anyone'} to {to or 'anyone'}"
        self.claim(bool(lost), f"there is {kind.__name__} on its way {route}")
        for flight in lost:
            del self._flights[flight.id]
            half_us = (flight.sent_us + flight.arrives_us) // 2
            self._later(max(half_us - self.now_us, 0), partial(self._vanish, flight.id))

    def ask(self, client: int, node: NodeId, text: str, key: str = "") -> int:
        """A client's request; its id."""
        self._ids += 1
        self.trace.add(Asked(self.now_us, self._ids, client, node, text, key))
        return self._ids

    def answer(self, request: int, outcome: str, text: str) -> None:
        self.trace.add(Answered(self.now_us, request, outcome, text))

    def recording(
        self, name: str, title: str, summary: str, facts: Iterable[tuple[str, str]] = ()
    ) -> Recording:
        """The finished lesson: everything under way arrives first."""
        self.settle()
        return Recording(
            title=title,
            summary=summary,
            command=f"kvstore simulate --lesson {name}",
            nodes=self.nodes,
            clients=self.clients,
            facts=(*facts, ("trace digest", self.trace.digest)),
            events=tuple(self.trace.events),
        )

    # -- for the actors --------------------------------------------------------------------

    @abstractmethod
    def _arrive(self, sender: NodeId, to: NodeId, message: AnyMessage) -> None:
        """`to` receives `message`."""

    @abstractmethod
    def _tick(self) -> None:
        """A tick of everybody's clock."""

    def _transmit(self, sender: NodeId, to: NodeId, message: AnyMessage) -> None:
        self._ids += 1
        arrives_us = self.now_us + self.delay_us(sender, to)
        flight = Flight(self._ids, sender, to, message, self.now_us, arrives_us)
        self._flights[flight.id] = flight
        self.trace.add(
            Sent(
                self.now_us,
                flight.id,
                sender,
                to,
                name_of(message),
                describe(message),
                slot_of(message),
                ballot_of(message),
            )
        )
        self._later(arrives_us - self.now_us, partial(self._land, flight.id))

    def _vanish(self, flight_id: int) -> None:
        self.trace.add(Lost(self.now_us, flight_id, "lost on the way"))

    def _land(self, flight_id: int) -> None:
        flight = self._flights.pop(flight_id, None)
        if flight is None:
            return
        if flight.to in self.down:
            self.trace.add(Lost(self.now_us, flight.id, f"node {flight.to} is down"))
            return
        self.trace.add(Delivered(self.now_us, flight.id))
        self._arrive(flight.sender, flight.to, flight.message)

    def _happened(self, node: NodeId, name: str, text: str = "") -> None:
        self.trace.add(Happened(self.now_us, node, name, text))

    def _slot_is(self, node: NodeId, slot: Slot, state: str, ballot: Ballot, value: bytes) -> None:
        text = value_text(value) if value else ""
        self.trace.add(SlotIs(self.now_us, node, slot, state, str(ballot), text))

    def _went_down(self, node: NodeId) -> None:
        """Shade the lane of a crashed node."""
        self._ids += 1
        self._faults[node] = self._ids
        self.down.add(node)
        self._happened(node, "crashed")
        self.trace.add(FaultBegan(self.now_us, self._ids, "crash", f"node {node} is down", (node,)))

    def _came_back(self, node: NodeId) -> None:
        self.down.discard(node)
        self.trace.add(FaultEnded(self.now_us, self._faults.pop(node)))
        self._happened(node, "started", "again, with what its disk kept")

    def _later(self, after_us: int, call: Callable[[], None]) -> None:
        self._timer_number += 1
        heappush(self._timers, (self.now_us + after_us, self._timer_number, call))

    def _step(self, end_us: int) -> bool:
        """The next thing that happens until `end_us`; whether there is one."""
        timer_us = self._timers[0][0] if self._timers else end_us + 1
        if self.ticking and self._next_tick_us < timer_us and self._next_tick_us <= end_us:
            self.now_us = self._next_tick_us
            self._next_tick_us += TICK_US
            self._tick()
            return True
        if timer_us > end_us:
            return False
        self.now_us, _, call = heappop(self._timers)
        call()
        return True
