"""What the operator is told of links: once when a trouble begins and once when it ends (D14)."""

from dataclasses import dataclass, field

from kvstore.event_log import EventLog
from kvstore.peers.patience import Patience
from paxos.ballot import NodeId

BREAKS_TO_FLAP = 3
"""A link that broke so often within one trouble flaps, however short each break was."""
CAUSES_MAX = 8
CAUSE_CHARS_MAX = 300
REASONS_MAX = 32
REASON_S = 60.0


@dataclass(slots=True)
class PeerTold:
    """The link to one peer, as it is told. `now_s` is the loop's time.

    A trouble begins with a link that is not there, and ends when one has lasted for a while. It is
    told once it has lasted as long as a silence, or once the link broke again and again.
    """

    peer: NodeId
    log: EventLog
    patience: Patience
    began_s: float
    cause: str = ""
    up_s: float | None = None
    met: bool = False
    heard_s: float | None = None
    attempts: int = 0
    breaks: int = 0
    _well: bool = False
    _told: bool = False
    _causes: set[str] = field(default_factory=set)

    def failed(self, cause: str) -> None:
        """An attempt to dial failed."""
        self.attempts += 1
        self.cause = cause[:CAUSE_CHARS_MAX]

    def refused(self, cause: str) -> None:
        """The handshake failed: not a matter of patience, so each new cause is told at once."""
        self.failed(cause)
        if self.cause not in self._causes and len(self._causes) < CAUSES_MAX:
            self._causes.add(self.cause)
            self.log.event("link refused", peer=self.peer, reason=self.cause)

    def ready(self, now_s: float) -> None:
        """A link is there."""
        self.up_s = self.heard_s = now_s
        self.met = True

    def broke(self, now_s: float, cause: str) -> None:
        """It is gone."""
        self.up_s = None
        self.cause = cause[:CAUSE_CHARS_MAX]
        self.breaks += 1
        if self._well:
            self._well = False
            self.began_s, self.breaks, self.attempts = now_s, 1, 0

    def look(self, now_s: float) -> None:
        """Tell what must be told by now."""
        if self._well:
            return
        if self.up_s is not None and now_s - self.up_s >= self.patience.steady_s:
            self._end(now_s)
        elif not self._told and self._lasting(now_s):
            self._told = True
            facts = {"peer": self.peer, "cause": self.cause or "no answer yet"}
            if self.breaks >= BREAKS_TO_FLAP:
                facts["breaks"] = self.breaks
            self.log.event("peer down", **facts)

    def _lasting(self, now_s: float) -> bool:
        late = self.up_s is None and now_s - self.began_s >= self.patience.silence_s
        return late or self.breaks >= BREAKS_TO_FLAP

    def _end(self, now_s: float) -> None:
        assert self.up_s is not None
        if self._told:
            self.log.event(
                "peer up",
                peer=self.peer,
                after_s=f"{self.up_s - self.began_s:.1f}",
                attempts=self.attempts,
                breaks=self.breaks,
            )
        self._well, self._told = True, False
        self.breaks = self.attempts = 0
        self._causes.clear()

    def word(self, now_s: float) -> str:
        """For `status`: "up", or since when it is not, and why."""
        if self.up_s is not None:
            return "up" if not self._told else "up, and it broke lately"
        cause = self.cause or "no answer yet"
        if not self.met:
            return f"never reached: {cause}"
        return f"down for {now_s - self.began_s:.1f} s: {cause}"


class StrangersTold:
    """Who dials here and is sent away: one line for each reason and minute, and a bounded number of
    reasons a minute. The texts may hold what a stranger sent, so they are cut short."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._began_s = 0.0
        self._untold: dict[str, int] = {}

    def told(self, now_s: float, event: str, reason: str, **facts: object) -> None:
        """`reason` ends a link that was not dialled from here."""
        self.look(now_s)
        text = reason[:CAUSE_CHARS_MAX]
        if text in self._untold:
            self._untold[text] += 1
            return
        if len(self._untold) >= REASONS_MAX:
            self._untold["other reasons"] = self._untold.get("other reasons", 0) + 1
            return
        if not self._untold:
            self._began_s = now_s
        self._untold[text] = 0
        self._log.event(event, **facts, reason=text)

    def look(self, now_s: float) -> None:
        """Once the minute is over: how often each was repeated."""
        if self._untold and now_s - self._began_s >= REASON_S:
            for reason, times in self._untold.items():
                if times:
                    self._log.event("link refused again", times=times, reason=reason)
            self._untold.clear()
