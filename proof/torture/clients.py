"""The load: clients that read and write a few keys at once, through all nodes.

The keys change every few seconds. So the calls on one key contend, and no key's history grows
longer than a checker can take.
"""

import asyncio
import random
from collections import deque
from dataclasses import dataclass

from proof.histories.history import (
    Call,
    CallOutcome,
    CompareAndDelete,
    CompareAndPut,
    DeleteCall,
    Get,
    PutCall,
    Returned,
)
from proof.torture.cluster import IDEMPOTENCY_TTL_S
from proof.torture.record import OldWrite, RunRecord
from proof.torture.requests import Reply, Requests, key_target

KEYS = 6
KEYS_LAST_S = 3.0
ATTEMPT_S = (0.4, 1.2)
"""Time-outs are drawn anew for each attempt."""
ATTEMPTS_MAX = 4
ANSWER_SHARE = (0.6, 1.2)
"""Of an attempt's time, what the node may take. Above 1 its answer may find nobody."""
BOUNDED_READ_SHARE = 0.5
"""How often a read says how long it may take; the others go by the node's own bound."""
GIVE_UP_SHARE = 0.3
"""How often a client does not try again after a failed attempt, and leaves the outcome open."""
PLAIN_SHARE = 0.3
"""How often a write has no Idempotency-Key. It is then tried again only if it was refused."""
SEND_AGAIN_SHARE = 0.03
"""How often a write that was acknowledged is sent once more to another node."""
REMEMBERED = 64
AGAIN_S_MAX = IDEMPOTENCY_TTL_S / 2
"""How old such a write is at most: answers are kept for longer than that."""
WANDER_SHARE = 0.1
"""How often a client goes to another node without a reason."""
PAUSE_S = (0.01, 0.05)
STALE_READ_KIND = "stale get"
_WEIGHTS = {
    "get": 34,
    STALE_READ_KIND: 10,
    "put": 28,
    "compare-and-put": 16,
    "put if absent": 4,
    "delete": 5,
    "compare-and-delete": 3,
}


