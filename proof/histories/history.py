"""The history: what clients asked and were told, and when. The checkers judge nothing else.

Every written value is unique, so a value names its write. The simulation and the torture record
the same histories: of virtual seconds here, of real ones there.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class CallOutcome(StrEnum):
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
class PutCall:
    """Write `value`, which no other call of the history writes."""

    value: str


@dataclass(frozen=True, slots=True)
class DeleteCall:
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


Call = Get | PutCall | DeleteCall | CompareAndPut | CompareAndDelete


@dataclass(frozen=True, slots=True)
class Returned:
    """What an OK call returned.

    Get: `value`, None if absent. Conditional calls: `held`, whether the condition did. Delete:
    `held`, whether there was anything to remove.
    """

    value: str | None = None
    held: bool = True


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call on one key. `returned_s` is None unless the outcome is OK; `answer` likewise.

    Refused calls are not recorded at all.
    """

    client: int
    key: str
    call: Call
    called_s: float
    returned_s: float | None = None
    answer: Returned | None = None


@dataclass
class CallHistory:
    """All operations of a run, in no particular order."""

    operations: list[CallRecord] = field(default_factory=list)

    def add(self, operation: CallRecord) -> None:
        """Record a finished call."""
        self.operations.append(operation)
