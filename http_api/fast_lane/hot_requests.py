"""Which requests are for the fast lane: those of hot calls that arrived whole, with nothing but
harmless headers. This is no second reader of HTTP: whatever looks unusual is declined."""

import re
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import NamedTuple

import msgspec

from http_api.core.hot import HotCall, HotCommand, HotPlace, WantedKey
from http_api.core.responses import Answer
from http_api.core.session import Session
from kvstore.errors import KvError

HEAD_BYTES_MAX = 8190
"""A longer head is aiohttp's to refuse."""
PART_BYTES_MAX = 1 << 16
"""For the rest of a longer request nobody waits here."""
HEADS_MAX = 512
"""Header blocks remembered: a client sends the same one with each request."""
_KEY = rb"([A-Za-z0-9%._~!$&'()*+,;=:@/-]+)"
_HEADER = re.compile(rb"([A-Za-z0-9-]+):[ \t]*([\x20-\x7e]*)")
_HARMLESS = frozenset((b"user-agent", b"accept", b"accept-encoding", b"content-type"))
_NOT_OURS = -2
_NO_BODY = -1


class Headers(NamedTuple):
    """A header block: Content-Length, and what it holds of Authorization, "" if nothing.

    The length is _NO_BODY without one, and _NOT_OURS if anything asks for more than the plain
    answer (conditions, idempotency, Expect, chunks, closing, ...), or if the block does not name
    one host, as every request must (RFC 9112, 3.2), or one that is not known.
    """

    length: int
    authorization: str = ""


_DECLINED = Headers(_NOT_OURS)


def read_headers(block: bytes, knows_host: Callable[[str], bool]) -> Headers:
    """What a header block says."""
    length, hosts, authorization = _NO_BODY, 0, ""
    for line in block.split(b"\r\n"):
        matched = _HEADER.fullmatch(line)
        if matched is None:
            return _DECLINED
        name, value = matched[1].lower(), matched[2].rstrip(b" ")
        if name == b"content-length":
            if length != _NO_BODY or not value.isdigit() or len(value) > 8:
                return _DECLINED
            length = int(value)
        elif name == b"connection":
            if value.lower() != b"keep-alive":
                return _DECLINED
        elif name == b"host":
            if not knows_host(value.decode()):
                return _DECLINED
            hosts += 1
        elif name == b"authorization":
            if authorization or not value:
                return _DECLINED
            authorization = value.decode()
        elif name not in _HARMLESS:
            return _DECLINED
    return Headers(length, authorization) if hosts == 1 else _DECLINED


class HotRequest(msgspec.Struct, frozen=True, gc=False):
    """A request for a hot call, to be served in `session`. `what` is asked of the store; where
    nothing is, `answer` is there. It ends at `end` of what waits; its body has `size` bytes."""

    call: HotCall
    session: Session
    what: HotCommand | WantedKey | None
    answer: Answer | None
    end: int
    size: int

    def refused(self, error: KvError) -> "HotRequest":
        """The same, to be answered with an error and without the store."""
        answer = self.call.problem(error)
        return HotRequest(self.call, self.session, None, answer, self.end, self.size)


class Unready(Enum):
    """Why there is no request to serve."""

    DECLINED = auto()
    """What comes is for the other lane."""
    UNFINISHED = auto()
    """What came of it may be the beginning of one, and what is to come is not much."""


class HotRequests:
    """Finds them. `session` serves who names nobody; `guarded()`: whether authentication is on;
    `knows_host(host)`: whether a Host header can be meant for this node."""

    def __init__(
        self,
        calls: Iterable[HotCall],
        session: Session,
        guarded: Callable[[], bool],
        knows_host: Callable[[str], bool],
    ) -> None:
        self._knows_host = knows_host
        self.timeouts_s: set[float] = set()
        self._session = session
        self._guarded = guarded
        self._exact: dict[bytes, HotCall] = {}
        self._before_key: dict[bytes, HotCall] = {}
        for call in calls:
            self._add(call)
        before = b"|".join(map(re.escape, self._before_key))
        self._keyed = re.compile(rb"(%b)%b HTTP/1\.1" % (before, _KEY))
        self._beginnings = (*self._before_key, *self._exact)
        self._headers: dict[bytes, Headers] = {}

    def _add(self, call: HotCall) -> None:
        for path in call.place.paths:
            line = f"{call.meter.method} {path}".encode()
            if path.endswith("/"):
                self._before_key[line] = call
            else:
                self._exact[line + b" HTTP/1.1"] = call
        self.timeouts_s.add(call.timeout_s)

    def find(self, data: bytes, at: int) -> HotRequest | Unready:
        """The request that begins there, if it is one for this lane."""
        line_end = data.find(b"\r\n", at)
        head_end = -1 if line_end < 0 else data.find(b"\r\n\r\n", line_end)
        if head_end < 0:
            return self._head_so_far(data[at:])
        if not line_end < head_end <= at + HEAD_BYTES_MAX:
            return Unready.DECLINED
        line, key = data[at:line_end], b""
        call = self._exact.get(line)
        if call is None:
            matched = self._keyed.fullmatch(line)
            if matched is None:
                return Unready.DECLINED
            call, key = self._before_key[matched[1]], matched[2]
        block = data[line_end + 2 : head_end]
        length, authorization = self._headers.get(block) or self._remember(block)
        place, session = call.place, self._session
        if authorization:
            proved = self._proved(place, authorization)
            if proved is None:
                return Unready.DECLINED
            session = proved
        most = place.body_bytes_max
        if most is None and length == _NO_BODY:
            length = 0
        elif (
            most is None
            or not 0 <= length <= most
            or (length > place.unproved_bytes_max and session.caller is None and self._guarded())
        ):
            return Unready.DECLINED
        start = head_end + 4
        end = start + length
        if end > len(data):
            return Unready.UNFINISHED if end - at <= PART_BYTES_MAX else Unready.DECLINED
        try:
            what = call.what(key, data[start:end])
        except Exception as error:
            if self._guarded():
                return Unready.DECLINED  # who sends it is asked first
            return HotRequest(call, session, None, call.problem(error), end, length)
        if what is None:
            return Unready.DECLINED
        return HotRequest(call, session, what, None, end, length)

    @staticmethod
    def _proved(place: HotPlace, authorization: str) -> Session | None:
        """Whose request it is, if that is known at once. The other lane asks the others, and says
        what is wrong."""
        try:
            return place.session(authorization)
        except KvError:
            return None

    def _head_so_far(self, head: bytes) -> Unready:
        """Whether the rest of a head is worth waiting for."""
        if len(head) > HEAD_BYTES_MAX or head.count(b"\n") != head.count(b"\r\n"):
            return Unready.DECLINED
        for beginning in self._beginnings:
            if head.startswith(beginning) or beginning.startswith(head):
                return Unready.UNFINISHED
        return Unready.DECLINED

    def _remember(self, block: bytes) -> Headers:
        """What it says."""
        if len(self._headers) >= HEADS_MAX:
            self._headers.clear()
        headers = self._headers[block] = read_headers(block, self._knows_host)
        return headers
