"""How each direction of each link between two nodes behaves just now.

Faults write it; the proxies and the switch read it for every piece of data that passes.
"""

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

Pair = tuple[int, int]
"""The sender and the receiver of one direction."""


class Cut(StrEnum):
    """What becomes of data on a link that is cut.

    On a packet network all three are the same: packets vanish, and TCP sends them again.
    """

    NO = ""
    HOLD = "hold"
    """It arrives after the cut, as what TCP sends again does."""
    DROP = "drop"
    """It is swallowed, and the connection breaks when the cut ends."""
    RESET = "reset"
    """Connections are reset, and new ones too."""


@dataclass(frozen=True, slots=True)
class LinkState:
    """The behaviour of one direction. `jitter_s` is the largest extra delay, drawn evenly."""

    cut: Cut = Cut.NO
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    """Share of what is sent, from 0 to 1."""

    def draw_delay_s(self, rng: random.Random) -> float:
        """The delay of the next piece."""
        return self.delay_s + (rng.uniform(0, self.jitter_s) if self.jitter_s else 0.0)


WHOLE = LinkState()
"""A link without a fault."""


class Links:
    """The behaviour of all links. Belongs to one event loop."""

    def __init__(self) -> None:
        self._links: dict[Pair, LinkState] = {}
        self._changed = asyncio.Event()

    def __getitem__(self, pair: Pair) -> LinkState:
        """How `pair` behaves."""
        return self._links.get(pair, WHOLE)

    def set(self, pairs: Iterable[Pair], link: LinkState) -> None:
        """Let these directions behave so from now on."""
        self._links.update(dict.fromkeys(pairs, link))
        self._announce()

    def heal(self) -> None:
        """Make all links whole."""
        self._links.clear()
        self._announce()

    async def changed(self) -> None:
        """Wait for the next change of any link."""
        await self._changed.wait()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def both_ways(some: Iterable[int], others: Iterable[int]) -> list[Pair]:
    """Both directions of every link between the two groups."""
    others = list(others)
    there = {(a, b) for a in some for b in others if a != b}
    return sorted(there | {(b, a) for a, b in there})
