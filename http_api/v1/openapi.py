"""`/openapi.json` and `/problems/{slug}`: the API describes itself, from the rows of its calls."""

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from http_api.core.calls import Ask, Call, Doc, NativeCall, Need
from http_api.core.params import TIMEOUT_MAX_S
from http_api.core.problems import kind_of
from http_api.core.responses import Answer, json_answer
from http_api.v1.batch_steps import BatchOperation
from http_api.v1.documents import LEASE_PATTERN, request_schemas
from http_api.v1.health import server_version
from http_api.v1.listing import LIMIT_DEFAULT, LIMIT_MAX
from http_api.v1.snapshot import RATE_MIB_S, RATE_MIB_S_MAX
from http_api.v1.txn import TXN_DONE
from kvstore.commands.commands import IDEMPOTENCY_KEY_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX
from kvstore.errors import (
    APPLIED,
    KINDS,
    NOT_APPLIED,
    UNKNOWN,
    InvalidArgument,
    Kind,
    KvError,
    PathNotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    Unexpected,
)
from kvstore.state.lease_table import LEASE_TTL_S_MAX, LEASE_TTL_S_MIN

_BYTES = {"type": "string", "description": "Percent-encoded bytes"}
_QUERY: dict[str, tuple[str, dict[str, Any]]] = {
    "moves": (
        "Moves with dots between them, each one that `choices` named: p1, d3, x4, c2, r2, a",
        {"type": "string", "maxLength": 400},
    ),
    "prefix": ("Only keys that begin with it; excludes start and end", _BYTES),
    "start": ("The first key, inclusive", _BYTES),
    "end": ("The last key, exclusive", _BYTES),
    "limit": (
        "Items per page; a page of large values may have fewer",
        {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
    ),
    "order": ("Order of keys", {"type": "string", "enum": ["asc", "desc"], "default": "asc"}),
    "keys_only": ("Leave the values out", {"type": "boolean", "default": False}),
    "cursor": ("From the page before; pins its revision", {"type": "string"}),
    "revision": ("Read the store as of this revision", {"type": "integer", "minimum": 1}),
    "consistency": (
        "linearizable: sees every acknowledged write. serializable: this node's state, which may "
        "be old, but is there even when no quorum is. Writes are always linearizable.",
        {"type": "string", "enum": ["linearizable", "serializable"], "default": "linearizable"},
    ),
    "timeout": (
        "Seconds until the server gives up; the node's setting by default",
        {"type": "number", "exclusiveMinimum": 0, "maximum": TIMEOUT_MAX_S},
    ),
    "history": (
        "What happened to the key instead of its value, newest first; with `revision`, up to it",
        {"type": "boolean", "default": False},
    ),
    "ttl": (
        "Seconds after which the key is deleted, unless its lease is kept alive: a lease of its "
        f"own is granted. Below {LEASE_TTL_S_MIN} it is {LEASE_TTL_S_MIN}. Excludes lease",
        {"type": "integer", "minimum": 1, "maximum": LEASE_TTL_S_MAX},
    ),
    "lease": ("Delete the key when this lease ends", {"type": "string", "pattern": LEASE_PATTERN}),
    "key": ("This key only; excludes prefix, start and end", _BYTES),
    "from_revision": (
        "The first revision to send, which may be in the future; by default what happens next",
        {"type": "integer", "minimum": 1},
    ),
    "previous": ("Send what was there before, too", {"type": "boolean", "default": False}),
    "puts": ("Send writes", {"type": "boolean", "default": True}),
    "deletes": ("Send deletions", {"type": "boolean", "default": True}),
    "expected": (
        "Change the members only if this is the number of the present configuration",
        {"type": "integer", "minimum": 0},
    ),
    "dry_run": ("Say what the change would lead over; do nothing", {"type": "boolean"}),
    "snapshot": ("The copy to go on with, as the backup's header names it", {"type": "string"}),
    "from_block": ("The first block that is missing", {"type": "integer", "minimum": 0}),
    "rate_mib_s": (
        "MiB of the state's file that are read a second",
        {"type": "integer", "minimum": 1, "maximum": RATE_MIB_S_MAX, "default": RATE_MIB_S},
    ),
}
_HEADERS = {
    "If-Match": 'A revision in double quotes, as in "42", or * for any: the key must be there',
    "If-None-Match": "On reads, entity tags that need no answer; on writes *: no such key yet",
    "Last-Event-ID": "The last revision seen: go on after it. Wins over from_revision",
    "X-Keep-Alive-S": "Seconds after which a stream without events says that it is alive; `ready` "
    "says how many it will be, which is more while there are many streams",
    "Idempotency-Key": "Apply the write once, however often it is sent, to whichever node: "
    f"1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters",
}
_HEADER_SCHEMAS: dict[str, dict[str, Any]] = {
    "If-Match": {"type": "string", "examples": ['"42"', "*"]},
    "If-None-Match": {"type": "string", "examples": ["*", '"42"']},
    "Last-Event-ID": {"type": "integer", "minimum": 0},
    "X-Keep-Alive-S": {"type": "number", "minimum": 0.1, "maximum": 15},
    "Idempotency-Key": {
        "type": "string",
        "pattern": "^[!-~]+$",
        "minLength": 1,
        "maxLength": IDEMPOTENCY_KEY_BYTES_MAX,
    },
}
_PATHS = {
    "at_ms": "A moment in ms since 1970; ten seconds off are near enough",
    "key": f"The key: 1 to {KEY_BYTES_MAX} bytes, percent-encoded. Slashes may stand as they are.",
    "slug": "The end of a problem type.",
    "id": "The lease's id.",
    "name": "The user's or role's name, percent-encoded.",
    "slot": "The slot's number.",
    "file": "The name of a part of the dashboard.",
    "member": "The member's id, or its name.",
    "token": "The token's id, not the token.",
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457. `outcome` says whether the write may have happened.",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "outcome": {"type": "string", "enum": [NOT_APPLIED, UNKNOWN, APPLIED]},
        "parameter": {"type": "string", "description": "The parameter at fault"},
        "mod_revision": {"type": "integer", "description": "The key's, 0 if it does not exist"},
        "compacted_revision": {"type": "integer"},
        "current_revision": {"type": "integer"},
        "lease": {"type": "string", "description": "The lease's id, in decimal"},
        "maximum": {"type": "integer", "description": "The limit that was passed"},
        "reason": {"type": "string", "description": "Why the members cannot be changed so"},
        "number": {"type": "integer", "description": "Of the present configuration"},
        "places": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "The members' peer addresses, by id",
        },
    },
    "required": ["type", "title", "status", "detail", "outcome"],
}
_EVERYWHERE: tuple[type[KvError], ...] = (Unexpected,)
_GUARDED: tuple[type[KvError], ...] = (Unauthenticated, PermissionDenied)
"""Where authentication counts, once it is on."""
_SECURITY = {
    "basic": {"type": "http", "scheme": "basic"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "From /v1/auth/login"},
}


