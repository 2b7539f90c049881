"""`/v1/kv/{key}`: one key. PUT and GET here are the hot paths of the server."""

from aiohttp import hdrs, web

from http_api.core import params
from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.params import ReadOptions
from http_api.core.problems import refusal
from http_api.core.responses import Answer, answer
from http_api.v1.documents import lease_id, new_lease
from http_api.v1.history import HISTORY_PROPERTIES, LIMIT_DEFAULT, LIMIT_MAX, history_answer
from kvstore.commands.commands import VALUE_BYTES_MAX, Delete, Put
from kvstore.commands.operations import KeyValue
from kvstore.commands.results import Deleted, LeaseTaken, Result, Written
from kvstore.errors import (
    BodyTimeout,
    ConditionFailed,
    Contradiction,
    ExpectationFailed,
    IdempotencyMismatch,
    InvalidArgument,
    KeyNotFound,
    LeaseExists,
    LeaseNotFound,
    Malformed,
    NoQuorum,
    NotReady,
    OutcomeUnknown,
    Overloaded,
    RevisionCompacted,
    RevisionInFuture,
    Stopping,
    TooLarge,
    UnsupportedMedia,
    WorkTooLarge,
)
from kvstore.state.lease_table import LEASE_TTL_S_MAX, LEASE_TTL_S_MIN

READ_QUERY = ("revision", "consistency", "timeout")
GET_QUERY = (*READ_QUERY, "history", "limit")
WRITE_QUERY = ("consistency", "timeout")
PUT_QUERY = (*WRITE_QUERY, "ttl", "lease")
READ_PROBLEMS = (
    InvalidArgument,
    RevisionInFuture,
    RevisionCompacted,
    NoQuorum,
    NotReady,
    Overloaded,
    Stopping,
)
WRITE_PROBLEMS = (
    InvalidArgument,
    Contradiction,
    IdempotencyMismatch,
    NoQuorum,
    Overloaded,
    Stopping,
    OutcomeUnknown,
)
BODY_PROBLEMS = (Malformed, BodyTimeout, TooLarge, UnsupportedMedia, ExpectationFailed)

_OCTETS = b"application/octet-stream"
_VALUE_HEAD = (
    b"HTTP/1.1 200 OK\r\nX-Content-Type-Options: nosniff\r\n"
    b"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n"
    b'ETag: "%d"\r\nX-Create-Revision: %d\r\nX-Version: %d\r\n'
)


def _value_headers(found: KeyValue) -> bytes:
    headers = b'ETag: "%d"\r\nX-Create-Revision: %d\r\nX-Version: %d\r\n' % (
        found.mod_revision,
        found.create_revision,
        found.version,
    )
    return headers + b"X-Lease: %d\r\n" % found.lease if found.lease else headers


def value_answer(found: KeyValue) -> Answer:
    """200 with the raw value."""
    value = found.value
    if found.lease:
        return answer(200, value, _OCTETS, _value_headers(found))
    # The same in one step: few keys have a lease.
    head = _VALUE_HEAD % (len(value), found.mod_revision, found.create_revision, found.version)
    return Answer(200, head, value)


def written_answer(result: Result, lease: int = 0) -> Answer:
    """200 with the revision, and the lease that was granted along, if one was.

    Raises the error that another result stands for.
    """
    if not isinstance(result, Written):
        raise refusal(result)
    granted = b',"lease":"%d"' % lease if lease else b""
    return answer(
        200,
        b'{"revision":%d,"version":%d%s}\n' % (result.revision, result.version, granted),
        headers=b'ETag: "%d"\r\n' % result.revision,
    )


def deleted_answer(result: Result) -> Answer:
    """200 with the revision and how many keys are gone. Raises like `written_answer`."""
    if not isinstance(result, Deleted):
        raise refusal(result)
    return answer(200, b'{"revision":%d,"deleted":%d}\n' % (result.revision, result.deleted))


# -- handlers -------------------------------------------------------------------------------


async def get(ask: Ask[None]) -> Answer:
    """The value; 304 if the caller has it, 404 if there is none. Or what happened to the key."""
    key = params.decode_key(ask.parameter)
    options = ReadOptions(0, False, ask.config.request_timeout_s)
    if ask.query:
        found = ask.options()
        options = params.read_options(found, ask.config)
        if "history" in found and params.flag(found["history"], "history"):
            limit = LIMIT_DEFAULT
            if "limit" in found:
                limit = params.integer(found["limit"], "limit", 1, LIMIT_MAX)
            return await history_answer(ask.session, key, options, limit)
        if "limit" in found:
            raise Contradiction("limit is for history; a key has one value")
    await ask.session.readable(*options)
    return _value(ask.request, ask.session.get(key, options.revision), options.revision)


def _value(request: web.BaseRequest, found: KeyValue | None, revision: int) -> Answer:
    """The answer to a read of one key, as the request's conditions ask for it."""
    if found is None:
        raise KeyNotFound(absent(revision))
    headers = request.headers
    if hdrs.IF_MATCH in headers and not params.etag_matches(
        request, hdrs.IF_MATCH, found.mod_revision, weak=False
    ):
        raise ConditionFailed(found.mod_revision)
    if hdrs.IF_NONE_MATCH in headers and params.etag_matches(
        request, hdrs.IF_NONE_MATCH, found.mod_revision, weak=True
    ):
        return answer(304, headers=_value_headers(found))
    return value_answer(found)


