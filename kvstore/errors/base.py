"""What every error declares of its answer, and the two bases that all others stand on."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import ClassVar, NamedTuple, Self

NOT_APPLIED = "not-applied"
"""The outcome of a request that certainly changed nothing."""
UNKNOWN = "unknown"
"""The outcome of a write that was proposed, or of which nobody can tell."""

APPLIED = "applied"
"""The outcome of a request that was carried out before."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What an error looks like from outside. `slug` ends its stable type, `/problems/<slug>`."""

    slug: str
    status: int
    title: str
    meaning: str
    outcome: str = NOT_APPLIED

    @property
    def type(self) -> str:
        """The problem type, a URI reference that every node answers."""
        return f"/problems/{self.slug}"


class FieldForm(Enum):
    """How a field is written in JSON."""

    TEXT = auto()
    NUMBER = auto()
    ID = auto()
    """A number of up to 63 bits, written as text: JSON readers round numbers above 2**53."""


class WireField(NamedTuple):
    """An attribute of an error that travels: in the problem document, or as an HTTP header."""

    name: str
    form: FieldForm
    default: int | str
    """What the attribute is if the answer lacks it."""
    header: str | None = None

    def encode(self, value: int | str) -> int | str:
        """As the answer has it."""
        return value if self.form is FieldForm.NUMBER else str(value)

    def decode(self, raw: object) -> int | str:
        """As the error has it; the default for anything that cannot be it."""
        if self.form is FieldForm.TEXT:
            return raw if isinstance(raw, str) else self.default
        if isinstance(raw, str) and raw.isascii() and raw.isdecimal():
            return int(raw)
        return raw if isinstance(raw, int) else self.default


UNEXPECTED = Kind(
    "unexpected",
    500,
    "Unexpected error",
    "A defect of the server; its log has the details.",
    UNKNOWN,
)


class KvError(Exception):
    """Base of all errors that an answer can carry. `str()` is a sentence for the caller."""

    kind: ClassVar[Kind] = UNEXPECTED
    """Its own or that of its closest base; an error that nobody described is a defect."""
    fields: ClassVar[tuple[WireField, ...]] = ()

    @classmethod
    def restored(cls, detail: str, values: Mapping[str, int | str]) -> Self:
        """The error that another process raised: its text, and one value for each of `fields`."""
        error = cls.__new__(cls, detail)
        vars(error).update(values)
        return error


class RequestError(KvError):
    """The caller's fault; nothing was proposed, or it was decided to change nothing."""
