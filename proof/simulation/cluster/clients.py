"""Clients of a simulated cluster. They talk to nodes as people's programs do: over a network that
fails them, with time-outs, and with retries at other nodes under one idempotency key.
"""

import asyncio
from collections.abc import Iterator

from kvstore.commands.accounts import ROOT
from kvstore.commands.commands import (
    ABSENT,
    Administer,
    AsUser,
    Command,
    Compact,
    Condition,
    Delete,
    Once,
    Put,
    StoreCommand,
)
from kvstore.commands.operations import KeyValue, TransactionDone
from kvstore.commands.operations import Transaction as TransactionCommand
from kvstore.commands.results import Deleted, Mismatched, Result, Written
from kvstore.errors import RevisionCompacted
from kvstore.replica.replica import Replica
from kvstore.state.mvcc import KeyPage
from kvstore.state.rights import Caller
from paxos.ballot import NodeId
from proof.histories.history import (
    Call,
    CallRecord,
    CompareAndDelete,
    CompareAndPut,
    Get,
    Returned,
)
from proof.histories.history import DeleteCall as DeleteCall
from proof.histories.history import PutCall as PutCall
from proof.simulation.cluster.calls import Broken, SimulatedCaller, Work
from proof.simulation.cluster.fault_plan import LEADER
from proof.simulation.cluster.membership import SimulatedCluster
from proof.simulation.cluster.plans import CALLS, ClientPlan
from proof.simulation.cluster.transactions import Part, draw_transaction, parts_done, parts_possible

Named = StoreCommand | Once | Administer
"""What may be asked in somebody's name."""
ANYTHING = Caller(ROOT, 1 << 40)
"""Who may do everything, at a revision at which nothing is void yet."""
PATIENCE_S = 0.05
"""Between an attempt that failed and the next."""