async def put(ask: Ask[None]) -> Answer:
    """Write the body under the key, with a lease if the query asks for one."""
    key = params.decode_key(ask.parameter)
    found = ask.options()
    timeout_s = params.write_timeout(found, ask.config)
    lease, ttl_s = _lease_options(found)
    condition = params.write_condition(ask.request)
    value = await ask.body()
    if not ttl_s:
        command = Put(key, value, condition, lease)
        return written_answer(await ask.execute(command, timeout_s))
    once = ask.idempotency_key()
    while True:
        lease = new_lease(once, key, value)
        command = Put(key, value, condition, lease, ttl_s)
        result = await ask.execute(command, timeout_s)
        if not isinstance(result, LeaseTaken) or once is not None:
            return written_answer(result, lease)


async def delete(ask: Ask[None]) -> Answer:
    """Remove the key; `deleted` is 0 if there was nothing to remove."""
    key = params.decode_key(ask.parameter)
    timeout_s = params.write_timeout(ask.options(), ask.config)
    result = await ask.execute(Delete(key, params.write_condition(ask.request)), timeout_s)
    return deleted_answer(result)


def _lease_options(found: dict[str, bytes]) -> tuple[int, int]:
    """The lease that the key is to have, and for one of its own the seconds; 0 for none."""
    if "ttl" not in found:
        text = found.get("lease")
        return (0 if text is None else lease_id(text.decode("utf-8", "replace"))), 0
    if "lease" in found:
        raise Contradiction("ttl grants a lease of its own; send it without lease")
    return 0, max(params.integer(found["ttl"], "ttl", 1, LEASE_TTL_S_MAX), LEASE_TTL_S_MIN)


def absent(revision: int) -> str:
    return (
        f"the key does not exist at revision {revision}" if revision else "the key does not exist"
    )


_ETAG = {"ETag": "The revision of the last change, in double quotes"}
_VALUE_HEADERS = {
    **_ETAG,
    "X-Create-Revision": "The revision that created the key",
    "X-Version": "How often the key was written since it was created",
    "X-Lease": "The lease that the key ends with; left out if it has none",
}
_REVISION = {"revision": {"type": "integer", "description": "The store's revision"}}
_GET = Doc(
    "Read a value, or a key's history",
    query=GET_QUERY,
    headers=("If-None-Match", "If-Match"),
    answers={
        200: {
            "description": "The value; or, with `history`, what happened to the key, newest first, "
            "as far as it is not compacted",
            "content": {
                "application/octet-stream": {"type": "string"},
                "application/json": {"type": "object", "properties": HISTORY_PROPERTIES},
            },
            "headers": _VALUE_HEADERS,
        },
        304: {"description": "If-None-Match covers the current revision", "headers": _ETAG},
    },
    problems=(KeyNotFound, ConditionFailed, Contradiction, *READ_PROBLEMS),
)
_HEAD = Doc(
    "Read a value's headers",
    query=GET_QUERY,
    headers=("If-None-Match", "If-Match"),
    answers={
        200: {"description": "The key exists", "headers": _VALUE_HEADERS},
        304: {"description": "If-None-Match covers the current revision", "headers": _ETAG},
    },
    problems=(KeyNotFound, ConditionFailed, Contradiction, *READ_PROBLEMS),
)
_PUT = Doc(
    "Write a value",
    query=PUT_QUERY,
    headers=("If-Match", "If-None-Match", "Idempotency-Key"),
    body={"application/octet-stream": {"type": "string", "format": "binary"}},
    answers={
        200: {
            "description": "Written, and durable on a quorum",
            "headers": _ETAG,
            "properties": {
                **_REVISION,
                "version": {"type": "integer", "description": "1 for a new key, then rising"},
                "lease": {"type": "string", "description": "With `ttl`: the lease granted"},
            },
            "required": ["revision", "version"],
        },
    },
    problems=(
        ConditionFailed,
        LeaseNotFound,
        LeaseExists,
        WorkTooLarge,
        *WRITE_PROBLEMS,
        *BODY_PROBLEMS,
    ),
)
_DELETE = Doc(
    "Remove a key",
    query=WRITE_QUERY,
    headers=("If-Match", "If-None-Match", "Idempotency-Key"),
    answers={
        200: {
            "description": "The key does not exist now",
            "properties": {
                **_REVISION,
                "deleted": {"type": "integer", "enum": [0, 1], "description": "Keys removed"},
            },
        },
    },
    problems=(ConditionFailed, *WRITE_PROBLEMS),
)

PATH = "/v1/kv/{key}"
CALLS = (
    Call("GET", PATH, get, Need.CALLER, _GET),
    Call("HEAD", PATH, get, Need.CALLER, _HEAD),
    Call("PUT", PATH, put, Need.CALLER, _PUT, VALUE_BYTES_MAX),
    Call("DELETE", PATH, delete, Need.CALLER, _DELETE),
)
