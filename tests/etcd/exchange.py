"""HTTP/1.1 and WebSocket on a bare socket: what is on the wire is what the tests see."""

import base64
import os
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

DEADLINE_S = 30.0
"""For answers that take milliseconds on an idle machine; only a failure waits so long."""


@dataclass
class Reply:
    """One answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    lines: list[bytes] = field(default_factory=list)


class Exchange:
    """One connection. Raises TimeoutError (an OSError) when a deadline passes."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._text = bytearray()
        self._head: Reply | None = None
        self._ended = False

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    # -- HTTP ---------------------------------------------------------------------------------

    def call(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request and its whole answer; the connection can be used again."""
        self.send(method, path, body, headers)
        reply = self.head()
        reply.body = self.rest()
        self._head = None
        return reply

    def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        """A request whose answer is read by `head`, `line` and `rest`."""
        named = {"Host": "localhost", "Content-Length": str(len(body)), **(headers or {})}
        if "Transfer-Encoding" in named:
            del named["Content-Length"]
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in named.items()), "", ""]
        self._socket.sendall("\r\n".join(lines).encode() + body)

    def head(self, deadline_s: float = DEADLINE_S) -> Reply:
        """The status line and headers; the same again if they were read before."""
        if self._head is None:
            end = time.monotonic() + deadline_s
            while b"\r\n\r\n" not in self._buffer:
                self._fill(end)
            raw, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            self._buffer = bytearray(rest)
            first, *lines = raw.decode("latin-1").split("\r\n")
            pairs = (line.split(":", 1) for line in lines)
            headers = {name.lower(): value.strip() for name, value in pairs}
            self._head = Reply(int(first.split()[1]), headers)
            self._ended = False
        if self._head.status == 100:
            self._head = None
            return self.head(deadline_s)
        return self._head

    def rest(self, deadline_s: float = DEADLINE_S) -> bytes:
        """Everything of the body that was not read as lines."""
        end = time.monotonic() + deadline_s
        length = self.head(deadline_s).headers.get("content-length")
        if length is not None:
            while len(self._buffer) < int(length):
                self._fill(end)
            body = bytes(self._buffer[: int(length)])
            del self._buffer[: int(length)]
            return body
        while not self._ended:
            self._chunk(end)
        body = bytes(self._text)
        self._text.clear()
        return body

    def line(self, deadline_s: float = DEADLINE_S) -> bytes | None:
        """The next line of a streamed body; None at its end."""
        end = time.monotonic() + deadline_s
        if self.head(deadline_s).headers.get("content-length") is not None:
            return self.rest(deadline_s) or None
        while b"\n" not in self._text and not self._ended:
            self._chunk(end)
        line, newline, rest = bytes(self._text).partition(b"\n")
        self._text = bytearray(rest)
        return line if line or newline else None

    def _chunk(self, end: float) -> None:
        while b"\r\n" not in self._buffer:
            self._fill(end)
        size_text, _, rest = bytes(self._buffer).partition(b"\r\n")
        size = int(size_text, 16)
        while len(rest) < size + 2:
            self._fill(end)
            rest = bytes(self._buffer)[len(size_text) + 2 :]
        self._text += rest[:size]
        self._ended = size == 0
        self._buffer = bytearray(rest[size + 2 :])

    def _fill(self, end: float) -> None:
        self._socket.settimeout(max(0.001, end - time.monotonic()))
        received = self._socket.recv(1 << 16)
        if not received:
            raise ConnectionResetError("the server hung up")
        self._buffer += received

    # -- WebSocket ----------------------------------------------------------------------------

    def upgrade(self, path: str) -> int:
        """Ask for a WebSocket; the status of the answer."""
        key = base64.b64encode(os.urandom(16)).decode()
        wanted = {"Upgrade": "websocket", "Connection": "Upgrade"}
        wanted |= {"Sec-WebSocket-Key": key, "Sec-WebSocket-Version": "13"}
        self.send("GET", path, b"", wanted)
        return self.head().status

    def send_frame(self, text: bytes) -> None:
        """One masked text frame."""
        mask = os.urandom(4)
        size = len(text)
        length = bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0xFE, size)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(text))
        self._socket.sendall(b"\x81" + length + mask + masked)

    def frame(self, deadline_s: float = DEADLINE_S) -> bytes | None:
        """The next text frame's payload; None when the server closes."""
        end = time.monotonic() + deadline_s
        while True:
            kind, payload = self._frame(end)
            if kind == 8:
                return None
            if kind in (1, 2):
                return payload

    def _frame(self, end: float) -> tuple[int, bytes]:
        self._need(2, end)
        kind, size, begin = self._buffer[0] & 15, self._buffer[1] & 127, 2
        if size == 126:
            self._need(4, end)
            size, begin = int.from_bytes(self._buffer[2:4], "big"), 4
        elif size == 127:
            self._need(10, end)
            size, begin = int.from_bytes(self._buffer[2:10], "big"), 10
        self._need(begin + size, end)
        payload = bytes(self._buffer[begin : begin + size])
        del self._buffer[: begin + size]
        return kind, payload

    def _need(self, count: int, end: float) -> None:
        while len(self._buffer) < count:
            self._fill(end)
