"""What a run records: the history, and what is cheap to judge about it on the way."""

import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from proof.histories.history import Call, CallHistory, CallOutcome, CallRecord, Returned

COMPLAINTS_MAX = 100


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A write that a node acknowledged: afterwards `key` holds `value` at `revision`."""

    key: str
    value: str | None
    """None: the key was removed."""
    revision: int


@dataclass
class LeaseCounts:
    """What clients with leases did. `sure` and `perhaps` count revisions of the store."""

    granted: int = 0
    kept: int = 0
    looked: int = 0
    """Reads of a key that had to be there."""
    ended: int = 0
    sure: int = 0
    """Writes and removals that happened."""
    perhaps: int = 0
    """Those that may have happened besides."""


@dataclass(frozen=True, slots=True)
class OldWrite:
    """A put with an Idempotency-Key that was acknowledged at `at_s`, and its answer."""

    key: str
    value: str
    once: str
    revision: int
    at_s: float


@dataclass
class RunRecord:
    """Written by the clients of one run, on one event loop. Times are seconds since `began`."""

    began: float = field(default_factory=time.monotonic)
    history: CallHistory = field(default_factory=CallHistory)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind of operation and outcome."""
    acknowledged: list[Acknowledged] = field(default_factory=list)
    acknowledged_at_s: list[float] = field(default_factory=list)
    """When writes were acknowledged, in order."""
    unknown_writes: int = 0
    leases: LeaseCounts = field(default_factory=LeaseCounts)
    first_put: OldWrite | None = None
    complaints: list[str] = field(default_factory=list)
    """What no correct store does."""
    complaints_count: int = 0
    keys: dict[str, None] = field(default_factory=dict)
    """All keys that were used."""
    _key_of: dict[str, str] = field(default_factory=dict)
    _revision_of: dict[str, int] = field(default_factory=dict)
    _owner_of: dict[int, str] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        """How many have ended, whatever their outcome."""
        return sum(self.counts.values())

    def now_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began

    def served_s(self, since_s: float) -> int:
        """Seconds since then in which a write was acknowledged."""
        times = self.acknowledged_at_s
        return len({int(time_s) for time_s in times[bisect_left(times, since_s) :]})

    def complain(self, text: str) -> None:
        """Note a violation."""
        self.complaints_count += 1
        if len(self.complaints) < COMPLAINTS_MAX:
            self.complaints.append(text)

    def attempt(self, key: str, value: str) -> None:
        """`value`, never used before, is about to be written to `key`."""
        self._key_of[value] = key

    def finished(
        self,
        kind: str,
        outcome: CallOutcome,
        client: int,
        key: str,
        call: Call,
        called_s: float,
        answer: Returned | None = None,
    ) -> None:
        """A call on `key` is over; `answer` if its outcome is OK."""
        named = "held not" if answer is not None and not answer.held else str(outcome)
        self.counts[kind, named] += 1
        self.keys[key] = None
        if outcome is CallOutcome.OK:
            self.history.add(CallRecord(client, key, call, called_s, self.now_s(), answer))
        elif outcome is CallOutcome.UNKNOWN and kind not in ("get", "stale get"):
            self.unknown_writes += 1
            self.history.add(CallRecord(client, key, call, called_s))

    def wrote(self, key: str, value: str | None, revision: int) -> None:
        """A write that changed `key` was acknowledged with `revision`."""
        self.acknowledged.append(Acknowledged(key, value, revision))
        self.acknowledged_at_s.append(self.now_s())
        if value is None:
            self._own(revision, f"removal {len(self.acknowledged)} of {key}")
        else:
            self.seen(key, value, revision)

    def seen(self, key: str, value: str, revision: int) -> None:
        """`key` was found to hold `value`, last changed at `revision`."""
        if self._key_of.get(value) != key:
            self.complain(f"{key} holds {value!r}, which nobody wrote there")
            return
        first = self._revision_of.setdefault(value, revision)
        if first != revision:
            self.complain(f"{value!r} was applied twice: at revisions {first} and {revision}")
        self._own(revision, value)

    def _own(self, revision: int, write: str) -> None:
        owner = self._owner_of.setdefault(revision, write)
        if owner != write:
            self.complain(f"revision {revision} was given to two writes: {owner} and {write}")
