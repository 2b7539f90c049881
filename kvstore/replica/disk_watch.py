"""Whether the disk keeps up: how long the oldest commit and checkpoint take, and what waits for it.

A disk that fails says so, and the node stops. One that hangs says nothing, so its age is watched:

- A leader whose oldest commit is about an election time-out old hands over, and does not stand for
  election before it is done; the others do not need its vote.
- A log that needs a new file on a full disk waits for room (`kvstore.storage.room`): nothing is
  lost, and what is said of a disk that hangs holds for it too.
- What waits for the disk is bounded. At the bound this node proposes nothing, and takes no values
  from a leader: they come again, as after a lost message. Failing schedule otherwise: the disk of
  a follower hangs, a quorum goes on without it, and every value that it accepts waits in memory.
"""

from kvstore.config import Config
from kvstore.event_log import EventLog
from kvstore.replica.commits import Commits
from kvstore.replica.ports import Clock, StandsForElection
from kvstore.state.state_machine import StateMachine

COMMIT_S_MIN = 1.0
"""A commit that takes no longer is not called slow, however short the election time-out is."""
CHECKPOINT_S = 30.0
"""A checkpoint that takes longer is called slow: it may be large."""
GROUPS_MAX = 20_000
"""Groups of records that wait for the log, however small they are."""
OVERLAY_TIMES_MAX = 4
"""At `overlay_bytes_max` a node refuses its own clients; a follower must go on applying, and at
this many times the bound it takes nothing more."""


class DiskWatch:
    """`tick` looks; the rest is what was seen."""

    def __init__(
        self,
        config: Config,
        node: StandsForElection,
        state: StateMachine,
        commits: Commits,
        clock: Clock,
        events: EventLog,
    ) -> None:
        self._commit_s_max = max(config.tick_s * config.election_ticks, COMMIT_S_MIN)
        self._waiting_bytes_max = config.pending_bytes_max
        self._overlay_bytes_max = OVERLAY_TIMES_MAX * config.overlay_bytes_max
        self._node = node
        self._state = state
        self._commits = commits
        self._clock = clock
        self._events = events
        self._election_ticks = config.election_ticks
        self._hand_over_ticks = 0
        self._asked = 0
        self._checkpoint_began_s: float | None = None
        self._failing_since_s: float | None = None
        self._failing_by: Exception | None = None
        self._slow_since_s: float | None = None
        self._full_since_s: float | None = None
        self.trouble = ""
        """What takes too long, "" if nothing does."""

    def checkpoint_begins(self) -> None:
        """One is being written from now on."""
        self._checkpoint_began_s = self._clock.monotonic()

    def checkpoint_ends(self, error: Exception | None) -> None:
        """It is written, or has failed by `error`. Failures are told when they begin and end."""
        self._checkpoint_began_s = None
        now_s = self._clock.monotonic()
        self._failing_by = error
        if error is None:
            if self._failing_since_s is not None:
                seconds = f"{now_s - self._failing_since_s:.1f}"
                self._events.event("checkpoints work again", seconds=seconds)
            self._failing_since_s = None
        elif self._failing_since_s is None:
            self._failing_since_s = now_s
            self._events.event("checkpoint failed", reason=error)

    @property
    def checkpoints_failing_s(self) -> float:
        """For how long each one has failed; 0 if the last one did not."""
        began_s = self._failing_since_s
        return 0.0 if began_s is None else self._clock.monotonic() - began_s

    @property
    def warning(self) -> str:
        """What an operator must mend although the node still serves; "" if there is nothing."""
        if self._failing_since_s is None:
            return ""
        return f"checkpoints fail for {self.checkpoints_failing_s:.0f} s: {self._failing_by}"

    @property
    def commit_age_s(self) -> float:
        """Of the oldest commit of the log that is under way; 0 if none is."""
        return self._commits.age_s

    @property
    def waits_for_room(self) -> str:
        """Why the log cannot go on before the disk has room; "" if it can."""
        return self._commits.waits_for_room

    @property
    def waiting_bytes(self) -> int:
        """Of values that wait for the log."""
        return self._commits.waiting_bytes

    @property
    def checkpoint_age_s(self) -> float:
        """Of the checkpoint that is being written; 0 if none is."""
        began_s = self._checkpoint_began_s
        return 0.0 if began_s is None else self._clock.monotonic() - began_s

    @property
    def full(self) -> bool:
        """Whether as much waits for the disk as may; then no value is proposed or taken."""
        return (
            bool(self._commits.waits_for_room)
            or self._commits.waiting_bytes > self._waiting_bytes_max
            or self._commits.under_way > GROUPS_MAX
            or self._state.unwritten_bytes > self._overlay_bytes_max
        )

    def tick(self) -> None:
        """Look at the ages, tell when slowness begins and ends, and hand over if need be."""
        self.trouble = self._seen()
        self._tell()
        self._node.fit_to_lead = not self.trouble
        if not (self.trouble and self._node.leading):
            self._hand_over_ticks, self._asked = 0, 0
        elif self._hand_over_ticks > 0:
            self._hand_over_ticks -= 1
        else:
            # First the one that is furthest on, then each in turn: it may be slow too.
            peers = self._node.successors
            asked = self._asked if self._asked <= len(peers) else 0
            self._node.hand_over(peers[asked - 1] if asked else None)
            self._asked = (asked + 1) % (len(peers) + 1)
            self._hand_over_ticks = self._election_ticks

    def _seen(self) -> str:
        if reason := self.waits_for_room:
            return f"the disk is full: the log waits for room: {reason}"
        if (age_s := self.commit_age_s) > self._commit_s_max:
            return f"the disk hangs: a commit of the log is under way for {age_s:.1f} s"
        if (age_s := self.checkpoint_age_s) > CHECKPOINT_S:
            return f"the disk hangs: a checkpoint is under way for {age_s:.0f} s"
        if self.full:
            return "the disk does not keep up: as much waits for it as may"
        return ""

    def _tell(self) -> None:
        now_s = self._clock.monotonic()
        if self.trouble and self._slow_since_s is None:
            self._slow_since_s = now_s
            name = "disk full" if self.waits_for_room else "disk slow"
            self._events.event(name, reason=self.trouble)
        elif not self.trouble and self._slow_since_s is not None:
            self._events.event("disk well again", seconds=f"{now_s - self._slow_since_s:.1f}")
            self._slow_since_s = None
        if self.full and self._full_since_s is None:
            self._full_since_s = now_s
            self._events.event("disk queue full", waiting_bytes=self._commits.waiting_bytes)
        elif (
            not self.full
            and self._full_since_s is not None
            and 2 * self._commits.waiting_bytes <= self._waiting_bytes_max
        ):
            self._events.event("disk queue moves again")
            self._full_since_s = None
