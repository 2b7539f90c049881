"""The words of which the cases are made: requests, streams, and placeholders in them.

A case is a list of steps. Each is done at both servers, and what they answered is compared before
the next one. Bodies are JSON values in which `Rev` and `Saved` stand for what differs by server.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


def b(text: str | bytes) -> str:
    """base64, as keys and values travel."""
    raw = text.encode() if isinstance(text, str) else text
    return base64.b64encode(raw).decode()


@dataclass(frozen=True)
class Rev:
    """The server's revision at the begin of the case, plus `offset`."""

    offset: int


@dataclass(frozen=True)
class Saved:
    """What an earlier step of this case saved under this name."""

    name: str


@dataclass(frozen=True)
class Call:
    """One request with its whole answer.

    `save` names fields of the answer (dotted paths) for later steps. With `loose`, texts of errors
    are not compared. For `differs` and `ours` see the function `differs`.
    """

    path: str
    body: Any = field(default_factory=dict)
    method: str = "POST"
    headers: Mapping[str, Any] = field(default_factory=dict)
    save: Mapping[str, str] = field(default_factory=dict)
    loose: bool = False
    differs: str = ""
    ours: tuple[int, str] = (0, "")


@dataclass(frozen=True)
class Begin:
    """Send a request whose answer comes piece by piece, on a connection of its own."""

    stream: str
    call: Call


@dataclass(frozen=True)
class Next:
    """The next `count` documents of a stream. `differs` names the heading under which
    docs/etcd-compatibility.md says why ours differ; they hold the text `ours`."""

    stream: str
    count: int = 1
    differs: str = ""
    ours: str = ""


@dataclass(frozen=True)
class Quiet:
    """No document comes on this stream."""

    stream: str


@dataclass(frozen=True)
class Finish:
    """The rest of a stream, or the whole of a unary answer, until its end."""

    stream: str
    save: Mapping[str, str] = field(default_factory=dict)
    loose: bool = False


@dataclass(frozen=True)
class Socket:
    """Open a WebSocket; it is a stream like the others."""

    stream: str
    path: str


@dataclass(frozen=True)
class Frame:
    """Send a document over a WebSocket."""

    stream: str
    body: Any


@dataclass(frozen=True)
class Until:
    """Repeat a request until its answer satisfies a condition, and compare that answer."""

    call: Call
    condition: Callable[[Any], bool]
    deadline_s: float = 15.0


Step = Call | Begin | Next | Quiet | Finish | Socket | Frame | Until


@dataclass(frozen=True)
class Case:
    """A named list of steps. `auth`: it may leave authentication on, and users behind."""

    name: str
    steps: tuple[Step, ...]
    auth: bool = False


class Table:
    """Cases in order, with unique names."""

    def __init__(self, area: str) -> None:
        self._area = area
        self.cases: list[Case] = []

    def __call__(self, name: str, *steps: Step, auth: bool = False) -> None:
        """Add a case."""
        self.cases.append(Case(f"{self._area}: {name}", steps, auth))


def differs(call: Call, name: str, status: int, text: str) -> Call:
    """The same request, to which ours is wanted to answer otherwise: `status`, with `text`.

    `name` is the heading under which docs/etcd-compatibility.md gives the reason.
    """
    return replace(call, differs=name, ours=(status, text))


# -- requests ---------------------------------------------------------------------------------


def rpc(path: str, body: Any = None, **options: Any) -> Call:
    """A POST to `/v3/...`."""
    return Call(f"/v3/{path}", {} if body is None else body, **options)


def _options(fields: dict[str, Any]) -> dict[str, Any]:
    names = ("headers", "save", "loose")
    return {name: fields.pop(name) for name in names if name in fields}


def put(key: str, value: str | None = None, **fields: Any) -> Call:
    """kv/put; other fields as they are."""
    options = _options(fields)
    return rpc("kv/put", put_fields(key, value, **fields), **options)


def put_fields(key: str, value: str | None = None, **fields: Any) -> dict[str, Any]:
    """A PutRequest."""
    return {"key": b(key), **({} if value is None else {"value": b(value)}), **fields}


def span(key: str | bytes, end: str | bytes | None = None, **fields: Any) -> dict[str, Any]:
    """A RangeRequest or DeleteRangeRequest."""
    return {"key": b(key), **({} if end is None else {"range_end": b(end)}), **fields}


def get(key: str | bytes, end: str | bytes | None = None, **fields: Any) -> Call:
    """kv/range."""
    options = _options(fields)
    return rpc("kv/range", span(key, end, **fields), **options)


def delete(key: str | bytes, end: str | bytes | None = None, **fields: Any) -> Call:
    """kv/deleterange."""
    options = _options(fields)
    return rpc("kv/deleterange", span(key, end, **fields), **options)


ALL = ("\0", "\0")
"""key and range_end that mean every key."""


def everything(**fields: Any) -> Call:
    """kv/range over all keys."""
    return get(*ALL, **fields)


def txn(
    compare: list[Any] | None = None,
    success: list[Any] | None = None,
    failure: list[Any] | None = None,
    **options: Any,
) -> Call:
    """kv/txn."""
    return rpc("kv/txn", txn_fields(compare, success, failure), **options)


def txn_fields(
    compare: list[Any] | None = None,
    success: list[Any] | None = None,
    failure: list[Any] | None = None,
) -> dict[str, Any]:
    """A TxnRequest; lists that are not given are left out."""
    named = {"compare": compare, "success": success, "failure": failure}
    return {name: items for name, items in named.items() if items is not None}


def op_put(key: str, value: str | None = None, **fields: Any) -> dict[str, Any]:
    """A put inside a transaction."""
    return {"request_put": put_fields(key, value, **fields)}


def op_get(key: str, end: str | None = None, **fields: Any) -> dict[str, Any]:
    """A range inside a transaction."""
    return {"request_range": span(key, end, **fields)}


def op_delete(key: str, end: str | None = None, **fields: Any) -> dict[str, Any]:
    """A delete inside a transaction."""
    return {"request_delete_range": span(key, end, **fields)}


def op_txn(*branches: Any) -> dict[str, Any]:
    """A transaction inside a transaction."""
    return {"request_txn": txn_fields(*branches)}


def compare(key: str, target: str, result: str = "EQUAL", **fields: Any) -> dict[str, Any]:
    """One compare of a transaction."""
    return {"key": b(key), "target": target, "result": result, **fields}


def compact(revision: Any, **fields: Any) -> Call:
    """kv/compaction."""
    options = _options(fields)
    return rpc("kv/compaction", {"revision": revision, **fields}, **options)


def grant(lease: int, ttl: int = 1000, **options: Any) -> Call:
    """lease/grant with a chosen id."""
    return rpc("lease/grant", {"TTL": ttl, "ID": lease}, **options)


def watch(stream: str, key: str, end: str | None = None, **fields: Any) -> Begin:
    """A watch with one create_request."""
    return Begin(stream, rpc("watch", {"create_request": span(key, end, **fields)}))
