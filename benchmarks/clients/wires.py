"""How answers are told apart on a connection: HTTP/1.1, or the frames of ZooKeeper.

A load client knows no more of a protocol than this; requests are prepared beforehand.
"""

from __future__ import annotations

import re
import struct
from typing import Protocol

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Wire(Protocol):
    """One protocol, with one request in flight per connection."""

    greeting: bytes
    """What a connection says first and gets an answer to; b"" if nothing is needed."""

    def whole(self, answer: bytes) -> bool:
        """Whether one answer has arrived completely."""

    def good(self, answer: bytes) -> bool:
        """Whether a whole answer says that the request was done."""


class HttpWire:
    """Content length or chunks; good is any status of the 200s."""

    greeting = b""

    def whole(self, answer: bytes) -> bool:
        """By length, or by the last chunk."""
        head_end = answer.find(b"\r\n\r\n")
        if head_end < 0:
            return False
        if length := _LENGTH.search(answer, 0, head_end):
            return len(answer) >= head_end + 4 + int(length[1])
        return answer.endswith(b"\r\n0\r\n\r\n") or answer[9:12] in (b"204", b"304")

    def good(self, answer: bytes) -> bool:
        """By the status."""
        return answer[9:10] == b"2"


class ZooKeeperWire:
    """Each frame begins with its length; an answer has the number of its error, or 0."""

    SESSION_MS = 30_000
    HEAD = struct.Struct(">iiqi")
    """Length of the rest, number of the request, transaction, error."""

    greeting = struct.pack(">iiqiqi16s?", 45, 0, 0, SESSION_MS, 0, 16, bytes(16), False)
    """A new session."""

    def whole(self, answer: bytes) -> bool:
        """By the length."""
        return len(answer) >= 4 and len(answer) >= 4 + int.from_bytes(answer[:4], "big")

    def good(self, answer: bytes) -> bool:
        """By the error."""
        return len(answer) >= self.HEAD.size and self.HEAD.unpack_from(answer)[3] == 0


WIRES: dict[str, Wire] = {"http": HttpWire(), "zookeeper": ZooKeeperWire()}