def describe(calls: Sequence[NativeCall]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the calls."""
    paths: dict[str, dict[str, Any]] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Key-value store",
            "version": server_version(),
            "description": "A replicated key-value store on Multi-Paxos. Every node answers every "
            f"call. Keys and values are bytes; a value has at most {VALUE_BYTES_MAX} bytes. "
            "OPTIONS and, where there is GET, HEAD are answered on every path; an unknown path "
            "gets 404, and a method that a path does not take 405 with Allow.",
        },
        "paths": paths,
        "components": {"schemas": _schemas(calls), "securitySchemes": _SECURITY},
    }


def _schemas(calls: Iterable[NativeCall]) -> dict[str, Any]:
    messages = [call.message for call in calls if call.message is not None]
    requests = request_schemas([*messages, BatchOperation])
    return {"Problem": _PROBLEM, "TxnDone": TXN_DONE, **requests}


def _operation(call: NativeCall) -> dict[str, Any]:
    doc = call.doc
    operation: dict[str, Any] = {
        "operationId": _operation_id(call),
        "summary": doc.summary,
        "parameters": _parameters(call.path, doc),
        "responses": _responses(doc.problems, doc.answers),
    }
    if call.need is not Need.OPEN:
        operation["responses"] = _responses((*doc.problems, *_GUARDED), doc.answers)
        operation["security"] = [{}, *({name: []} for name in _SECURITY)]
    content = _body(call)
    if content:
        operation["requestBody"] = {
            "required": not _may_be_empty(call),
            "content": {kind: {"schema": schema} for kind, schema in content.items()},
        }
    return operation


def _body(call: NativeCall) -> dict[str, Any]:
    """The schema of the body by content type; empty if the call takes no body."""
    if call.message is not None:
        return {"application/json": {"$ref": f"#/components/schemas/{call.message.__name__}"}}
    return call.doc.body


def _may_be_empty(call: NativeCall) -> bool:
    if call.message is None or not call.empty_body:
        return False
    return not any(field.required for field in msgspec.structs.fields(call.message))


def _operation_id(call: NativeCall) -> str:
    words = re.findall(r"[A-Za-z0-9]+", call.path) or ["root"]
    return "_".join([call.method.lower(), *words])


def _parameters(path: str, doc: Doc) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATHS[name],
            "schema": {"type": "string"},
        }
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    for name in doc.query:
        description, schema = _QUERY[name]
        if name == "limit" and doc.limit_max is not None:
            schema = {**schema, "maximum": doc.limit_max, "default": doc.limit_max}
        found.append({"name": name, "in": "query", "description": description, "schema": schema})
    for name in doc.headers:
        found.append(
            {
                "name": name,
                "in": "header",
                "description": _HEADERS[name],
                "schema": _HEADER_SCHEMAS[name],
            }
        )
    return found


def _responses(
    problems: tuple[type[KvError], ...], answers: dict[int, dict[str, Any]]
) -> dict[str, Any]:
    responses = {str(status): _answer(entry) for status, entry in answers.items()}
    by_status: dict[int, list[tuple[type[KvError], Kind]]] = {}
    for error in (*problems, *_EVERYWHERE):
        kind = kind_of(error)
        by_status.setdefault(kind.status, []).append((error, kind))
    for status, entries in sorted(by_status.items()):
        lines = [f"`{kind.type}`: {kind.meaning}" for _, kind in dict.fromkeys(entries)]
        response: dict[str, Any] = {
            "description": "\n\n".join(lines),
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        }
        if any(issubclass(error, Unavailable) for error, _ in entries):
            response["headers"] = _headers({"Retry-After": "Seconds after which to try again"})
        responses[str(status)] = response
    return responses


def _headers(descriptions: dict[str, str]) -> dict[str, Any]:
    return {
        name: {"description": text, "schema": {"type": "string"}}
        for name, text in descriptions.items()
    }


def _answer(entry: dict[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": entry["description"]}
    if "headers" in entry:
        response["headers"] = _headers(entry["headers"])
    if "content" in entry:
        response["content"] = {kind: {"schema": found} for kind, found in entry["content"].items()}
    elif "schema" in entry:
        response["content"] = {"application/json": {"schema": entry["schema"]}}
    elif "properties" in entry:
        properties = entry["properties"]
        required = entry.get("required", list(properties))
        schema = {"type": "object", "properties": properties, "required": required}
        response["content"] = {"application/json": {"schema": schema}}
    elif "type" in entry:
        response["content"] = {entry["type"]: {"schema": {"type": "string"}}}
    return response


class Description:
    """The handlers of the API's description, which is written when somebody first asks for it."""

    def __init__(self) -> None:
        self._described: Sequence[NativeCall] = ()
        self._document: dict[str, Any] | None = None
        self._kinds = {kind.slug: kind for kind in KINDS.values()}

    def complete(self, calls: Sequence[NativeCall]) -> None:
        """These are what it describes; called once, when the table is known."""
        self._described = calls

    async def openapi(self, ask: Ask[None]) -> Answer:
        """The OpenAPI document."""
        ask.options()
        if self._document is None:  # 50 ms: not on the loop
            self._document = await asyncio.to_thread(describe, self._described)
        return json_answer(self._document)

    async def problem(self, ask: Ask[None]) -> Answer:
        """What a problem type means."""
        ask.options()
        kind = self._kinds.get(ask.parameter)
        if kind is None:
            raise PathNotFound(f"there is no problem type {ask.parameter[:80]!r}")
        return json_answer(
            {
                "type": kind.type,
                "title": kind.title,
                "status": kind.status,
                "outcome": kind.outcome,
                "meaning": kind.meaning,
            }
        )

    def calls(self) -> list[NativeCall]:
        """The calls of this resource."""
        return [
            Call("GET", "/openapi.json", self.openapi, Need.OPEN, _OPENAPI),
            Call("GET", "/problems/{slug}", self.problem, Need.OPEN, _PROBLEM_DOC),
        ]


_OPENAPI = Doc(
    "This description",
    answers={200: {"description": "An OpenAPI 3.1 document", "properties": {}}},
    problems=(InvalidArgument,),
)
_PROBLEM_DOC = Doc(
    "What a problem type means",
    answers={
        200: {
            "description": "The problem type",
            "properties": {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "outcome": {"type": "string"},
                "meaning": {"type": "string"},
            },
        }
    },
    problems=(InvalidArgument, PathNotFound),
)
