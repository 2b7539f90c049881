"""One direction between two hosts of the simulated network, and how it behaves."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from paxos.ballot import NodeId

Pair = tuple[NodeId, NodeId]

MOMENT_S = 50e-6
"""What arrives, and what ends on another thread, does so at a multiple of this, so that several may
fall into one turn of a loop."""


class Conditions(msgspec.Struct, frozen=True):
    """How the network behaves where no fault says otherwise. Delays are one way, in seconds."""

    delay_s: tuple[float, float]
    tail_probability: float
    tail_factor: float
    loss: float
    repeat: float
    overtake: float
    hold_when_cut: bool
    moment_s: float = MOMENT_S


CALM = Conditions((0.0002, 0.001), 0.0, 1.0, 0.0, 0.0, 0.0, False)


@dataclass
class Path:
    """One direction between two hosts. `held` is called when it is whole again after cuts."""

    randomness: random.Random
    cuts: int = 0
    slow: list[float] = field(default_factory=list)
    lossy: list[float] = field(default_factory=list)
    held: list[Callable[[], None]] = field(default_factory=list)

    def draw_delay_s(self, conditions: Conditions) -> float:
        """Of the next packet."""
        low, high = conditions.delay_s
        delay_s = low + (high - low) * self.randomness.random()
        if self.randomness.random() < conditions.tail_probability:
            delay_s *= conditions.tail_factor
        for extra_s in self.slow:
            delay_s += extra_s * self.randomness.random()
        return delay_s

    def loses(self, conditions: Conditions) -> bool:
        """Whether the next frame gets lost."""
        chance = conditions.loss + sum(self.lossy)
        return chance > 0 and self.randomness.random() < chance

    def mend(self) -> None:
        """Undo one cut; with the last one, what was held goes on."""
        self.cuts -= 1
        if self.cuts == 0:
            held, self.held = self.held, []
            for go_on in held:
                go_on()
