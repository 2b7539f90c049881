"""How long the links wait for anything. All of it follows from the election time-out.

A cut that drops packets silently leaves both ends of a connection with a socket that looks fine.
The kernel sends again at 0.2, 0.6, 1.4, 3, 6.2, 12.6 ... seconds, so after a cut of a minute it may
let another minute pass before it tries. A link without progress is therefore given up after a few
election time-outs, and dialled anew all the time: then the next attempt is never far away.
"""

from dataclasses import dataclass

from kvstore.config import Config

SILENCE_TIMEOUTS = 3
"""A link on which nothing was heard for so many election time-outs is given up."""
SILENCE_S_MIN = 0.5
"""But not sooner: a loop that is busy, or a lost packet, must not cost a link."""
PINGS = 6
"""So often something is sent within that time, if there is nothing else to say."""
DIAL_S_MIN = 0.25
PAUSE_S = 0.02
STEADY_SILENCES = 2
"""A link that broke counts as well again once it has lasted for so many silences."""
TWIN_SILENCES = 5
"""A process that a quorum refused for so long, because another one has its identity, ends. A real
restart is refused for one silence at most: then the old process's link is given up."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Durations in seconds."""

    silence_s: float
    """Nothing was heard on a link, or what was sent was not acknowledged: give it up."""
    dial_s: float
    """From a SYN to a connection. The kernel would repeat a lost one after 1, 3, 7 ... s only."""
    pause_s: tuple[float, float]
    """First and longest pause between two attempts to dial."""

    @property
    def ping_s(self) -> float:
        return self.silence_s / PINGS

    @property
    def steady_s(self) -> float:
        return STEADY_SILENCES * self.silence_s

    @property
    def twin_s(self) -> float:
        return TWIN_SILENCES * self.silence_s


def patience(config: Config) -> Patience:
    """As patient as the settings of the elections are."""
    election_s = config.tick_s * config.election_ticks
    dial_s = max(election_s, DIAL_S_MIN)
    return Patience(
        silence_s=max(SILENCE_TIMEOUTS * election_s, SILENCE_S_MIN),
        dial_s=dial_s,
        pause_s=(PAUSE_S, dial_s / 2),
    )
