"""`POST /v1/batch`: many operations in one request, each with its own answer. Not atomic.

Operations on one key happen in the order given; others may overtake each other, and together they
fill one bundle, which is what makes a batch cheap.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson
from aiohttp import hdrs, web

from http_api.core import params
from http_api.core.account_session import SessionCommand
from http_api.core.bodies import check_elements
from http_api.core.browsers import stream_headers
from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.problems import problem_document, refusal
from http_api.core.responses import JSON, answer
from http_api.core.session import GROUP_BYTES_MAX, GROUP_MAX, Session
from http_api.core.streams import StreamLink
from http_api.v1.batch_steps import (
    OPERATIONS_MAX,
    FailedStep,
    ReadStep,
    Step,
    between,
    steps,
    waves,
)
from http_api.v1.documents import INTEGER, ITEM, TEXT, item_document
from http_api.v1.kv import BODY_PROBLEMS, WRITE_PROBLEMS, absent
from kvstore.commands.commands import Delete, Put
from kvstore.commands.results import Deleted, Outcome, Result, Written
from kvstore.errors import KeyNotFound, KvError, TooManyOperations

BATCH_BYTES_MAX = 8 << 20
BYTES_PER_WRITE = 256 << 10
NDJSON = "application/x-ndjson"

_Done = Outcome | None
"""Of a write its outcome, of a read whether the state may be read now, or the error."""


async def post(ask: Ask[None]) -> web.StreamResponse:
    """Run the operations, and stream their answers: values may be many and large."""
    timeout_s = params.write_timeout(ask.options(), ask.config)
    once = ask.idempotency_key()
    content_type = ask.request.headers.get(hdrs.CONTENT_TYPE, "")
    lines = content_type.partition(";")[0].strip() == NDJSON
    body = await ask.body()
    await check_elements(body)
    found = await steps(body, lines, once, ask.session.rest)
    del body
    if not found:
        return answer(200, b"" if lines else b"[]\n", NDJSON.encode() if lines else JSON)
    content_type = NDJSON if lines else JSON.decode()
    response = web.StreamResponse(headers=stream_headers(ask.request, content_type))
    out = _Out(ask.request, response, lines)
    try:
        for wave in waves(found):
            results = await _run(ask, found, wave, once, timeout_s)
            for at in wave:
                await between(at, ask.session.rest)
                if out.add(_answer(ask.session, found[at], results[at])):
                    await out.flush()
        await out.finish()
    finally:
        out.close()
    return response


async def _run(
    ask: Ask[None], found: list[Step], wave: range, once: bytes | None, timeout_s: float
) -> dict[int, _Done]:
    """Run the steps of a wave."""
    results: dict[int, _Done] = dict.fromkeys(wave)
    begun: list[tuple[list[int], asyncio.Future[list[Outcome]] | KvError]] = []
    for group in _groups(found, wave, min(GROUP_MAX, ask.config.pending_requests_max)):
        if begun:
            await ask.session.rest()
        begun.append((group, _submit(ask, found, group, once, timeout_s)))
    reads = [at for at in wave if isinstance(found[at], ReadStep)]
    if reads:
        try:
            await ask.session.read_barrier(timeout_s)
        except KvError as error:
            results |= dict.fromkeys(reads, error)
    for group, outcomes in begun:
        try:
            if isinstance(outcomes, KvError):
                raise outcomes
            results |= zip(group, await outcomes, strict=True)
        except KvError as error:
            results |= dict.fromkeys(group, error)
    return results


def _groups(found: list[Step], wave: range, count_max: int) -> Iterator[list[int]]:
    """The writes of a wave, some at a time."""
    group: list[int] = []
    size = 0
    for at in wave:
        step = found[at]
        if isinstance(step, Put):
            more = len(step.key) + len(step.value)
        elif isinstance(step, Delete):
            more = len(step.key)
        else:
            continue
        if group and (len(group) == count_max or size + more > GROUP_BYTES_MAX):
            yield group
            group, size = [], 0
        group.append(at)
        size += more
    if group:
        yield group


def _submit(
    ask: Ask[None], found: list[Step], group: list[int], once: bytes | None, timeout_s: float
) -> "asyncio.Future[list[Outcome]] | KvError":
    """Begin the writes of a group."""
    commands = [
        _once(ask, step, once, at) for at in group if isinstance(step := found[at], Put | Delete)
    ]
    try:
        return ask.session.submit_group(commands, timeout_s)
    except KvError as error:
        return error


def _once(ask: Ask[None], command: Put | Delete, once: bytes | None, at: int) -> SessionCommand:
    """Each write of a batch is one of its own under the batch's key. No key that a caller can
    send holds a zero byte."""
    return command if once is None else ask.once(b"%s\0%d" % (once, at), command)


def _answer(session: Session, step: Step, result: _Done) -> bytes:
    """One answer."""
    if isinstance(result, Written) and isinstance(step, Put) and not step.ttl_s:
        # Most are; the same as below, in one step.
        written = result.revision, result.version
        return b'{"status":200,"put":{"revision":%d,"version":%d}}' % written
    return orjson.dumps(_document(session, step, result))


def _document(session: Session, step: Step, result: _Done) -> dict[str, Any]:
    try:
        if isinstance(result, BaseException):
            raise result
        match step:
            case FailedStep(error):
                raise error
            case ReadStep(key, revision):
                item = session.get(key, revision)
                if item is None:
                    raise KeyNotFound(absent(revision))
                return {"status": 200, "get": item_document(item)}
            case _:
                return {"status": 200, **_written(step, result)}
    except KvError as error:
        document = problem_document(error)
        return {"status": document["status"], "problem": document}


def _written(step: Put | Delete, result: Result | None) -> dict[str, Any]:
    if isinstance(step, Put) and isinstance(result, Written):
        document: dict[str, Any] = {"revision": result.revision, "version": result.version}
        if step.ttl_s:
            document["lease"] = str(step.lease)
        return {"put": document}
    if isinstance(result, Deleted):
        return {"delete": {"revision": result.revision, "deleted": result.deleted}}
    assert result is not None
    raise refusal(result)


class _Out:
    """Collects answers, and sends them whenever there are enough."""

    def __init__(self, request: web.BaseRequest, response: web.StreamResponse, lines: bool) -> None:
        self._request = request
        self._response = response
        self._link: StreamLink | None = None
        self._lines = lines
        self._waiting: list[bytes] = []
        self._size = 0
        self._first = True

    def add(self, data: bytes) -> bool:
        """The next answer; whether there is enough to send."""
        if self._lines:
            self._waiting.append(data + b"\n")
        else:
            self._waiting.append((b"[" if self._first else b",\n") + data)
        self._first = False
        self._size += len(data)
        return self._size >= BYTES_PER_WRITE

    async def finish(self) -> None:
        if not self._lines:
            self._waiting.append(b"]\n")
        await self.flush()

    async def flush(self) -> None:
        """Send what waits."""
        if not self._response.prepared:
            await self._response.prepare(self._request)
        data, self._waiting, self._size = b"".join(self._waiting), [], 0
        if data:
            if self._link is None:
                self._link = StreamLink(self._request)
            await self._link.send(data)

    def close(self) -> None:
        """Give the connection back."""
        if self._link is not None:
            self._link.release()


_ANSWER = {
    "type": "object",
    "properties": {
        "status": {"type": "integer", "description": "As the operation alone would answer"},
        "put": {
            "type": "object",
            "properties": {"revision": INTEGER, "version": INTEGER, "lease": TEXT},
            "required": ["revision", "version"],
            "additionalProperties": False,
        },
        "get": ITEM,
        "delete": {
            "type": "object",
            "properties": {"revision": INTEGER, "deleted": INTEGER},
            "required": ["revision", "deleted"],
            "additionalProperties": False,
        },
        "problem": {"$ref": "#/components/schemas/Problem"},
    },
    "required": ["status"],
    "additionalProperties": False,
}
_OPERATION = {"$ref": "#/components/schemas/BatchOperation"}
_DOC = Doc(
    "Many operations, each with its own answer; not atomic",
    query=("timeout",),
    headers=("Idempotency-Key",),
    body={
        "application/json": {"type": "array", "items": _OPERATION, "maxItems": OPERATIONS_MAX},
        NDJSON: {"type": "string", "description": "One operation in each line"},
    },
    answers={
        200: {
            "description": "One answer for each operation, in order: an array for an array, lines "
            "for lines. Operations on one key happen in order.",
            "content": {
                "application/json": {"type": "array", "items": _ANSWER},
                NDJSON: {"type": "string", "description": "One answer in each line"},
            },
        }
    },
    problems=(TooManyOperations, *WRITE_PROBLEMS, *BODY_PROBLEMS),
)
CALLS = (Call("POST", "/v1/batch", post, Need.CALLER, _DOC, BATCH_BYTES_MAX),)
