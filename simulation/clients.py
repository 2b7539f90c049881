"""Clients of a simulated cluster. They talk to nodes as people's programs do: over a network that
fails them, with time-outs, and with retries at other nodes under one idempotency key.

What a node does for a request is what `http_api` does, without HTTP.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from kvstore.command import (
    ABSENT,
    Command,
    Condition,
    Delete,
    Deleted,
    Mismatched,
    Once,
    Put,
    Result,
    Write,
    Written,
)
from kvstore.errors import KvError, OutcomeUnknown, RevisionCompacted, RevisionInFuture
from kvstore.mvcc import Page
from kvstore.operation import KeyValue
from kvstore.replica import Replica
from paxos.ballot import NodeId
from simulation.history import (
    Answer,
    Call,
    CompareAndDelete,
    CompareAndPut,
    Get,
    Operation,
)
from simulation.history import Delete as DeleteCall
from simulation.history import Put as PutCall
from simulation.scenario import CALLS, LEADER, ClientPlan
from simulation.scheduler import Process
from simulation.trace import Answered, Asked

if TYPE_CHECKING:
    from simulation.world import World

T = TypeVar("T")
Work = Callable[[Replica], Coroutine[Any, Any, T]]

PATIENCE_S = 0.05
"""Between an attempt that failed and the next."""


class Unsent(Exception):
    """The request certainly did nothing: nobody took it, or it was refused."""


class Broken(Exception):
    """No answer: the request may have done its work, or may yet."""


class SimulatedClient:
    """Runs its plan, and records what it was told in the world's history."""

    def __init__(self, world: "World", plan: ClientPlan) -> None:
        self.world = world
        self.plan = plan
        self.process = Process(world.scheduler, f"client-{plan.id}")
        self.done = False
        self._rng: random.Random = world.randomness(f"client/{plan.id}")
        self._node = plan.home
        self._known: dict[str, tuple[str, int]] = {}
        self._writes = 0

    def start(self) -> None:
        """Begin the plan."""
        self.process.post(self.plan.starts_s, lambda: self.process.create_task(self._run()))

    async def _run(self) -> None:
        for _ in range(self.plan.operations):
            await asyncio.sleep(self._rng.uniform(*self.plan.think_s))
            if self.plan.home == LEADER:
                await self._read_at_oldest_leader()
                continue
            call = self._rng.choices(CALLS, self.plan.weights)[0]
            key = f"k{self._rng.randrange(self.world.scenario.keys)}"
            await self._operate(call, key)
        self.done = True

    async def _read_at_oldest_leader(self) -> None:
        """While an older leader still believes that it leads: write at the newest, then read there.
        Nothing else so surely shows a read that nobody confirmed."""
        key = f"k{self._rng.randrange(self.world.scenario.keys)}"
        newest, oldest = self.world.leader(), self.world.oldest_leader()
        if newest is not None and newest != oldest:
            self._node = newest
            await self.put(key)
        await self.get(key, oldest or self._rng.choice([*self.world.members]))

    async def _operate(self, call: str, key: str) -> None:
        known = self._known.get(key)
        match call:
            case "get":
                await self.get(key)
            case "serializable get":
                await self._serializable_get(key)
            case "compare and put" if known is not None:
                put = CompareAndPut(known[0], self._new_value())
                await self.write(key, put, Put(*_put(key, put.value), Condition(known[1])))
            case "put if absent":
                put = CompareAndPut(None, self._new_value())
                await self.write(key, put, Put(*_put(key, put.value), ABSENT))
            case "delete":
                await self.write(key, DeleteCall(), Delete(key.encode()))
            case "compare and delete" if known is not None:
                delete = Delete(key.encode(), Condition(known[1]))
                await self.write(key, CompareAndDelete(known[0]), delete)
            case "page":
                await self._page(0)
            case "old page":
                reference = self.world.monitor.reference
                oldest = max(1, reference.compacted_revision)
                revision = self._rng.randint(1, reference.revision)
                await self._page(oldest if self._rng.random() < 0.5 else revision)
            case "hand over":
                await self._attempt(self._node, "hand over", "", _hand_over)
            case _:
                await self.put(key)

    def _new_value(self) -> str:
        self._writes += 1
        return f"{self.plan.id}.{self._writes}"

    async def put(self, key: str) -> bool:
        """Write a new value; whether it was acknowledged."""
        value = self._new_value()
        return await self.write(key, PutCall(value), Put(*_put(key, value)))

    # -- reading ----------------------------------------------------------------------------

    async def get(self, key: str, node: NodeId | None = None) -> bool:
        """A linearizable read, one attempt; whether it was answered."""
        called_s = self.world.scheduler.now_s
        acknowledged = self.world.monitor.acknowledged_revision
        read = await self._attempt(node or self._node, f"get {key}", key, _reading(key))
        if isinstance(read, Exception):
            return False
        found, revision = read
        self.world.monitor.check_read(revision, acknowledged)
        self._keep(key, found)
        value = None if found is None else found.value.decode()
        self._record(key, Get(), called_s, Answer(value))
        return True

    async def _serializable_get(self, key: str) -> None:
        async def work(replica: Replica) -> KeyValue | None:
            return replica.state.get(key.encode())

        found = await self._attempt(self._node, f"get {key} (serializable)", key, work)
        if isinstance(found, KeyValue):
            self._keep(key, found)

    def _keep(self, key: str, found: KeyValue | None) -> None:
        if found is None:
            self._known.pop(key, None)
            return
        change = self.world.monitor.reference.at(found.mod_revision)
        if change is None or (change.key, change.value) != (found.key, found.value):
            text = f"{key} = {found.value!r} read at revision {found.mod_revision}: {change}"
            self.world.monitor.violated("nothing lost", text, key=key)
        self._known[key] = (found.value.decode(), found.mod_revision)

    async def _page(self, revision: int) -> None:
        acknowledged = self.world.monitor.acknowledged_revision
        limit = self._rng.randint(1, 10)

        async def work(replica: Replica) -> Page:
            await replica.barrier(replica.config.request_timeout_s)
            return replica.state.range(b"k", b"l", revision=revision, limit=limit)

        text = f"page of {limit} at {revision or 'now'}"
        page = await self._attempt(self._node, text, "", work)
        if isinstance(page, Page):
            self.world.monitor.check_page(page, limit, 0 if revision else acknowledged)
            if revision:
                self.world.reached("old revision read")
        elif isinstance(page, RevisionCompacted):
            self.world.reached("read below compaction refused")

    # -- writing ----------------------------------------------------------------------------

    async def write(self, key: str, call: Call, command: Write) -> bool:
        """Send `command` until it is answered or attempts run out; whether it was answered."""
        sent: Command = command
        if self.plan.retries:
            name = f"{self.plan.id}-{self._writes}-{self.world.scheduler.now_us}"
            sent = Once(name.encode(), command, self.world.idempotency_ttl_ms)
        self.world.monitor.issued.add(sent)
        called_s = self.world.scheduler.now_s
        unknown = False
        text = f"{type(call).__name__} {key} {getattr(call, 'value', '')}"
        for attempt in range(1 + self.plan.retries):
            if attempt:
                await asyncio.sleep(PATIENCE_S)
                if unknown:
                    self.world.reached("write retried at another node")
            result = await self._attempt(self._node, text, key, _writing(sent))
            if not isinstance(result, Exception):
                self._written(key, call, called_s, result)
                return True
            unknown = unknown or isinstance(result, Broken)
        if unknown:
            self.world.reached("outcome unknown to a client")
            self.world.history.add(Operation(self.plan.id, key, call, called_s))
        else:
            self.world.monitor.on_denied(sent)
        return False

    def _written(self, key: str, call: Call, called_s: float, result: Result) -> None:
        monitor = self.world.monitor
        held = True
        match result:
            case Written(revision):
                value = getattr(call, "value", "")
                monitor.on_acknowledged(key.encode(), value.encode(), revision)
                self._known[key] = (value, revision)
            case Deleted(revision, deleted):
                held = deleted > 0
                if held:
                    monitor.on_acknowledged(key.encode(), None, revision)
            case Mismatched():
                monitor.violated("exactly once", "a retry was taken for another request", key=key)
            case _:
                held = False
        self._record(key, call, called_s, Answer(held=held))

    def _record(self, key: str, call: Call, called_s: float, answer: Answer) -> None:
        now_s = self.world.scheduler.now_s
        self.world.history.add(Operation(self.plan.id, key, call, called_s, now_s, answer))
        self.world.answered += 1

    # -- one request ------------------------------------------------------------------------

    async def _attempt(self, node: NodeId, text: str, key: str, work: Work[T]) -> T | Exception:
        """One request; its result, or Unsent, Broken, or an error about a revision. After a
        failure the next request goes to another node."""
        world = self.world
        world.asked += 1
        number, now_us = world.asked, world.scheduler.now_us
        world.trace.add(Asked(now_us, number, self.plan.id, node, text, key))
        outcome: T | Exception
        try:
            async with asyncio.timeout(self.plan.timeout_s):
                outcome = await self._ask(node, work)
        except (RevisionCompacted, RevisionInFuture) as error:
            outcome = error
        except (OutcomeUnknown, Broken, TimeoutError) as error:
            outcome = Broken(repr(error))
        except (Unsent, KvError) as error:
            outcome = Unsent(repr(error))
            world.reached("request refused")
        if isinstance(outcome, Broken | Unsent) and world.scenario.nodes > 1:
            others = [n for n in world.members if n != node]
            self._node = self._rng.choice(others)
        said = "ok"
        if isinstance(outcome, Broken | Unsent):
            said = "unknown" if isinstance(outcome, Broken) else "refused"
        world.trace.add(Answered(world.scheduler.now_us, number, said, repr(outcome)[:200]))
        return outcome

    def _ask(self, node: NodeId, work: Work[T]) -> Awaitable[T]:
        """Over the network and back. Raises Unsent, Broken, or what `work` raises."""
        member, rng = self.world.members[node], self._rng
        answer: asyncio.Future[T] = self.process.create_future()

        def reply(task: "asyncio.Task[T] | None", error: Exception | None) -> None:
            """The answer is back."""
            if answer.done():
                return
            error = error or (task.exception() if task is not None else None)  # type: ignore[assignment]
            if error is not None:
                answer.set_exception(error)
            elif task is not None:
                answer.set_result(task.result())

        def send_back(task: "asyncio.Task[T] | None", error: Exception | None = None) -> None:
            if self.world.network.conditions.loss <= rng.random():
                self.process.post(rng.uniform(0.0001, 0.002), reply, task, error)

        def arrive() -> None:
            """At the node, or where it was."""
            program, replica = member.process, member.replica
            if program is None or replica is None:
                if not self.world.network.is_down(node):
                    send_back(None, Unsent("connection refused"))
                return

            def reset() -> None:
                if not self.world.network.is_down(node):
                    send_back(None, Broken("connection reset"))

            def begin() -> None:
                task = program.create_task(work(replica))
                task.add_done_callback(finish)

            def finish(task: "asyncio.Task[T]") -> None:
                program.on_kill.remove(reset)
                send_back(task)

            program.on_kill.append(reset)
            program.post(0, begin)

        self.process.post(rng.uniform(0.0001, 0.002), arrive)
        return answer


def _put(key: str, value: str) -> tuple[bytes, bytes]:
    return key.encode(), value.encode()


def _reading(key: str) -> Work[tuple[KeyValue | None, int]]:
    """What it finds, and the revision of the state that it finds it in."""

    async def work(replica: Replica) -> tuple[KeyValue | None, int]:
        await replica.barrier(replica.config.request_timeout_s)
        return replica.state.get(key.encode()), replica.state.revision

    return work


def _writing(command: Command) -> Work[Result]:
    async def work(replica: Replica) -> Result:
        return await replica.submit(command, replica.config.request_timeout_s)

    return work


async def _hand_over(replica: Replica) -> NodeId:
    return await replica.hand_over(None, replica.config.request_timeout_s)
