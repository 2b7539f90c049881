"""Requests of this node that wait: commands for their results, reads for their slot.

Commands gather in the open bundle until the replica seals it: it gets a number, and from then on it
may be sent, and sent again. A request that times out before its bundle was sent was certainly not
applied; afterwards nobody knows.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from kvstore.commands.batches import Bundle
from kvstore.commands.binary import encode
from kvstore.commands.commands import AsUser, Command, Once, Put
from kvstore.commands.results import Outcome, Result
from kvstore.errors import KvError, NoQuorum, OutcomeUnknown, Overloaded
from kvstore.replica.stages import Stages
from paxos.ballot import ZERO, Ballot

_NOT_SENT = "no leader could reach a quorum in time; nothing was written"
_COVERED = "the write was applied while this node caught up by a snapshot; its result is not known"
_UNKNOWN = "not answered in time; the write may have been applied, or may yet be"

WORK_MAX = 2_500
"""What the commands of one bundle cost at apply, in keys looked at, or one command that alone may
cost more; and what a slot has before it takes another bundle."""

COMMAND_BYTES = 64
"""What a command costs beside its key and value."""


@dataclass(slots=True)
class _Request:
    """Commands that are answered together. The future gets the results as a list if `grouped`,
    else the one there is."""

    commands: tuple[Command, ...]
    future: asyncio.Future[Any]
    deadline_s: float
    size: int
    work: int
    came_s: float
    grouped: bool = False


@dataclass(slots=True)
class Sealed:
    """A numbered bundle. `work` is about what applying it costs, in keys looked at; `sent_in` is
    the leader's ballot it was last sent under, ZERO if never."""

    number: int
    encoded: bytes
    requests: list[_Request]
    work: int
    sent_in: Ballot = ZERO
    sent_tick: int = 0


def command_bytes(command: Command) -> int:
    """What `command` takes in a slot, or a little more: whatever it carries counts."""
    size, inner = COMMAND_BYTES, command
    if isinstance(inner, Put):  # most are
        return size + len(inner.key) + len(inner.value)
    if isinstance(inner, AsUser):
        size += len(inner.user.encode())
        inner = inner.command
    if isinstance(inner, Once):
        size += len(inner.idempotency_key)
        inner = inner.command
    if isinstance(inner, Put):
        return size + len(inner.key) + len(inner.value)
    return size + len(encode(inner))


@dataclass(slots=True)
class PendingWrites:
    """All writes of this node that are not answered yet, within bounds.

    `origin`, this node, and `start`, which of its starts this is, name the process in its bundles.
    """

    origin: int
    start: int
    requests_max: int
    bytes_max: int
    bundle_bytes_max: int
    stages: Stages
    open: deque[_Request] = field(default_factory=deque)
    sealed: dict[int, Sealed] = field(default_factory=dict)
    requests: int = 0
    bytes: int = 0
    _next_number: int = 1

    def add(
        self,
        command: Command,
        future: "asyncio.Future[Result]",
        deadline_s: float,
        work: int = 1,
    ) -> None:
        """Join the open bundle; applying the command costs about as much as looking at `work` keys.
        Raises Overloaded at a bound."""
        size, now_s = command_bytes(command), self.stages.now()
        self._add(_Request((command,), future, deadline_s, size, work, now_s))

    def add_group(
        self,
        commands: Sequence[Command],
        future: "asyncio.Future[list[Outcome]]",
        deadline_s: float,
        work: int,
    ) -> None:
        """Commands for one bundle, answered together, that cost so much `work` together. Raises
        Overloaded at a bound: then none of them has joined."""
        size = sum(map(command_bytes, commands))
        now_s = self.stages.now()
        self._add(_Request(tuple(commands), future, deadline_s, size, work, now_s, True))

    def _add(self, request: _Request) -> None:
        count = len(request.commands)
        if self.requests + count > self.requests_max or self.bytes + request.size > self.bytes_max:
            raise Overloaded(
                f"{self.requests} writes of {self.bytes} bytes are waiting here already"
            )
        self.requests += count
        self.bytes += request.size
        self.open.append(request)

    def seal(self) -> Sealed | None:
        """Number what is open, up to a bundle's size and work; None if nothing is."""
        if not self.open:
            return None
        taken: list[_Request] = []
        size = work = 0
        while self.open and (
            not taken
            or (
                size + self.open[0].size <= self.bundle_bytes_max
                and work + self.open[0].work <= WORK_MAX
            )
        ):
            request = self.open.popleft()
            size += request.size
            work += request.work
            taken.append(request)
        self.stages.batch.observe(self.stages.now() - taken[0].came_s)
        number = self._next_number
        self._next_number += 1
        floor = min(self.sealed, default=number)
        commands = tuple(chain.from_iterable(request.commands for request in taken))
        bundle = Bundle(self.origin, self.start, number, floor, commands)
        sealed = self.sealed[number] = Sealed(number, encode(bundle), taken, work)
        return sealed

    def resolve(self, number: int, results: list[Result]) -> None:
        """This node's state machine applied the bundle: answer its requests."""
        sealed = self.sealed.pop(number, None)
        if sealed is None:
            return
        at = 0
        for request in sealed.requests:
            self._forget(request)
            end = at + len(request.commands)
            if not request.future.done():
                request.future.set_result(results[at:end] if request.grouped else results[at])
            at = end

    def covered(self, applied: Callable[[int, int, int], bool]) -> None:
        """A snapshot has brought the state forward. What was `applied(origin, start, number)` by
        it has a result that this node will never see: answer at once, and make room."""
        for number in list(self.sealed):
            if applied(self.origin, self.start, number):
                for request in self.sealed.pop(number).requests:
                    self._reject(request, OutcomeUnknown(_COVERED))

    def expire(self, now_s: float) -> None:
        """Answer the requests whose time is up. A bundle that nobody waits for is given up."""
        if any(request.deadline_s <= now_s for request in self.open):
            waiting, self.open = self.open, deque()
            for request in waiting:
                if request.deadline_s > now_s:
                    self.open.append(request)
                else:
                    self._reject(request, NoQuorum(_NOT_SENT))
        for sealed in list(self.sealed.values()):
            if sealed.requests and all(r.deadline_s <= now_s for r in sealed.requests):
                del self.sealed[sealed.number]
                error: KvError
                error = NoQuorum(_NOT_SENT) if sealed.sent_in == ZERO else OutcomeUnknown(_UNKNOWN)
                for request in sealed.requests:
                    self._reject(request, error)
            else:
                self._expire_some(sealed, now_s)

    def _expire_some(self, sealed: Sealed, now_s: float) -> None:
        for request in sealed.requests:
            if request.deadline_s <= now_s and not request.future.done():
                request.future.set_exception(OutcomeUnknown(_UNKNOWN))

    def fail_all(self, unsent: KvError, sent: KvError) -> None:
        """The node stops: answer everyone."""
        for sealed in self.sealed.values():
            for request in sealed.requests:
                self._reject(request, unsent if sealed.sent_in == ZERO else sent)
        for request in self.open:
            self._reject(request, unsent)
        self.sealed.clear()
        self.open.clear()

    def _reject(self, request: _Request, error: KvError) -> None:
        self._forget(request)
        if not request.future.done():
            request.future.set_exception(error)

    def _forget(self, request: _Request) -> None:
        self.requests -= len(request.commands)
        self.bytes -= request.size


