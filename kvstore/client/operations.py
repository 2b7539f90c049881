"""Transactions as expressions: what is compared, and what is done.

::

    done = await client.txn(
        Value("from") == "10",
        absent("to"),
        then=[put("from", "5"), put("to", "5")],
        otherwise=[get("from"), get("to")],
    )

A comparison of a field with an operand is a `Compare`, not a truth value: it is the store that
evaluates it, when the transaction is applied.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kvstore.client.requests import named, range_fields, whole

SortBy = Literal["key", "value", "version", "create_revision", "mod_revision"]


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition of a transaction, as the API's JSON has it."""

    document: dict[str, Any]

    def __bool__(self) -> bool:
        """Refused: `if Version("k") == 1` and `1 < Version("k") < 3` would decide here."""
        raise TypeError("a Compare has no truth value here; the store evaluates it: see Client.txn")


class _Field:
    """A field of a key, or of every key of a range; a range holds if each of its keys does."""

    _name = ""
    __slots__ = ("_range",)
    __hash__ = None  # type: ignore[assignment]  # == does not answer whether two are the same

    def __init__(
        self,
        key: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
    ) -> None:
        self._range = range_fields(key, prefix, start, end)

    def _compare(self, relation: str, operand: dict[str, Any]) -> Compare:
        return Compare({**self._range, "field": self._name, "op": relation, **operand})


class Value(_Field):
    """The value, compared by its bytes. Every comparison with an absent key's is false."""

    _name = "value"
    __slots__ = ()

    def __eq__(self, operand: str | bytes) -> Compare:  # type: ignore[override]
        return self._compare("=", named("operand", operand))

    def __ne__(self, operand: str | bytes) -> Compare:  # type: ignore[override]
        return self._compare("!=", named("operand", operand))

    def __lt__(self, operand: str | bytes) -> Compare:
        return self._compare("<", named("operand", operand))

    def __gt__(self, operand: str | bytes) -> Compare:
        return self._compare(">", named("operand", operand))


class _Number(_Field):
    """A field that is a whole number, 0 for an absent key."""

    __slots__ = ()

    def __eq__(self, operand: int) -> Compare:  # type: ignore[override]
        return self._compare("=", _number(operand))

    def __ne__(self, operand: int) -> Compare:  # type: ignore[override]
        return self._compare("!=", _number(operand))

    def __lt__(self, operand: int) -> Compare:
        return self._compare("<", _number(operand))

    def __gt__(self, operand: int) -> Compare:
        return self._compare(">", _number(operand))

    def __le__(self, operand: int) -> Compare:
        return self._compare("<", _number(operand, 1))

    def __ge__(self, operand: int) -> Compare:
        return self._compare(">", _number(operand, -1))


def _number(operand: int, more: int = 0) -> dict[str, Any]:
    return {"operand": whole(operand, "operand") + more}


class Version(_Number):
    """How often the key was written since it exists."""

    _name = "version"
    __slots__ = ()


class CreateRevision(_Number):
    """The revision in which the key came to be."""

    _name = "create_revision"
    __slots__ = ()


class ModRevision(_Number):
    """The revision of the key's last write."""

    _name = "mod_revision"
    __slots__ = ()


class LeaseId(_Number):
    """The lease that holds the key, 0 for none."""

    _name = "lease"
    __slots__ = ()


def absent(key: str | bytes) -> Compare:
    """The key does not exist."""
    return Version(key) == 0


def exists(key: str | bytes) -> Compare:
    """The key exists."""
    return Version(key) > 0


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a transaction or a batch, as the API's JSON has it."""

    kind: Literal["put", "get", "delete", "txn"]
    arguments: dict[str, Any]

    @property
    def document(self) -> dict[str, Any]:
        """What is sent."""
        return {self.kind: self.arguments}

    @property
    def writes(self) -> bool:
        """Whether it may change anything."""
        return may_write(self.arguments) if self.kind == "txn" else self.kind != "get"