@dataclass(frozen=True, slots=True)
class _Write:
    """A write as it is sent, the same on all attempts."""

    kind: str
    key: str
    call: Call
    headers: dict[str, str]

    @property
    def value(self) -> str | None:
        """What the key holds afterwards."""
        return self.call.value if isinstance(self.call, PutCall | CompareAndPut) else None

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again after an attempt that may have been applied."""
        return "Idempotency-Key" in self.headers


class LoadClient:
    """One client, with one call under way at a time. `prefix` begins all its keys and values."""

    def __init__(
        self, number: int, requests: Requests, record: RunRecord, rng: random.Random, prefix: str
    ) -> None:
        self._number = number
        self._requests = requests
        self._record = record
        self._rng = rng
        self._prefix = prefix
        self._nodes = sorted(requests.endpoints)
        self._node = rng.choice(self._nodes)
        self._writes = 0
        self._found: dict[str, tuple[int, str | None]] = {}
        self._answered: deque[tuple[float, _Write, Reply]] = deque(maxlen=REMEMBERED)

    async def run(self, interval_s: float, stop: asyncio.Event) -> None:
        """A call every `interval_s` on average, or as fast as the answers come, until `stop`."""
        while not stop.is_set():
            began = self._record.now_s()
            if self._rng.random() < WANDER_SHARE:
                self._move()
            kind = self._rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
            await self._call(kind, self._draw_key())
            rest_s = began + interval_s * self._rng.uniform(0.5, 1.5) - self._record.now_s()
            if rest_s > 0:
                await asyncio.sleep(rest_s)

    def _draw_key(self) -> str:
        epoch = int(self._record.now_s() / KEYS_LAST_S)
        key = f"{self._prefix}/{epoch}/{self._rng.randrange(KEYS)}"
        if len(self._found) > 2 * KEYS:
            self._found.clear()
        return key

    def _move(self) -> None:
        others = [node for node in self._nodes if node != self._node]
        self._node = self._rng.choice(others or self._nodes)

    async def _call(self, kind: str, key: str) -> None:
        if kind in ("get", STALE_READ_KIND):
            await self._read(kind, key)
            return
        if kind.startswith("compare") and key not in self._found:
            await self._read("get", key)
        revision, held = self._found.get(key, (0, None))
        # What is thought to be absent cannot be compared by revision.
        kind = kind if held is not None or not kind.startswith("compare") else "put if absent"
        await self._change(self._write(kind, key, revision, held))

    # -- reads ------------------------------------------------------------------------------

    async def _read(self, kind: str, key: str) -> None:
        called_s = self._record.now_s()
        timeout_s = self._rng.uniform(*ATTEMPT_S)
        query = {"consistency": "serializable"} if kind == STALE_READ_KIND else {}
        if self._rng.random() < BOUNDED_READ_SHARE:
            query["timeout"] = f"{timeout_s * self._rng.uniform(*ANSWER_SHARE):.3f}"
        reply = await self._requests.send(
            self._node, "GET", key_target(key, **query), timeout_s=timeout_s
        )
        self._complain_of(reply, f"{kind} of {key}")
        if reply.outcome is not CallOutcome.OK:
            self._record.finished(kind, reply.outcome, self._number, key, Get(), called_s)
            await self._after_failure()
            return
        value = None if reply.absent else reply.body.decode(errors="replace")
        if value is not None:
            self._record.seen(key, value, reply.revision)
        if kind == STALE_READ_KIND:
            self._record.counts[kind, CallOutcome.OK] += 1
            return
        self._found[key] = (reply.revision, value)
        self._record.finished(
            kind, CallOutcome.OK, self._number, key, Get(), called_s, Returned(value=value)
        )

    # -- writes -----------------------------------------------------------------------------

    def _write(self, kind: str, key: str, revision: int, held: str | None) -> _Write:
        """The write, with a value of its own and the condition that `kind` asks for."""
        self._writes += 1
        name = f"{self._prefix}-{self._number}-{self._writes}"
        headers = {} if self._rng.random() < PLAIN_SHARE else {"Idempotency-Key": name}
        call: Call
        if kind == "put":
            call = PutCall(name)
        elif kind == "delete":
            call = DeleteCall()
        elif kind == "put if absent":
            call = CompareAndPut(None, name)
            headers["If-None-Match"] = "*"
        else:
            assert held is not None
            put = kind == "compare-and-put"
            call = CompareAndPut(held, name) if put else CompareAndDelete(held)
            headers["If-Match"] = f'"{revision}"'
        return _Write(kind, key, call, headers)

    async def _change(self, write: _Write) -> None:
        if write.value is not None:
            self._record.attempt(write.key, write.value)
        called_s = self._record.now_s()
        outcome, reply = await self._attempts(write)
        answer = None
        if outcome is CallOutcome.OK:
            answer = self._acknowledged(write, reply)
        self._record.finished(
            write.kind, outcome, self._number, write.key, write.call, called_s, answer
        )
        if write.repeatable and answer and answer.held:
            self._remember(write, reply)
            if self._rng.random() < SEND_AGAIN_SHARE:
                await self._send_again()

    def _remember(self, write: _Write, reply: Reply) -> None:
        now_s, record = self._record.now_s(), self._record
        self._answered.append((now_s, write, reply))
        if record.first_put is None and write.kind == "put" and write.value is not None:
            once, revision = write.headers["Idempotency-Key"], reply.document().get("revision", 0)
            record.first_put = OldWrite(write.key, write.value, once, revision, now_s)

    async def _attempts(self, write: _Write) -> tuple[CallOutcome, Reply]:
        """Until an attempt is answered or the client gives up. Unknown beats refused: an earlier
        attempt may yet be applied."""
        unknown = False
        for _ in range(ATTEMPTS_MAX):
            reply = await self._attempt(write)
            self._complain_of(reply, f"{write.kind} of {write.key}")
            if reply.outcome is CallOutcome.OK:
                return CallOutcome.OK, reply
            unknown = unknown or reply.outcome is CallOutcome.UNKNOWN
            if (unknown and not write.repeatable) or self._rng.random() < GIVE_UP_SHARE:
                break
            await self._after_failure()
        return (CallOutcome.UNKNOWN if unknown else CallOutcome.REFUSED), reply

    async def _attempt(self, write: _Write) -> Reply:
        timeout_s = self._rng.uniform(*ATTEMPT_S)
        answer_s = timeout_s * self._rng.uniform(*ANSWER_SHARE)
        value = write.value
        return await self._requests.send(
            self._node,
            "DELETE" if value is None else "PUT",
            key_target(write.key, timeout=f"{answer_s:.3f}"),
            body=None if value is None else value.encode(),
            headers=write.headers,
            timeout_s=timeout_s,
        )

    def _acknowledged(self, write: _Write, reply: Reply) -> Returned:
        if reply.status == 412:
            self._found.pop(write.key, None)
            return Returned(held=False)
        document = reply.document()
        revision = document.get("revision", 0)
        if write.value is None and not document.get("deleted"):
            if isinstance(write.call, CompareAndDelete):
                self._record.complain(f"{write.key}: If-Match held, and nothing was deleted")
            return Returned(held=False)
        self._record.wrote(write.key, write.value, revision)
        self._found[write.key] = (revision, write.value)
        return Returned()

    async def _send_again(self) -> None:
        """A write that was answered just now or a while ago, repeated elsewhere, is answered
        alike and not applied."""
        oldest_s = self._record.now_s() - AGAIN_S_MAX
        answered = [entry for entry in self._answered if entry[0] > oldest_s]
        _, write, first = self._rng.choice(answered or [self._answered[-1]])
        self._move()
        again = await self._attempt(write)
        self._complain_of(again, f"repeated {write.kind} of {write.key}")
        self._record.counts["repeated write", again.outcome] += 1
        if again.outcome is CallOutcome.OK and again.document() != first.document():
            self._record.complain(
                f"{write.key}: {write.headers['Idempotency-Key']} was answered "
                f"{first.body!r}, and when it was sent again {again.body!r}"
            )

    def _complain_of(self, reply: Reply, what: str) -> None:
        if reply.unexpected:
            self._record.complain(f"{what}: answered {reply.status} {reply.body[:200]!r}")

    async def _after_failure(self) -> None:
        self._move()
        await asyncio.sleep(self._rng.uniform(*PAUSE_S))