_Waiting = tuple["asyncio.Future[None]", float, int]
"""What waits for a barrier, until when, and how many reads that are."""


@dataclass(slots=True)
class PendingReads:
    """Linearizable reads. Those of one turn of the loop share a token, and so a probe."""

    reads_max: int
    reads: int = 0
    _open: list[_Waiting] = field(default_factory=list)
    _groups: dict[int, list[_Waiting]] = field(default_factory=dict)
    _ready: list[tuple[int, int]] = field(default_factory=list)
    _next_token: int = 1

    def add(self, future: "asyncio.Future[None]", deadline_s: float, count: int = 1) -> None:
        """So many reads that are served together. Raises Overloaded at the bound."""
        if self.reads + count > self.reads_max:
            raise Overloaded(f"{self.reads} reads are waiting here already")
        self.reads += count
        self._open.append((future, deadline_s, count))

    def take_token(self) -> int | None:
        """A token for all reads that came since the last one; None if there are none."""
        if not self._open:
            return None
        token = self._next_token
        self._next_token += 1
        self._groups[token], self._open = self._open, []
        return token

    def ready(self, token: int, slot: int, applied_through: int) -> None:
        """The reads of `token` may be served once `slot` is applied."""
        if slot <= applied_through:
            self._serve(token)
        else:
            self._ready.append((slot, token))

    def applied(self, applied_through: int) -> None:
        """More is applied: serve what waited for it."""
        if self._ready:
            waiting, self._ready = self._ready, []
            for slot, token in waiting:
                self.ready(token, slot, applied_through)

    def _serve(self, token: int) -> None:
        for future, _, count in self._groups.pop(token, ()):
            self.reads -= count
            if not future.done():
                future.set_result(None)

    def expire(self, now_s: float) -> set[int]:
        """Answer the reads whose time is up; the tokens nobody waits for any more."""
        given_up = set()
        for token, group in list(self._groups.items()):
            kept = self._keep(group, now_s)
            if kept:
                self._groups[token] = kept
            else:
                del self._groups[token]
                given_up.add(token)
        self._open = self._keep(self._open, now_s)
        self._ready = [(slot, token) for slot, token in self._ready if token not in given_up]
        return given_up

    def _keep(self, group: list[_Waiting], now_s: float) -> list[_Waiting]:
        kept = []
        for future, deadline_s, count in group:
            if deadline_s > now_s:
                kept.append((future, deadline_s, count))
                continue
            self.reads -= count
            if not future.done():
                future.set_exception(NoQuorum("no quorum confirmed the leader in time"))
        return kept

    def fail_all(self, error: KvError) -> None:
        """The node stops: answer everyone."""
        for group in [*self._groups.values(), self._open]:
            for future, _, _ in group:
                if not future.done():
                    future.set_exception(error)
        self._groups.clear()
        self._open = []
        self.reads = 0
