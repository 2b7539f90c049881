"""Paxos to try oneself: one value, two proposers, three acceptors, and a person who is the network.

A game is its moves, and nothing else is kept: each look plays it anew, by the classes of `paxos/`.
The moves are few, and so is the work.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kvstore.errors import InvalidArgument
from paxos.acceptor import Acceptor
from paxos.ballot import ZERO, Ballot, NodeId
from paxos.messages import Accept, Accepted, AnyMessage, LogEntry, Nack, Prepare, Promise
from paxos.quorum import majority
from paxos.records import RecordFold
from paxos.synod import (
    SLOT,
    PendingEffects,
    ProposerState,
    SynodLearner,
    SynodProposer,
    describe,
)

WANTED = {1: b"red", 5: b"blue"}
ACCEPTORS = (2, 3, 4)
MOVES_MAX = 80
BALLOTS_MAX = 5
"""Of one proposer."""
_MOVE = re.compile(r"([pdxcr])([1-9][0-9]{0,2})|a")
ABOUT = (
    "You are the network, and fate. Nodes 1 and 5 want their values chosen; nodes 2, 3 and 4 "
    "accept. Deliver messages in any order, lose them, crash nodes. Can you get two values chosen?"
)


class Flying(NamedTuple):
    """A message that was sent and has not arrived."""

    id: int
    sender: NodeId
    to: NodeId
    message: AnyMessage


@dataclass
class FreePlay:
    """A game. `move` raises InvalidArgument for what cannot be done now."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    chosen: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._quorums = majority(ACCEPTORS)
        self._proposers = {
            node: SynodProposer(node, self._quorums, value) for node, value in WANTED.items()
        }
        self._next = {node: ZERO.next_for(node) for node in WANTED}
        self._learners = {node: SynodLearner(self._quorums) for node in WANTED}
        self._outboxes = {node: PendingEffects() for node in ACCEPTORS}
        self._acceptors = {node: Acceptor(out) for node, out in self._outboxes.items()}
        self._disks = {node: RecordFold() for node in ACCEPTORS}
        # Knows what nobody in the game does: whether a value is chosen.
        self._onlooker = SynodLearner(self._quorums)
        self._down: set[NodeId] = set()
        self._flying: list[Flying] = []
        self._sent = 0
        self._say(ABOUT, None)

    # -- moves ------------------------------------------------------------------------------

    def choices(self) -> list[dict[str, Any]]:
        """What can be done now: `move`, `kind`, the `node` it is about, and a text."""
        found = [*self._of_messages(), *self._of_nodes()]
        if self._flying:
            found.append(_choice("a", "all", 0, "Deliver all that is on its way, in order"))
        return found

    def _of_messages(self) -> Iterator[dict[str, Any]]:
        for id_, sender, to, message in self._flying:
            text = f"{describe(message)}, node {sender} to node {to}"
            yield _choice(f"d{id_}", "deliver", to, text)
            yield _choice(f"x{id_}", "lose", to, text)

    def _of_nodes(self) -> Iterator[dict[str, Any]]:
        for node in sorted((*WANTED, *ACCEPTORS)):
            if node in self._down:
                yield _choice(f"r{node}", "restart", node, f"Restart node {node}")
                continue
            if self._can("p", node):
                text = f"Node {node} asks for promises in ballot {self._next[node]}"
                yield _choice(f"p{node}", "prepare", node, text)
            yield _choice(f"c{node}", "crash", node, f"Crash node {node}")

    def _can(self, kind: str, number: int) -> bool:
        up = number not in self._down
        match kind:
            case "p":
                return up and number in WANTED and self._next[number].round <= BALLOTS_MAX
            case "d" | "x":
                return any(flying.id == number for flying in self._flying)
            case "c":
                return up and (number in WANTED or number in ACCEPTORS)
            case "r":
                return not up
        return kind == "a" and bool(self._flying)

    def move(self, text: str) -> None:
        """One of the moves that `choices` names."""
        known = _MOVE.fullmatch(text) is not None
        number = int(text[1:] or 0) if known else 0
        if not known or not self._can(text[0], number):
            raise InvalidArgument("moves", f"moves: {text[:20]!r} cannot be done now")
        match text[0]:
            case "p":
                self._prepare(number)
            case "d":
                self._deliver(self._take(number))
            case "x":
                self._lose(self._take(number))
            case "c":
                self._crash(number)
            case "r":
                self._restart(number)
            case _:
                for flying in list(self._flying):
                    self._deliver(self._take(flying.id))

    def _prepare(self, node: NodeId) -> None:
        message = self._proposers[node].prepare(self._next[node])
        self._next[node] = message.ballot.next_for(node)
        self._say(f"Node {node} asks all acceptors to take part in ballot {message.ballot}.", node)
        self._to_all(node, message)

    def _take(self, id_: int) -> Flying:
        flying = next(one for one in self._flying if one.id == id_)
        self._flying.remove(flying)
        return flying

    def _lose(self, flying: Flying) -> None:
        text = f"{describe(flying.message)} is lost between node {flying.sender} and {flying.to}."
        self._say(f"{text} Paxos never needs a message to arrive, only to be safe.", flying.sender)
        self._note("lost", id=flying.id, text="lost")

    def _crash(self, node: NodeId) -> None:
        self._down.add(node)
        keeps = "what it promised and accepted" if node in ACCEPTORS else "the ballots that it used"
        self._say(f"Node {node} crashes. What it had in memory is gone; {keeps} is on disk.", node)
        self._note("happened", node=node, name="crashed", text="")
        for flying in [one for one in self._flying if one.to == node]:
            self._flying.remove(flying)
            self._note("lost", id=flying.id, text="nobody was there")

    def _restart(self, node: NodeId) -> None:
        self._down.discard(node)
        if node in ACCEPTORS:
            disk = self._disks[node].restored()
            acceptor = self._acceptors[node] = Acceptor(self._outboxes[node], disk)
            accepted = " and ".join(map(_words, disk.entries)) or "nothing"
            promised = "nothing" if acceptor.promised == ZERO else acceptor.promised
            has = f"it promised {promised} and accepted {accepted}"
            self._say(f"Node {node} starts again, and reads from its disk: {has}.", node)
        else:
            state = ProposerState(self._proposers[node].state.ballot)
            made = SynodProposer(node, self._quorums, WANTED[node], state)
            self._proposers[node], self._learners[node] = made, SynodLearner(self._quorums)
            text = f"Node {node} starts again. It uses no ballot twice, and has to ask anew."
            self._say(text, node)
        self._note("happened", node=node, name="started", text="again")

    # -- arrivals ---------------------------------------------------------------------------

    def _deliver(self, flying: Flying) -> None:
        self._say("", flying.to)
        self._note("delivered", id=flying.id)
        sender, to, message = flying.sender, flying.to, flying.message
        match message:
            case Prepare():
                self._acceptors[to].on_prepare(sender, message)
                self._obey(to)
            case Accept():
                if self._acceptors[to].on_accept(sender, message):
                    self._note_slot(to, "accepted", message.ballot, message.value)
                    if self._onlooker.on_accepted(to, Accepted(message.ballot, SLOT)):
                        self.chosen.add(message.value)
                self._obey(to)
            case Promise():
                self._on_promise(to, sender, message)
            case Accepted():
                self._on_accepted(to, sender, message)
            case Nack():
                self._on_nack(to, sender, message)

    def _obey(self, node: NodeId) -> None:
        """Its records are durable before its answers leave."""
        effects = self._outboxes[node].take()
        for record in effects.persist:
            self._disks[node].add(record)
        for to, answer in [*effects.send_first, *effects.send]:
            self._tell(_said(node, answer))
            self._send(node, to, answer)

    def _on_promise(self, node: NodeId, sender: NodeId, message: Promise) -> None:
        proposer = self._proposers[node]
        accept = proposer.on_promise(sender, message)
        if accept is None:
            if message.ballot != proposer.state.ballot:
                self._tell(f"A promise for a ballot that node {node} has given up: it is ignored.")
            elif proposer.state.proposed is not None:
                self._tell(f"Node {node} has a quorum of promises already: one more says nothing.")
            else:
                self._tell(
                    f"Node {node} needs {len(ACCEPTORS) // 2 + 1} promises and goes on waiting."
                )
            return
        own = accept.value == proposer.value
        why = (
            "nobody reported another value"
            if own
            else "that value was reported, so it gives up its own"
        )
        self._tell(
            f"A quorum has promised. Node {node} proposes {accept.value.decode()} in ballot "
            f"{accept.ballot}: {why}."
        )
        self._to_all(node, accept)

    def _on_accepted(self, node: NodeId, sender: NodeId, message: Accepted) -> None:
        proposer = self._proposers[node]
        value = proposer.state.proposed
        if self._learners[node].on_accepted(sender, message) and value is not None:
            self._note_slot(node, "chosen", message.ballot, value)
            self._tell(f"A quorum accepted in ballot {message.ballot}: node {node} knows that "
                       f"{value.decode()} is chosen.")  # fmt: skip
        else:
            self._tell(f"Node {node} has heard of an acceptance; a quorum is needed in one ballot.")

    def _on_nack(self, node: NodeId, sender: NodeId, message: Nack) -> None:
        higher = self._proposers[node].on_nack(message)
        if higher is None:
            self._tell(f"A refusal of a ballot that node {node} has given up: it is ignored.")
            return
        self._next[node] = max(self._next[node], higher)
        self._tell(f"Node {node} was overtaken: it may try again, with ballot {self._next[node]}.")

    # -- what is told -----------------------------------------------------------------------

    def _to_all(self, node: NodeId, message: Prepare | Accept) -> None:
        for to in ACCEPTORS:
            self._send(node, to, message)

    def _send(self, sender: NodeId, to: NodeId, message: AnyMessage) -> None:
        self._sent += 1
        self._note(
            "sent", id=self._sent, name=type(message).__name__, text=describe(message), to=to,
            **{"from": sender},
        )  # fmt: skip
        if to in self._down:
            self._note("lost", id=self._sent, text="nobody is there")
        else:
            self._flying.append(Flying(self._sent, sender, to, message))

    def _say(self, text: str, node: NodeId | None) -> None:
        self.steps.append({"text": text, "node": node, "events": []})

    def _tell(self, text: str) -> None:
        self.steps[-1]["text"] = f"{self.steps[-1]['text']} {text}".strip()

    def _note(self, kind: str, **facts: Any) -> None:
        self.steps[-1]["events"].append({"kind": kind, **facts})

    def _note_slot(self, node: NodeId, state: str, ballot: Ballot, value: bytes) -> None:
        self._note(
            "slot", node=node, slot=SLOT, state=state, ballot=str(ballot), value=value.decode()
        )