def put(
    key: str | bytes,
    value: str | bytes | None,
    *,
    lease: int | None = None,
    keep_lease: bool = False,
    previous: bool = False,
    ttl_s: int | None = None,
    if_revision: int | None = None,
    if_absent: bool = False,
    if_exists: bool = False,
) -> Operation:
    """Write `value`; None keeps the value that the key has, `keep_lease` the lease.

    `previous`: answer what was there before. A key that must be kept and does not exist fails the
    whole transaction. In transactions only: those three. In batches only: `ttl_s` and conditions,
    for which a transaction has compares and leases.
    """
    fields: dict[str, Any] = named("key", key)
    if value is None:
        fields["keep_value"] = True
    else:
        fields |= named("value", value)
    if lease:
        fields["lease"] = str(whole(lease, "lease"))
    if keep_lease:
        fields["keep_lease"] = True
    if previous:
        fields["previous"] = True
    if ttl_s is not None:
        fields["ttl_s"] = whole(ttl_s, "ttl_s")
    return Operation("put", fields | _conditions(if_revision, if_absent, if_exists))


def get(
    key: str | bytes | None = None,
    *,
    prefix: str | bytes | None = None,
    start: str | bytes | None = None,
    end: str | bytes | None = None,
    revision: int = 0,
    limit: int = 0,
    sort_by: SortBy | None = None,
    descending: bool = False,
    keys_only: bool = False,
    count_only: bool = False,
    min_mod_revision: int = 0,
    max_mod_revision: int = 0,
    min_create_revision: int = 0,
    max_create_revision: int = 0,
) -> Operation:
    """Read a key or a range: filtered by revisions, then sorted, then cut at `limit`."""
    numbers = {
        "revision": revision,
        "limit": limit,
        "min_mod_revision": min_mod_revision,
        "max_mod_revision": max_mod_revision,
        "min_create_revision": min_create_revision,
        "max_create_revision": max_create_revision,
    }
    options: dict[str, Any] = {
        **{name: whole(number, name) for name, number in numbers.items()},
        "sort_by": sort_by,
        "descending": descending,
        "keys_only": keys_only,
        "count_only": count_only,
    }
    given = {name: option for name, option in options.items() if option}
    return Operation("get", {**range_fields(key, prefix, start, end), **given})


def delete(
    key: str | bytes | None = None,
    *,
    prefix: str | bytes | None = None,
    start: str | bytes | None = None,
    end: str | bytes | None = None,
    previous: bool = False,
    if_revision: int | None = None,
    if_exists: bool = False,
) -> Operation:
    """Remove a key or, in transactions only, a range. `previous`: answer what was there.

    In batches only: the conditions.
    """
    fields = range_fields(key, prefix, start, end) | _conditions(if_revision, False, if_exists)
    return Operation("delete", {**fields, "previous": True} if previous else fields)


def _conditions(if_revision: int | None, if_absent: bool, if_exists: bool) -> dict[str, Any]:
    given: dict[str, Any] = {"if_absent": if_absent, "if_exists": if_exists}
    found = {name: condition for name, condition in given.items() if condition}
    if if_revision is not None:
        found["if_revision"] = whole(if_revision, "if_revision")
    return found


def txn(
    *compares: Compare, then: Sequence[Operation] = (), otherwise: Sequence[Operation] = ()
) -> Operation:
    """A transaction inside of a transaction."""
    return Operation("txn", transaction_document(compares, then, otherwise))


def transaction_document(
    compares: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[Operation]
) -> dict[str, Any]:
    """The JSON of `POST /v1/txn`."""
    return {
        "compare": [compare.document for compare in compares],
        "then": [operation.document for operation in then],
        "else": [operation.document for operation in otherwise],
    }


def may_write(document: dict[str, Any]) -> bool:
    """Whether a transaction's JSON may change anything; what is not understood may."""
    for branch in ("then", "else"):
        for operation in document.get(branch) or ():
            inner = operation.get("txn")
            if may_write(inner) if isinstance(inner, dict) else "get" not in operation:
                return True
    return False


FIELDS: dict[str, type[Value] | type[_Number]] = {
    kind._name: kind for kind in (Value, Version, CreateRevision, ModRevision, LeaseId)
}
"""By their name in the API's JSON."""
