"""Errors of requests that ask for more work than one request may."""

from typing import ClassVar

from kvstore.errors.base import APPLIED, FieldForm, Kind, RequestError, WireField

_WHAT = {
    "keys": "a transaction, or a deletion of a range, looks at no more than {} keys, of which "
    "each that it deletes counts twice; do it in pieces, or read in a transaction that does not "
    "write",
    "bytes": "a transaction, or a deletion of a range, reads and writes no more than {} bytes; do "
    "it in pieces, or read in a transaction that does not write",
    "lease_keys": "a lease holds no more than {} keys; grant another one",
    "sorted_bytes": "an answer that must be sorted holds no more than {} bytes; ask for a smaller "
    "range, or in the order of the keys",
    "answer_bytes": "the answer to a transaction holds no more than {} bytes; ask for less of it, "
    "or outside of a transaction",
}


class WorkTooLarge(RequestError):
    """More than one request may cost: `limit` says of what there would be too much, `maximum`
    how much there may be."""

    kind = Kind(
        "work-too-large", 413, "Too much work for one request",
        "A transaction, a deletion of a range or a lease over a limit; nothing changed. `limit` "
        "says of what there would be more than `maximum`.",
    )  # fmt: skip
    fields: ClassVar[tuple[WireField, ...]] = (
        WireField("limit", FieldForm.TEXT, ""),
        WireField("maximum", FieldForm.NUMBER, 0),
    )

    def __init__(self, limit: str, maximum: int) -> None:
        super().__init__(_WHAT[limit].format(maximum))
        self.limit = limit
        self.maximum = maximum


class AnswerNotKept(RequestError):
    """The same request, by its idempotency key, was carried out before; its answer was too large
    to be kept. `revision` was the store's after it."""

    kind = Kind(
        "answer-not-kept", 410, "Answer not kept",
        "A request with this Idempotency-Key was carried out before, once; its answer was too "
        "large to be kept. `revision` was the store's after it.",
        APPLIED,
    )  # fmt: skip
    fields: ClassVar[tuple[WireField, ...]] = (WireField("revision", FieldForm.NUMBER, 0),)

    def __init__(self, revision: int) -> None:
        super().__init__(
            f"this request was carried out before, at revision {revision} or earlier; its answer "
            "was too large to be kept"
        )
        self.revision = revision
