"""`POST /v1/batch`: many operations in one request, each with its own answer. Not atomic.

Operations on one key happen in the order given; others may overtake each other, and together they
fill one bundle, which is what makes a batch cheap.
"""

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import orjson
from aiohttp import hdrs, web
from msgspec import Meta

from http_api.core import params
from http_api.core.bodies import ELEMENTS_MAX, check_elements, parse_json
from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.problems import problem_document, refusal
from http_api.core.responses import JSON, answer
from http_api.core.session import GROUP_BYTES_MAX, GROUP_MAX, Session, SessionCommand
from http_api.core.streams import StreamLink
from http_api.v1.documents import (
    INTEGER,
    ITEM,
    LEASE_MAX,
    TEXT,
    Base64,
    LeaseIdText,
    Revision,
    Text,
    checked_key,
    checked_value,
    item_document,
    lease_id,
    new_lease,
    octets,
)
from http_api.v1.kv import BODY_PROBLEMS, WRITE_PROBLEMS, absent
from kvstore.commands.commands import ABSENT, EXISTS, Condition, Delete, Put
from kvstore.commands.results import Deleted, Outcome, Result, Written
from kvstore.errors import Contradiction, KeyNotFound, KvError, Malformed, TooManyOperations
from kvstore.state.lease_table import LEASE_TTL_S_MAX, LEASE_TTL_S_MIN

OPERATIONS_MAX = 1000
BATCH_BYTES_MAX = 8 << 20
BYTES_PER_WRITE = 256 << 10
NDJSON = "application/x-ndjson"


