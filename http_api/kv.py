"""`/v1/kv/{key}`: one key. PUT and GET here are the hot paths of the server."""

from aiohttp import hdrs, web

from http_api import params
from http_api.context import Context
from http_api.params import ReadOptions
from http_api.problems import (
    BodyTimeout,
    Contradiction,
    ExpectationFailed,
    KeyNotFound,
    Malformed,
    UnsupportedMedia,
    refusal,
)
from http_api.responses import Answer, answer
from http_api.router import Doc, Route
from kvstore.command import VALUE_BYTES_MAX, Delete, Deleted, Put, Result, Written
from kvstore.errors import (
    ConditionFailed,
    IdempotencyMismatch,
    InvalidArgument,
    NoQuorum,
    OutcomeUnknown,
    Overloaded,
    RevisionCompacted,
    RevisionInFuture,
    Stopping,
    TooLarge,
)
from kvstore.operation import KeyValue

READ_QUERY = ("revision", "consistency", "timeout")
WRITE_QUERY = ("consistency", "timeout")
READ_PROBLEMS = (
    InvalidArgument,
    RevisionInFuture,
    RevisionCompacted,
    NoQuorum,
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


def _value_headers(found: KeyValue) -> bytes:
    return b'ETag: "%d"\r\nX-Create-Revision: %d\r\nX-Version: %d\r\n' % (
        found.mod_revision,
        found.create_revision,
        found.version,
    )


def value_answer(found: KeyValue) -> Answer:
    """200 with the raw value."""
    return answer(200, found.value, _OCTETS, _value_headers(found))


def written_answer(result: Result) -> Answer:
    """200 with the revision. Raises the error that another result stands for."""
    if not isinstance(result, Written):
        raise refusal(result)
    return answer(
        200,
        b'{"revision":%d,"version":%d}\n' % (result.revision, result.version),
        headers=b'ETag: "%d"\r\n' % result.revision,
    )


class Kv:
    """The handlers of one key."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._config = context.config
        self._default_read = ReadOptions(0, False, context.config.request_timeout_s)

    async def get(self, request: web.BaseRequest, raw_key: str, query: str) -> Answer:
        """The value; 304 if the caller has it, 404 if there is none."""
        key = params.decode_key(raw_key)
        options = self._default_read
        if query:
            options = params.read_options(params.parse_query(query, READ_QUERY), self._config)
        state = await self._context.readable(options)
        found = state.get(key, options.revision)
        if found is None:
            raise KeyNotFound(absent(options.revision))
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

    async def put(self, request: web.BaseRequest, raw_key: str, query: str) -> Answer:
        """Write the body under the key."""
        key = params.decode_key(raw_key)
        timeout_s = self._write_timeout(query)
        condition = params.write_condition(request)
        value = await self._context.bodies.read(request, VALUE_BYTES_MAX)
        command = Put(key, value, condition)
        return written_answer(await self._context.execute(request, command, timeout_s))

    async def delete(self, request: web.BaseRequest, raw_key: str, query: str) -> Answer:
        """Remove the key; `deleted` is 0 if there was nothing to remove."""
        key = params.decode_key(raw_key)
        timeout_s = self._write_timeout(query)
        command = Delete(key, params.write_condition(request))
        result = await self._context.execute(request, command, timeout_s)
        if not isinstance(result, Deleted):
            raise refusal(result)
        return answer(200, b'{"revision":%d,"deleted":%d}\n' % (result.revision, result.deleted))

    def _write_timeout(self, query: str) -> float:
        if not query:
            return self._config.request_timeout_s
        return params.write_timeout(params.parse_query(query, WRITE_QUERY), self._config)

    def routes(self) -> list[Route]:
        """The calls of this resource."""
        path = "/v1/kv/{key}"
        return [
            Route("GET", path, self.get, _GET),
            Route("HEAD", path, self.get, _HEAD),
            Route("PUT", path, self.put, _PUT),
            Route("DELETE", path, self.delete, _DELETE),
        ]


def absent(revision: int) -> str:
    return (
        f"the key does not exist at revision {revision}" if revision else "the key does not exist"
    )


_ETAG = {"ETag": "The revision of the last change, in double quotes"}
_VALUE_HEADERS = {
    **_ETAG,
    "X-Create-Revision": "The revision that created the key",
    "X-Version": "How often the key was written since it was created",
}
_REVISION = {"revision": {"type": "integer", "description": "The store's revision"}}
_GET = Doc(
    "Read a value",
    query=READ_QUERY,
    headers=("If-None-Match", "If-Match"),
    answers={
        200: {"description": "The value", "type": "application/octet-stream",
              "headers": _VALUE_HEADERS},
        304: {"description": "If-None-Match covers the current revision", "headers": _ETAG},
    },
    problems=(KeyNotFound, ConditionFailed, *READ_PROBLEMS),
)  # fmt: skip
_HEAD = Doc(
    "Read a value's headers",
    query=READ_QUERY,
    headers=("If-None-Match", "If-Match"),
    answers={
        200: {"description": "The key exists", "headers": _VALUE_HEADERS},
        304: {"description": "If-None-Match covers the current revision", "headers": _ETAG},
    },
    problems=(KeyNotFound, ConditionFailed, *READ_PROBLEMS),
)
_PUT = Doc(
    "Write a value",
    query=WRITE_QUERY,
    headers=("If-Match", "If-None-Match", "Idempotency-Key"),
    body={"type": "application/octet-stream", "schema": {"type": "string", "format": "binary"}},
    answers={
        200: {
            "description": "Written, and durable on a quorum",
            "headers": _ETAG,
            "properties": {
                **_REVISION,
                "version": {"type": "integer", "description": "1 for a new key, then rising"},
            },
        },
    },
    problems=(ConditionFailed, *WRITE_PROBLEMS, *BODY_PROBLEMS),
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
