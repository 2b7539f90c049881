"""The protocol's front page: who says what to whom. One frozen class per message.

Choosing a value (a stable leader repeats only this; phase 1 was done once, for all slots)::

    leader L              followers A, B
      |-- Accept(slot) ------>|      value, and how far the log is chosen
      |   [L persists]        |  [A, B persist]
      |<------ Accepted ------|      after the commit, never before
      |  phase 2 quorum: the slot is chosen
      |-- Chosen ------------>|      or the next Accept says so

Becoming the leader::

    candidate C           others
      |-- PreVote ----------->|      "would you promise me?" changes nothing anywhere
      |<----- PreVoteReply ---|      refused by whoever still hears a leader
      |   [C persists its own promise]
      |-- Prepare(first) ---->|      one phase 1 for every slot from `first` on
      |<----- Promise --------|      what was accepted, in bounded pieces: Prepare again for more
      |  phase 1 quorum: propose again the value with the highest ballot of each slot,
      |  a no-op in each gap, and then new values

Refusal: whoever promised a higher ballot answers Nack, and the loser steps down.
An acceptor that has dropped the slots a candidate asks about answers Truncated: catch up first.

Linearizable reads, any number at once::

    follower F            leader L               others
      |-- ReadIndex --------->|-- Heartbeat(probe) ->|
      |                       |<- HeartbeatReply ----|   a quorum still follows L
      |<----- ReadIndexReply -|      F answers once it has applied that slot

Catching up::

    laggard               any node
      |-- Fetch(first) ------>|
      |<----- Fetched --------|      chosen entries, a bounded piece; ask again for more
      |<----- Truncated ------|      ... or they are gone: take a snapshot

Handing over: the leader sends HandOver to a follower, which sends Prepare without a pre-vote.
"""

import msgspec

from paxos.ballot import Ballot, Slot

NOOP = b""
"""The value that fills a gap: it is chosen like any other and changes nothing."""


PIECE_BYTES_MAX = 1 << 20
"""Promises and fetched entries travel in pieces of about this many bytes of values."""


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of all protocol messages."""


class LogEntry(msgspec.Struct, frozen=True, array_like=True):
    """What an acceptor accepted for one slot."""

    slot: Slot
    ballot: Ballot
    value: bytes


class PreVote(Message, frozen=True):
    """A candidate asks whether a Prepare with `ballot` from slot `first_slot` on would succeed."""

    ballot: Ballot
    first_slot: Slot


class PreVoteReply(Message, frozen=True):
    """`promised` lets a candidate with too low a ballot aim higher next time."""

    ballot: Ballot
    granted: bool
    promised: Ballot


class Prepare(Message, frozen=True):
    """Phase 1a for every slot from `first_slot` on; sent again for each further piece."""

    ballot: Ballot
    first_slot: Slot


class Promise(Message, frozen=True):
    """Phase 1b: nothing below `ballot` will be accepted.

    `accepted` covers the slots from `first_slot` up to, not including, `next_slot`; if `next_slot`
    is None it covers all slots from `first_slot` on.
    """

    ballot: Ballot
    first_slot: Slot
    accepted: tuple[LogEntry, ...]
    next_slot: Slot | None


class Accept(Message, frozen=True):
    """Phase 2a. `chosen_through`: every slot up to here is chosen."""

    ballot: Ballot
    slot: Slot
    value: bytes
    chosen_through: Slot


class Accepted(Message, frozen=True):
    """Phase 2b: this acceptor has `slot` at `ballot` on disk."""

    ballot: Ballot
    slot: Slot


class Nack(Message, frozen=True):
    """The request with `ballot` was refused because of the higher ballot `promised`."""

    ballot: Ballot
    promised: Ballot


class Chosen(Message, frozen=True):
    """The leader of `ballot` knows that every slot up to `chosen_through` is chosen."""

    ballot: Ballot
    chosen_through: Slot


class Heartbeat(Message, frozen=True):
    """The leader of `ballot` is alive. Answering `probe` says: I have promised nothing higher."""

    ballot: Ballot
    probe: int
    chosen_through: Slot


class HeartbeatReply(Message, frozen=True):
    """The sender still follows `ballot`, and has the log chosen up to `chosen_through`."""

    ballot: Ballot
    probe: int
    chosen_through: Slot


class ReadIndex(Message, frozen=True):
    """A follower asks: which slot must I have applied to read as of now?"""

    request: int


class ReadIndexReply(Message, frozen=True):
    """Reads of `request` may be served once `slot` is applied."""

    request: int
    slot: Slot


class Fetch(Message, frozen=True):
    """Send me chosen entries from `first_slot` on."""

    first_slot: Slot


class Fetched(Message, frozen=True):
    """Chosen entries, contiguous from the slot asked for; `chosen_through` is the sender's."""

    entries: tuple[LogEntry, ...]
    chosen_through: Slot


class Truncated(Message, frozen=True):
    """The log here begins at `first_slot`; what came before is chosen and only in snapshots."""

    first_slot: Slot


class HandOver(Message, frozen=True):
    """The leader of `ballot` asks the receiver to lead in its place, now."""

    ballot: Ballot


AnyMessage = (
    PreVote
    | PreVoteReply
    | Prepare
    | Promise
    | Accept
    | Accepted
    | Nack
    | Chosen
    | Heartbeat
    | HeartbeatReply
    | ReadIndex
    | ReadIndexReply
    | Fetch
    | Fetched
    | Truncated
    | HandOver
)
"""Every message that may cross a link; the frames' codec is built from this union."""