class _Conditional(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """At most one of the conditions."""

    key: Text = None
    key_base64: Base64 = None
    if_revision: Annotated[int, Meta(ge=1, le=LEASE_MAX)] | None = None
    if_absent: bool = False
    if_exists: bool = False

    def condition(self) -> Condition | None:
        if (self.if_revision is not None) + self.if_absent + self.if_exists > 1:
            raise Contradiction("send one of if_revision, if_absent and if_exists")
        if self.if_revision is not None:
            return Condition(self.if_revision)
        if self.if_absent:
            return ABSENT
        return EXISTS if self.if_exists else None

    def name(self) -> bytes:
        return checked_key(octets("key", self.key, self.key_base64))


class BatchPut(_Conditional, kw_only=True, forbid_unknown_fields=True):
    """Like PUT of one key."""

    value: Text = None
    value_base64: Base64 = None
    lease: LeaseIdText | None = None
    ttl_s: Annotated[int, Meta(ge=1, le=LEASE_TTL_S_MAX)] | None = None


class BatchDelete(_Conditional, kw_only=True, forbid_unknown_fields=True):
    """Like DELETE of one key."""


class BatchGet(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Like GET of one key."""

    key: Text = None
    key_base64: Base64 = None
    revision: Revision = 0


class BatchOperation(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Exactly one of them."""

    put: BatchPut | None = None
    get: BatchGet | None = None
    delete: BatchDelete | None = None


_decode_array = msgspec.json.Decoder(list[BatchOperation]).decode
_decode_lines = msgspec.json.Decoder(BatchOperation).decode_lines


class _BatchGet(msgspec.Struct):
    """A read, as the batch runs it."""

    key: bytes
    revision: int


class _Failed(msgspec.Struct):
    """An operation that cannot be."""

    error: KvError
    key: None = None


_Step = _BatchGet | Put | Delete | _Failed


def steps(body: bytes, lines: bool, once: bytes | None) -> list[_Step]:
    """What the operations say; one that cannot be has its error in its place.

    Raises Malformed, InvalidArgument or TooManyOperations if the body as a whole cannot be.
    """
    if lines and body.count(b"\n") + body.count(b"\r") > ELEMENTS_MAX:
        raise TooManyOperations(OPERATIONS_MAX)
    operations = _sound_operations(body, lines)
    if operations is None:
        return _some_steps(body, lines, once)
    if len(operations) > OPERATIONS_MAX:
        raise TooManyOperations(OPERATIONS_MAX)
    found: list[_Step] = []
    for at, operation in enumerate(operations):
        try:
            found.append(_step(operation, at, once))
        except KvError as error:
            found.append(_Failed(error))
    return found


def _sound_operations(body: bytes, lines: bool) -> list[BatchOperation] | None:
    """All of them, decoded in one step; None if anything is wrong with the form of one."""
    try:
        return _decode_lines(body) if lines else _decode_array(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _some_steps(body: bytes, lines: bool, once: bytes | None) -> list[_Step]:
    """`steps` of a body of which some cannot be decoded: one by one, to say which."""
    if lines:
        pieces = [line for line in body.splitlines() if line.strip()]
    else:
        pieces = [bytes(raw) for raw in parse_json(list[msgspec.Raw], body)]
    if len(pieces) > OPERATIONS_MAX:
        raise TooManyOperations(OPERATIONS_MAX)
    found: list[_Step] = []
    for at, piece in enumerate(pieces):
        try:
            operation = parse_json(BatchOperation, piece, f"operation {at}")
            found.append(_step(operation, at, once))
        except Malformed:
            raise
        except KvError as error:
            found.append(_Failed(error))
    return found


def _step(operation: BatchOperation, at: int, once: bytes | None) -> _Step:
    put, get, delete = operation.put, operation.get, operation.delete
    if (put is not None) + (get is not None) + (delete is not None) != 1:
        raise Contradiction("an operation is exactly one of put, get and delete")
    if get is not None:
        return _BatchGet(checked_key(octets("key", get.key, get.key_base64)), get.revision)
    if delete is not None:
        return Delete(delete.name(), delete.condition())
    assert put is not None
    value = octets("value", put.value, put.value_base64)
    if value is None:
        raise Contradiction("a put has a value or a value_base64")
    key, value = put.name(), checked_value(value)
    if put.ttl_s is None:
        lease = 0 if put.lease is None else lease_id(put.lease)
        return Put(key, value, put.condition(), lease)
    if put.lease is not None:
        raise Contradiction("a put has a lease or a ttl_s, not both")
    lease = new_lease(once, b"%d" % at, key, value)
    return Put(key, value, put.condition(), lease, max(put.ttl_s, LEASE_TTL_S_MIN))


def waves(found: list[_Step]) -> Iterator[range]:
    """Cut the batch so that, within a wave, no key that is written appears twice."""
    begin = 0
    written: set[bytes] = set()
    read: set[bytes] = set()
    for at, step in enumerate(found):
        key = step.key
        if key is None:
            continue
        reads = isinstance(step, _BatchGet)
        if key in written or (not reads and key in read):
            yield range(begin, at)
            begin, written, read = at, set(), set()
        (read if reads else written).add(key)
    if begin < len(found):
        yield range(begin, len(found))


_Done = Outcome | None
"""Of a write its outcome, of a read whether the state may be read now, or the error."""


async def post(ask: Ask[None]) -> web.StreamResponse:
    """Run the operations, and stream their answers: values may be many and large."""
    timeout_s = params.write_timeout(ask.options(), ask.config)
    once = params.idempotency_key(ask.request)
    content_type = ask.request.headers.get(hdrs.CONTENT_TYPE, "")
    lines = content_type.partition(";")[0].strip() == NDJSON
    body = await ask.body()
    await check_elements(body)
    found = steps(body, lines, once)
    del body
    if not found:
        return answer(200, b"" if lines else b"[]\n", NDJSON.encode() if lines else JSON)
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: NDJSON if lines else JSON.decode()})
    out = _Out(ask.request, response, lines)
    try:
        for wave in waves(found):
            results = await _run(ask, found, wave, once, timeout_s)
            for at in wave:
                if out.add(_answer(ask.session, found[at], results[at])):
                    await out.flush()
        await out.finish()
    finally:
        out.close()
    return response


async def _run(
    ask: Ask[None], found: list[_Step], wave: range, once: bytes | None, timeout_s: float
) -> dict[int, _Done]:
    """Run the steps of a wave."""
    results: dict[int, _Done] = dict.fromkeys(wave)
    begun = [
        (group, _submit(ask, found, group, once, timeout_s))
        for group in _groups(found, wave, min(GROUP_MAX, ask.config.pending_requests_max))
    ]
    reads = [at for at in wave if isinstance(found[at], _BatchGet)]
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


def _groups(found: list[_Step], wave: range, count_max: int) -> Iterator[list[int]]:
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
    ask: Ask[None], found: list[_Step], group: list[int], once: bytes | None, timeout_s: float
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


def _answer(session: Session, step: _Step, result: _Done) -> bytes:
    """One answer."""
    if isinstance(result, Written) and isinstance(step, Put) and not step.ttl_s:
        # Most are; the same as below, in one step.
        written = result.revision, result.version
        return b'{"status":200,"put":{"revision":%d,"version":%d}}' % written
    return orjson.dumps(_document(session, step, result))


def _document(session: Session, step: _Step, result: _Done) -> dict[str, Any]:
    try:
        if isinstance(result, BaseException):
            raise result
        match step:
            case _Failed(error):
                raise error
            case _BatchGet(key, revision):
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
