"""What crosses a link between two members: frames, the handshake, and the messages beside Paxos.

A frame is 4 bytes of length (big endian) and that many bytes of msgpack. The first frame of each
side is its Hello, or a Refusal; everything after it is a PeerMessage, or empty: a ping.
"""

import struct
from collections.abc import Iterator

import msgspec

from kvstore.peers.roster import Roster
from paxos.ballot import NodeId, Slot
from paxos.messages import AnyMessage

PROTOCOL_VERSION = 2
HELLO_BYTES_MAX = 32 << 10
"""Of the frames that a stranger may send: a handshake names each member once."""
_LENGTH = struct.Struct(">I")


class FrameError(ValueError):
    """The peer sent what is not a frame of ours; the link must be dropped."""


class Hello(msgspec.Struct, frozen=True, tag=True):
    """Who calls whom. `roster` is empty until the sender has met every member, and `formed` says
    that all of them hold it (kvstore.peers.membership). `configuration` describes members and
    quorum sizes, which must agree. `instance` is drawn by each process when it starts.

    `present` are the members of the cluster as the sender knows them, once it has formed; `name`
    and `peer_address` are the sender's own. A release before sends none of them.

    `begins` names the state that a founder begins with, "" if that is empty; None: a release before
    does not say.

    `silence_ms`: the sender gives up a link on which it hears nothing for so long, and sends pings
    itself. 0: it does not, as releases before it did not; then no ping may be sent to it.
    """

    protocol: int
    node: NodeId
    to: NodeId
    incarnation: str
    configuration: str
    roster: dict[NodeId, str]
    formed: bool
    client_address: str
    instance: str = ""
    silence_ms: int = 0
    name: str = ""
    peer_address: str = ""
    present: Roster | None = None
    begins: str | None = None


class Refusal(msgspec.Struct, frozen=True, tag=True):
    """Why the link is not taken up; `kind` is for programs. The sender closes it. `present`: the
    members, for one that was one, or is to be one."""

    reason: str
    kind: str = ""
    present: Roster | None = None


class Relay(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A follower asks the leader to propose an encoded bundle. Applying it looks at about `work`
    keys; 0: the sender does not say."""

    bundle: bytes
    work: int = 0


class DigestAt(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The sender's state digest after it applied `slot`, and its wall clock as it says so."""

    slot: Slot
    digest: bytes
    wall_ms: int | None = None


class SnapshotAsk(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A laggard asks for the piece at `offset` of snapshot `snapshot`; "" is a new one."""

    snapshot: str
    offset: int


class SnapshotPiece(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A piece of a snapshot of `size` bytes whose BLAKE2b-128 is `checksum`.

    The whole shows the state as of slot `through` or a little later.
    """

    snapshot: str
    through: Slot
    offset: int
    size: int
    checksum: bytes
    data: bytes


class LeaseAsk(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A node asks the leader about leases: each id, and whether to keep it alive."""

    number: int
    leases: tuple[tuple[int, bool], ...]


class LeaseTold(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The leader's answers to LeaseAsk `number`: seconds granted and left, None if it has ended."""

    number: int
    leases: tuple[tuple[int, float] | None, ...]


PeerMessage = AnyMessage | Relay | DigestAt | SnapshotAsk | SnapshotPiece | LeaseAsk | LeaseTold

PING = _LENGTH.pack(0)
"""An empty frame: the sender is there, and has nothing to say."""

_encoder = msgspec.msgpack.Encoder()
_message_decoder = msgspec.msgpack.Decoder(PeerMessage)
_hello_decoder = msgspec.msgpack.Decoder(Hello | Refusal)
_UNREADABLE = (msgspec.DecodeError, TypeError, ValueError, RecursionError)
"""What msgspec raises on bytes of strangers: on text that is no UTF-8, and on what is nested deeply
where it does not look, other errors than its own."""


def encode_frame(message: "PeerMessage | Hello | Refusal") -> bytes:
    """A whole frame."""
    payload = _encoder.encode(message)
    return _LENGTH.pack(len(payload)) + payload


def decode_message(payload: bytes) -> "PeerMessage":
    """Raises FrameError."""
    try:
        message: PeerMessage = _message_decoder.decode(payload)
    except _UNREADABLE as error:
        raise FrameError(f"not a message of protocol {PROTOCOL_VERSION}: {error}") from None
    return message


def decode_hello(payload: bytes) -> Hello | Refusal:
    """Raises FrameError, also for another version of the protocol."""
    try:
        hello: Hello | Refusal = _hello_decoder.decode(payload)
    except _UNREADABLE as error:
        raise FrameError(f"not a handshake of protocol {PROTOCOL_VERSION}: {error}") from None
    return hello


class FrameReader:
    """Cuts a stream of bytes into frames of at most `bytes_max`, which may be changed."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payloads completed by `data`. Raises FrameError on a frame that is too long."""
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= 4:
                (length,) = _LENGTH.unpack_from(self._buffer, start)
                if length > self.bytes_max:
                    raise FrameError(f"a frame of {length} bytes; the limit is {self.bytes_max}")
                if len(self._buffer) - start - 4 < length:
                    return
                payload = bytes(memoryview(self._buffer)[start + 4 : start + 4 + length])
                start += 4 + length
                yield payload
        finally:
            del self._buffer[:start]