class SimulatedClient(SimulatedCaller):
    """Runs its plan, and records what it was told in the world's history."""

    def __init__(self, world: SimulatedCluster, plan: ClientPlan) -> None:
        super().__init__(world, plan.id, plan.home, plan.timeout_s)
        self.plan = plan
        self.done = False
        self._known: dict[str, tuple[str, int]] = {}
        self._writes = 0
        self._names = 0

    def start(self) -> None:
        """Begin the plan."""
        self.process.post(self.plan.starts_s, lambda: self.process.create_task(self._run()))

    async def _run(self) -> None:
        for _ in range(self.plan.operations):
            await asyncio.sleep(self.rng.uniform(*self.plan.think_s))
            if self.plan.home == LEADER:
                await self._read_at_oldest_leader()
                continue
            call = self.rng.choices(CALLS, self.plan.weights)[0]
            await self._operate(call, self._key())
        self.done = True

    def _key(self) -> str:
        return f"k{self.rng.randrange(self.world.scenario.keys)}"

    async def _read_at_oldest_leader(self) -> None:
        """While an older leader still believes that it leads: write at the newest, then read there.
        Nothing else so surely shows a read that nobody confirmed."""
        key = self._key()
        newest, oldest = self.world.leader(), self.world.oldest_leader()
        if newest is not None and newest != oldest:
            self.node = newest
            await self.put(key)
        await self.get(key, oldest or self.rng.choice([*self.world.members]))

    async def _operate(self, call: str, key: str) -> None:
        known = self._known.get(key)
        match call:
            case "get":
                await self.get(key)
            case "serializable get":
                await self._serializable_get(key)
            case "compare and put" if known is not None:
                put = CompareAndPut(known[0], self.new_value())
                await self.write(key, put, Put(*_put(key, put.value), Condition(known[1])))
            case "put if absent":
                put = CompareAndPut(None, self.new_value())
                await self.write(key, put, Put(*_put(key, put.value), ABSENT))
            case "delete":
                await self.write(key, DeleteCall(), Delete(key.encode()))
            case "compare and delete" if known is not None:
                delete = Delete(key.encode(), Condition(known[1]))
                await self.write(key, CompareAndDelete(known[0]), delete)
            case "page" | "old page":
                await self._page(self._old_revision() if call == "old page" else 0)
            case "transaction":
                await self._transact()
            case "compact":
                await self._compact()
            case "hand over":
                await self.attempt(self.node, "hand over", "", _hand_over)
            case _:
                await self.put(key)

    def new_value(self) -> str:
        """One that nobody else writes."""
        self._writes += 1
        return f"{self.number}.{self._writes}"

    async def put(self, key: str) -> bool:
        """Write a new value; whether it was acknowledged."""
        value = self.new_value()
        return await self.write(key, PutCall(value), Put(*_put(key, value)))

    # -- reading ----------------------------------------------------------------------------

    async def get(self, key: str, node: NodeId | None = None) -> bool:
        """A linearizable read, one attempt; whether it was answered."""
        called_s = self.world.scheduler.now_s
        acknowledged = self.world.monitor.acknowledged_revision
        read = await self.attempt(node or self.node, f"get {key}", key, _reading(key))
        if isinstance(read, Exception):
            return False
        found, revision = read
        self.world.monitor.check_read(revision, acknowledged)
        self._keep(key, found)
        value = None if found is None else found.value.decode()
        self._record(key, Get(), called_s, Returned(value))
        return True

    async def _serializable_get(self, key: str) -> None:
        async def work(replica: Replica) -> KeyValue | None:
            return replica.state.get(key.encode())

        found = await self.attempt(self.node, f"get {key} (serializable)", key, work)
        if isinstance(found, KeyValue):
            self._keep(key, found)

    def _keep(self, key: str, found: KeyValue | None) -> None:
        if found is None:
            self._known.pop(key, None)
            return
        change = self.world.monitor.model.wrote(found.mod_revision, found.key)
        if change is None or change.item != found:
            self.world.monitor.violated("nothing lost", f"read {found}, wrote {change}", key=key)
        self._known[key] = (found.value.decode(), found.mod_revision)

    def _old_revision(self) -> int:
        model = self.world.monitor.model
        if self.rng.random() < 0.5:
            return max(1, model.compacted_revision)
        return self.rng.randint(1, model.revision)

    async def _page(self, revision: int) -> None:
        acknowledged = self.world.monitor.acknowledged_revision
        limit = self.rng.randint(1, 10)

        async def work(replica: Replica) -> KeyPage:
            await replica.barrier(replica.config.request_timeout_s)
            return replica.state.range(b"k", b"l", revision=revision, limit=limit)

        text = f"page of {limit} at {revision or 'now'}"
        page = await self.attempt(self.node, text, "", work)
        if isinstance(page, KeyPage):
            self.world.monitor.check_page(page, limit, 0 if revision else acknowledged)
            if revision:
                self.world.reached("old revision read")
        elif isinstance(page, RevisionCompacted):
            self.world.reached("read below compaction refused")

    # -- writing ----------------------------------------------------------------------------

    async def send(self, text: str, key: str, command: StoreCommand) -> Result | Broken | None:
        """Send `command` until it is answered or attempts run out: what it came to, Broken if
        that is unknown, None if it was certainly not applied."""
        sent: Named = command
        if self.plan.retries:
            sent = Once(self.new_name(), command, self.world.idempotency_ttl_ms)
        result = await self.insist(text, key, sent, 1 + self.plan.retries)
        if result is None:
            self.world.monitor.on_denied(sent)
        return result

    def new_name(self) -> bytes:
        """An idempotency key."""
        self._names += 1
        return f"{self.number}-{self._names}".encode()

    async def insist(
        self, text: str, key: str, command: Named, attempts: int, by: Caller = ANYTHING
    ) -> Result | Broken | None:
        """Send `command` up to so many times; like `send`. Where there are users, it comes from
        `by`."""
        sent: Command = command
        if self.world.scenario.administrators:
            sent = AsUser(*by, command)
        self.world.monitor.issued.add(command)
        unknown: Broken | None = None
        for attempt in range(attempts):
            if attempt:
                await asyncio.sleep(PATIENCE_S)
                if unknown:
                    self.world.reached("write retried at another node")
            result = await self.attempt(self.node, text, key, _writing(sent))
            if not isinstance(result, Exception):
                if isinstance(result, Mismatched):
                    self.world.monitor.violated("exactly once", "a retry was taken for another")
                return result
            unknown = result if isinstance(result, Broken) else unknown
        if unknown is not None:
            self.world.reached("outcome unknown to a client")
        return unknown

    async def write(self, key: str, call: Call, command: StoreCommand) -> bool:
        """Send a write of one key, and record it; whether it was answered."""
        called_s = self.world.scheduler.now_s
        text = f"{type(call).__name__} {key} {getattr(call, 'value', '')}"
        result = await self.send(text, key, command)
        if isinstance(result, Broken):
            self.world.history.add(CallRecord(self.number, key, call, called_s))
        if result is None or isinstance(result, Broken):
            return False
        held = False
        match result:
            case Written(revision):
                held, value = True, getattr(call, "value", "")
                self.world.monitor.on_acknowledged(key.encode(), value.encode(), revision)
                self._known[key] = (value, revision)
            case Deleted(revision, 1):
                held = True
                self.world.monitor.on_acknowledged(key.encode(), None, revision)
        self._record(key, call, called_s, Returned(held=held))
        return True

    async def _compact(self) -> None:
        revision = self.rng.randint(1, self.world.monitor.model.revision)
        if await self.send(f"compact {revision}", "", Compact(revision)) is not None:
            self.world.reached("compaction by a client")

    async def _transact(self) -> None:
        """Each part is recorded as an operation on its own key, all with the same times."""
        called_s = self.world.scheduler.now_s
        command = draw_transaction(self.rng, self.world.scenario.keys, self._known, self.new_value)
        result = await self.send(_transaction_text(command), "", command)
        if isinstance(result, Broken):
            for part in parts_possible(command):
                self._record_part(part, called_s, known=False)
        elif isinstance(result, TransactionDone):
            self.world.reached(f"transaction {'succeeded' if result.succeeded else 'failed'}")
            for part in parts_done(command, result):
                if part.revision:
                    self.world.monitor.on_acknowledged(part.key, part.value, part.revision)
                self._record_part(part, called_s, known=True)

    def _record_part(self, part: Part, called_s: float, *, known: bool) -> None:
        key, call = part.key.decode(), part.call
        if not known:
            self.world.history.add(CallRecord(self.number, key, call, called_s))
        else:
            self._record(key, call, called_s, part.answer)

    def _record(self, key: str, call: Call, called_s: float, answer: Returned) -> None:
        now_s = self.world.scheduler.now_s
        self.world.history.add(CallRecord(self.number, key, call, called_s, now_s, answer))
        self.world.answered += 1


def _put(key: str, value: str) -> tuple[bytes, bytes]:
    return key.encode(), value.encode()


def _transaction_text(command: TransactionCommand) -> str:
    keys: Iterator[str] = (part.key.decode() for part in parts_possible(command))
    return f"transaction on {', '.join(sorted(set(keys)))}"


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
