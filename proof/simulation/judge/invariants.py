"""The invariants: few, named, and checked at every event that could break them.

The monitor sees all nodes at once, their messages as they leave and their disks, which no node can.
It only looks: nothing it does changes what a node does.

=====================  =================================================================
agreement              no two values are chosen in one slot, or applied there
stability              a chosen value stays: no later ballot proposes another one there
validity               what is applied was accepted by a phase 2 quorum of the configuration
                       that governs its slot, is made of commands that clients issued, and was
                       proposed with promises of a phase 1 quorum of that configuration
prefix                 each node applies slot after slot; restarts and snapshots never go back
durable promise        what an acceptor answers is on its disk by then, and there after a restart
equal digests          two states at the same slot are equal
exactly once           a write is applied once, however often it was sent
true results           what a slot answers is what the model answers (`judge.model`)
every change once      a watcher is told of every change, whole, once and in order
elapsed time           the log's clock goes on like a leader's monotonic clock, and never ahead
one change at a time   no member is replaced while another one is
voters are close       a learner that becomes a voter has nearly all that is chosen
no lease ends early    a lease lasts its time since the last answer that kept it alive
nothing lost           what a client was told is in the log that was chosen
no stale read          the history of every key is linearizable; pages are, as a whole
sound nodes            a node stops by itself only when its disk fails, and then it does
liveness               after healing, all requests succeed and all nodes meet in one state
=====================  =================================================================
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kvstore.commands.batches import Batch, Bundle
from kvstore.commands.binary import decode_batch, decode_bundle
from kvstore.commands.commands import Administer, Command, Compact, Once
from kvstore.commands.members import Reconfigure
from kvstore.commands.results import Result
from kvstore.peers.frames import PeerMessage
from kvstore.state.mvcc import KeyPage
from paxos.ballot import ZERO, Ballot, NodeId, Slot
from paxos.messages import Accept, Accepted, LogEntry, Promise
from paxos.node import Node
from paxos.records import ChosenThrough, Record
from proof.simulation.judge.durable import DurableLog
from proof.simulation.judge.lease_book import LeaseBook
from proof.simulation.judge.log_clock_check import LogClockCheck
from proof.simulation.judge.members_model import MembersModel
from proof.simulation.judge.model import ModelChange, StoreModel
from proof.simulation.judge.seen import REPEATED, SHOWN, difference, unnamed, writes_a_value

PROMOTED_SLOTS = 16
"""Chosen while a leader's look at a learner becomes a command in the log."""


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold, and the facts. `slot` and `key` are what it is about."""

    invariant: str
    text: str
    slot: Slot | None = None
    key: str | None = None

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


@dataclass
class _Acceptor:
    """What one node has answered, ever, over all its starts on one disk."""

    promised: Ballot = ZERO
    accepted: dict[Slot, Ballot] = field(default_factory=dict)


class Monitor:
    """Checks a whole cluster. `violations` stays empty, or the run has failed."""

    def __init__(
        self,
        members: MembersModel,
        close_slots: int,
        leases: LeaseBook,
        log_clock: LogClockCheck,
        reached: Callable[[str], None],
    ) -> None:
        self.members = members
        self._close_slots = close_slots
        self._holds: dict[NodeId, Slot] = {}
        self.reached = reached
        self.violations: list[Violation] = []
        self.model = StoreModel(members)
        self.leases = leases
        self._log_clock = log_clock
        self.chosen: dict[Slot, tuple[bytes, Ballot]] = {}
        self.applied: dict[Slot, bytes] = {}
        self.digests: dict[Slot, bytes] = {0: b""}
        self.issued: set[Command] = set()
        self._proposed: dict[Slot, dict[Ballot, bytes]] = defaultdict(dict)
        self._votes: dict[tuple[Slot, Ballot], set[NodeId]] = defaultdict(set)
        self._promised: dict[Ballot, set[NodeId]] = defaultdict(set)
        self._acceptors: dict[NodeId, _Acceptor] = defaultdict(_Acceptor)
        self._denied: set[Command] = set()
        self._lost_disks: dict[NodeId, _Acceptor] = {}
        self._recorded: dict[NodeId, Slot] = defaultdict(int)
        self._idempotency_keys: set[bytes] = set()
        self._written: set[Command] = set()
        self._values: dict[bytes, int] = {}
        self.acknowledged_revision = 1

    def violated(
        self, invariant: str, text: str, slot: Slot | None = None, key: str | None = None
    ) -> None:
        """Only the first counts: what follows may follow from it."""
        self.violations.append(Violation(invariant, text, slot, key))

    # -- consensus --------------------------------------------------------------------------

    def on_send(self, node: NodeId, log: DurableLog, message: PeerMessage) -> None:
        """`node`, whose disk holds `log`, sends `message`."""
        if node in self._lost_disks and isinstance(message, Accepted | Promise):
            self.violated("durable promise", f"node {node} votes again, with an empty disk")
        match message:
            case Accept(ballot, slot, value):
                self.on_proposed(ballot, slot, value)
            case Accepted(ballot, slot):
                self._check_accepted(node, log, ballot, slot)
                self._acceptors[node].accepted[slot] = ballot
                self.on_vote(node, ballot, slot)
            case Promise(ballot):
                self._check_promise(node, log, message)
                acceptor = self._acceptors[node]
                acceptor.promised = max(acceptor.promised, ballot)
                self._promised[ballot].add(node)

    def on_commit(self, node: NodeId, log: DurableLog, record: Record) -> None:
        """`node` wrote `record` to its `log`: what the log holds as chosen is what was chosen."""
        through = log.chosen_through
        match record:
            case LogEntry(slot) if slot <= through:
                slots = range(slot, slot + 1)
            case ChosenThrough(slot):
                slots = range(self._recorded[node] + 1, slot + 1)
                self._recorded[node] = max(slot, self._recorded[node])
            case _:
                return
        for slot in slots:
            held = log.value(slot)
            chosen = self.chosen.get(slot)
            if held is not None and (chosen is None or held != chosen[0]):
                text = f"node {node} holds slot {slot} as chosen: it lost"
                self.violated("stability", text, slot)

    def on_own(self, node: NodeId, log: DurableLog, message: PeerMessage) -> None:
        """`node` takes its own answer: it counts like any other, and must be as durable."""
        if isinstance(message, Accepted | Promise):
            self.on_send(node, log, message)

    def chosen_ballot(self, slot: Slot) -> str:
        """In which `slot` was chosen first, for people."""
        return str(self.chosen[slot][1]) if slot in self.chosen else ""

    def on_proposed(self, ballot: Ballot, slot: Slot, value: bytes) -> None:
        """The leader of `ballot` proposes `value`."""
        voting = self.members.at(slot)
        if len(self._promised[ballot] & voting.voters) < voting.phase1:
            text = f"{ballot} proposes without a phase 1 quorum of {sorted(voting.voters)}"
            self.violated("validity", text, slot)
        if slot > max(self.applied, default=0) + self.members.distance:
            text = f"{ballot} proposes what nobody can know the members for"
            self.violated("validity", text, slot)
        proposed = self._proposed[slot]
        if proposed.setdefault(ballot, value) != value:
            self.violated("agreement", f"ballot {ballot} proposes two values in slot {slot}", slot)
        self._log_clock.proposed(slot, ballot)
        chosen = self.chosen.get(slot)
        if chosen is not None and chosen[0] != value and ballot > chosen[1]:
            self.violated(
                "stability",
                f"slot {slot} was chosen in {chosen[1]}, and {ballot} proposes another value",
                slot,
            )

    def on_vote(self, node: NodeId, ballot: Ballot, slot: Slot) -> None:
        """`node` accepted in `ballot`, durably; a quorum of them chooses."""
        votes = self._votes[slot, ballot]
        votes.add(node)
        value = self._proposed[slot].get(ballot)
        voting = self.members.at(slot)
        if value is None or len(votes & voting.voters) < voting.phase2:
            return
        before = self.chosen.setdefault(slot, (value, ballot))
        if before[0] != value:
            self.violated(
                "agreement", f"slot {slot} chosen differently in {before[1]} and {ballot}", slot
            )
        for other, proposal in self._proposed[slot].items():
            if other > ballot and proposal != value:
                self.violated(
                    "stability", f"slot {slot} chosen in {ballot}, other value in {other}", slot
                )

    def _check_accepted(self, node: NodeId, log: DurableLog, ballot: Ballot, slot: Slot) -> None:
        promised = self._acceptors[node].promised
        if ballot < promised:
            self.violated(
                "durable promise", f"node {node} promised {promised} and accepts in {ballot}", slot
            )
        held = log.ballot(slot)
        if slot >= log.first_slot and (held is None or held < ballot):
            self.violated(
                "durable promise",
                f"node {node} says it accepted slot {slot} in {ballot}; its disk holds "
                f"{held or 'nothing'}",
                slot,
            )

    def _check_promise(self, node: NodeId, log: DurableLog, message: Promise) -> None:
        ballot = message.ballot
        if log.promised < ballot:
            self.violated("durable promise", f"node {node} answers {ballot} before it is on disk")
        reported = {entry.slot: entry.ballot for entry in message.accepted}
        for slot, accepted in self._acceptors[node].accepted.items():
            in_piece = message.next_slot is None or slot < message.next_slot
            asked = message.first_slot <= slot and in_piece and accepted < ballot
            if asked and reported.get(slot, ZERO) < accepted:
                self.violated(
                    "durable promise",
                    f"node {node} accepted slot {slot} in {accepted} and does not report it",
                    slot,
                )

    def on_stepped(self, node: Node) -> None:
        """`node` has taken a step."""
        self._holds[node.id] = node.chosen_through

    def on_restart(self, node: NodeId, restored: Node) -> None:
        """`restored` is what a new start of `node` begins with."""
        self._holds[node] = restored.chosen_through
        answered, acceptor = self._acceptors[node], restored.acceptor
        if acceptor.promised < answered.promised:
            self.violated(
                "durable promise",
                f"node {node} promised {answered.promised}, and restarts with {acceptor.promised}",
            )
        for slot, ballot in answered.accepted.items():
            entry = acceptor.log.get(slot)
            if slot > restored.chosen_through and (entry is None or entry.ballot < ballot):
                self.violated(
                    "durable promise",
                    f"node {node} accepted slot {slot} in {ballot}, and restarts with "
                    f"{entry.ballot if entry else 'nothing'}",
                    slot,
                )

    def on_disk_lost(self, node: NodeId) -> None:
        """It has nothing to remember any more; the others must refuse it."""
        self._lost_disks[node] = self._acceptors.pop(node, _Acceptor())

    def on_disk_back(self, node: NodeId) -> None:
        """The disk that it had lost is in it again. As long as nobody has replaced it, it votes,
        and remembers all that it answered before."""
        if node in self.members.ids:
            self._acceptors[node] = self._lost_disks.pop(node, _Acceptor())

    # -- the state machine ------------------------------------------------------------------

    def on_apply(
        self,
        node: NodeId,
        slot: Slot,
        value: bytes,
        applied: Sequence[tuple[Bundle, list[Result]]],
        digest: bytes,
    ) -> None:
        """`node` applied `value`, which gave these results and this state."""
        first = self.applied.get(slot)
        if first is None:
            self._first_apply(node, slot, value, applied)
        elif first != value:
            self.violated("agreement", f"node {node} applies another value in slot {slot}", slot)
        self.check_digest(node, slot, digest)

    def _first_apply(
        self, node: NodeId, slot: Slot, value: bytes, applied: Sequence[tuple[Bundle, list[Result]]]
    ) -> None:
        self.applied[slot] = value
        chosen = self.chosen.get(slot)
        if chosen is None:
            self.violated("validity", f"node {node} applies slot {slot}: no quorum chose it", slot)
        elif chosen[0] != value:
            self.violated("agreement", f"node {node} applies what lost in slot {slot}", slot)
        if value:
            batch = decode_batch(value)
            bundles = [decode_bundle(encoded) for encoded in batch.bundles]
            self._check_issued(slot, bundles)
            self._check_leases(batch)
            if complaint := self._log_clock.chosen(slot, batch):
                self.violated("elapsed time", complaint, slot)
            self._check_results(slot, batch, bundles, applied)
        self.members.reach(slot)
        for event in self.members.take_events():
            self.reached(event)
        for complaint in self.members.take_complaints():
            self.violated("one change at a time", complaint, slot)
        for id in self.members.take_promoted():
            self._check_promoted(id, slot)

    def _check_promoted(self, id: NodeId, slot: Slot) -> None:
        """It was close when the leader looked: what was chosen since then is little. What it holds
        counts: a voter whose apply is behind takes part in every slot as soon as any other."""
        behind = slot - self._holds.get(id, 0)
        if behind > self._close_slots + 2 * self.members.distance + PROMOTED_SLOTS:
            self.violated("voters are close", f"node {id} is promoted {behind} slots behind", slot)

    def _check_issued(self, slot: Slot, bundles: list[Bundle]) -> None:
        for bundle in bundles:
            for command in bundle.commands:
                command = unnamed(command)
                if command not in self.issued and not isinstance(command, Compact | Reconfigure):
                    self.violated("validity", f"slot {slot} holds what no client issued", slot)
                elif command in self._denied:
                    self.violated("exactly once", f"slot {slot}: a client was told otherwise", slot)
                if isinstance(command, Reconfigure):
                    continue  # leaders change members, too
                if isinstance(command, Compact) and command not in self.issued:
                    self.reached("automatic compaction")
                self._written.add(command)
                if isinstance(command, Administer):
                    self.reached("change of users or roles")
                if isinstance(command, Once):
                    if command.idempotency_key in self._idempotency_keys:
                        self.reached("retry answered from memory")
                    self._idempotency_keys.add(command.idempotency_key)

    def _check_leases(self, batch: Batch) -> None:
        for lease in self.model.ending(batch):
            self.reached("lease expired")
            if complaint := self.leases.expired(lease):
                self.violated("no lease ends early", complaint)

    def _check_results(
        self,
        slot: Slot,
        batch: Batch,
        bundles: list[Bundle],
        applied: Sequence[tuple[Bundle, list[Result]]],
    ) -> None:
        before, expired = self.model.revision, self.model.keys_expired
        expected = self.model.apply(slot, batch, bundles)
        if self.model.keys_expired > expired:
            self.reached("idempotency key expired")
        if len(bundles) > len(applied):
            self.reached("second copy of a bundle refused")
        if [bundle for bundle, _ in expected] != [bundle for bundle, _ in applied]:
            self.violated("exactly once", f"slot {slot} admits other bundles than it should", slot)
        elif expected != applied:
            self.violated("true results", difference(slot, applied, expected), slot)
        for _, results in applied:
            for result in results:
                if name := SHOWN.get(type(result)):
                    self.reached(name)
        for revision, changes in self.model.since(before, self.model.revision):
            for change in changes:
                self._check_written_once(revision, change)

    def _check_written_once(self, revision: int, change: ModelChange) -> None:
        if change.value is not None and not change.key.startswith(REPEATED):
            first = self._values.setdefault(change.value, revision)
            if first != revision:
                text = f"{change.value!r} was written at {first} and again at {revision}"
                self.violated("exactly once", text)

    def check_digest(self, node: NodeId, slot: Slot, digest: bytes) -> None:
        """`node` holds the state as of `slot`."""
        if self.digests.setdefault(slot, digest) != digest:
            self.violated("equal digests", f"node {node} differs after slot {slot}", slot)

    # -- clients ----------------------------------------------------------------------------

    def on_acknowledged(self, key: bytes, value: bytes | None, revision: int) -> None:
        """A client was told that `value` was written (None: deleted) at `revision`."""
        self.acknowledged_revision = max(self.acknowledged_revision, revision)
        change = self.model.wrote(revision, key)
        if change is None or change.value != value:
            self.violated(
                "nothing lost",
                f"{key.decode()} = {value!r} acknowledged at revision {revision}: {change}",
                key=key.decode(),
            )

    def on_denied(self, command: Command) -> None:
        """A client was told by all it asked that `command` is certainly not applied, nor will be.

        Without an idempotency key commands that write no value are alike, and of one of them
        nothing can be said.
        """
        command = unnamed(command)
        if not writes_a_value(command):
            return
        self._denied.add(command)
        if command in self._written:
            self.violated("exactly once", f"{command} is applied, and was denied")

    def check_read(self, revision: int, acknowledged_revision: int) -> None:
        """A read was served from the state as of `revision`, and asked for after
        `acknowledged_revision` had been acknowledged."""
        if revision < acknowledged_revision:
            self.violated(
                "no stale read",
                f"read as of revision {revision}, after {acknowledged_revision} was acknowledged",
            )

    def check_page(self, page: KeyPage, limit: int, acknowledged_revision: int) -> None:
        """A page of all keys that begin with "k", read after `acknowledged_revision` was seen."""
        if page.revision < acknowledged_revision:
            self.violated(
                "no stale read",
                f"a page as of revision {page.revision}, after {acknowledged_revision} was "
                "acknowledged",
            )
        expected = self.model.range(b"k", b"l", page.revision)
        found = [(item.key, item.value) for item in page.items]
        if found != [(change.key, change.value) for change in expected[:limit]]:
            self.violated("no stale read", f"the page as of revision {page.revision} is {found}")
