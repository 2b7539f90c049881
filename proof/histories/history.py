"""The history: what clients asked and were told, and when. The checkers judge nothing else.

Every written value is unique, so a value names its write. The simulation and the torture record
the same histories: of virtual seconds here, of real ones there.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What the client knows when the call is over."""

    OK = "ok"
    REFUSED = "refused"
    """Certainly not applied: it may be left out of the history."""
    UNKNOWN = "unknown"
    """It may have been applied, or may yet be, at any time after the call."""


@dataclass(frozen=True, slots=True)
class Get:
    """Read a key."""


@dataclass(frozen=True, slots=True)
class Put:
    """Write `value`, which no other call of the history writes."""

    value: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the key."""


@dataclass(frozen=True, slots=True)
class CompareAndPut:
    """Write `value` if the key holds `expected` (a value read before; None: if it is absent)."""

    expected: str | None
    value: str


@dataclass(frozen=True, slots=True)
class CompareAndDelete:
    """Remove the key if it holds `expected`."""

    expected: str


Call = Get | Put | Delete | CompareAndPut | CompareAndDelete


@dataclass(frozen=True, slots=True)
class Answer:
    """What an OK call returned.

    Get: `value`, None if absent. Conditional calls: `held`, whether the condition did. Delete:
    `held`, whether there was anything to remove.
    """

    value: str | None = None
    held: bool = True


@dataclass(frozen=True, slots=True)
class Operation:
    """One call on one key. `returned_s` is None unless the outcome is OK; `answer` likewise.

    Refused calls are not recorded at all.
    """

    client: int
    key: str
    call: Call
    called_s: float
    returned_s: float | None = None
    answer: Answer | None = None


@dataclass
class History:
    """All operations of a run, in no particular order."""

    operations: list[Operation] = field(default_factory=list)

    def add(self, operation: Operation) -> None:
        """Record a finished call."""
        self.operations.append(operation)