def _choice(move: str, kind: str, node: NodeId, text: str) -> dict[str, Any]:
    return {"move": move, "kind": kind, "node": node, "text": text}


def _words(entry: LogEntry) -> str:
    return f"{entry.value.decode()} in ballot {entry.ballot}"


def _said(node: NodeId, answer: AnyMessage) -> str:
    match answer:
        case Promise(ballot, _, ()):
            return (
                f"Node {node} promises to accept nothing below {ballot}. It has accepted nothing."
            )
        case Promise(ballot, _, (entry, *_)):
            text = (
                f"Node {node} promises to accept nothing below {ballot}, and reports that it has "
            )
            return f"{text}accepted {_words(entry)}."
        case Accepted(ballot):
            return f"Node {node} accepts in ballot {ballot}: it is on disk before it answers."
        case Nack(_, promised):
            return f"Node {node} refuses: it has promised {promised}, which is higher."
    return ""


def played(moves: str) -> FreePlay:
    """The game after these moves, with dots between them. Raises InvalidArgument."""
    words = [word for word in moves.split(".") if word]
    if len(words) > MOVES_MAX:
        raise InvalidArgument("moves", f"moves: {len(words)}; a game has {MOVES_MAX} at most")
    game = FreePlay()
    for word in words:
        game.move(word)
    return game


def game_document(moves: str) -> dict[str, Any]:
    """A game as a lesson is, and what can be done next. Raises InvalidArgument."""
    game = played(moves)
    over = moves.count(".") + 1 >= MOVES_MAX
    return {
        "name": "try",
        "title": "Try it yourself",
        "about": ABOUT,
        "nodes": sorted((*WANTED, *ACCEPTORS)),
        "facts": [["proposers", "1 wants red, 5 wants blue"], ["acceptors", "2, 3, 4"],
                  ["quorum", "2 of 3 acceptors"]],
        "steps": game.steps,
        "choices": [] if over else game.choices(),
        "chosen": sorted(value.decode() for value in game.chosen),
    }  # fmt: skip
