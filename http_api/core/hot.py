"""What an API says of the calls that the fast lane serves (`http_api.fast_lane.lane`).

A hot call is one write, or the read of one key. It is known by its request line, takes a body that
arrived whole, and gives byte for byte the answer that aiohttp's lane gives to the same request; or
it declines, and the request goes there. A test sends each case down both lanes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from http_api.core.metrics import Meter
from http_api.core.problems import storage_failed
from http_api.core.responses import Answer
from http_api.core.session import Session
from kvstore.commands.commands import Delete, Put
from kvstore.commands.operations import Transaction
from kvstore.commands.results import Outcome, Result
from kvstore.errors import KvError, StorageError

KeyWrite = Put | Delete
"""A write of one key: many of them are asked of the store together."""
WRITES = (Put, Delete)
"""The same, for `isinstance`."""
HotCommand = KeyWrite | Transaction


class WantedKey(msgspec.Struct, frozen=True, gc=False):
    """What a read asks for; `serializable`: as this node has it now."""

    key: bytes
    serializable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HotPlace:
    """Where a call is and what of it does not depend on what it does.

    A path that ends in a slash goes on with a key. A body longer than `body_bytes_max` is declined
    (None: any body), and from nobody, while authentication is on, one longer than
    `unproved_bytes_max`. `session` serves who sends this Authorization header; None declines.
    It raises KvError.
    `problem` answers an error of ours; `unexpected(method, target)` answers, and logs, an exception
    that is being handled and is none of ours.
    """

    paths: tuple[str, ...]
    meter: Meter
    timeout_s: float
    body_bytes_max: int | None
    unproved_bytes_max: int
    session: Callable[[str], Session | None]
    problem: Callable[[KvError], Answer]
    unexpected: Callable[[str, str], Answer]


class HotCall:
    """One call, at its place."""

    def __init__(self, place: HotPlace) -> None:
        self.place = place
        self.meter = place.meter
        self.timeout_s = place.timeout_s

    def what(self, key: bytes, body: bytes) -> HotCommand | WantedKey | None:
        """What a request asks of the store; None declines. Raises the KvError that is the answer.

        `key` is what follows a path that ends in a slash, as it came; else b"".
        """
        raise NotImplementedError

    def problem(self, error: Exception) -> Answer:
        """The answer for an error that is being handled."""
        if isinstance(error, KvError):
            return self.place.problem(error)
        if isinstance(error, StorageError):
            return self.place.problem(storage_failed())
        return self.place.unexpected(self.meter.method, self.meter.route)

    def failed(self, error: BaseException) -> Answer:
        """The answer for an error that is not being handled."""
        try:
            raise error
        except Exception as raised:
            return self.problem(raised)


class HotWrite(HotCall):
    """A call that is one write."""

    def what(self, key: bytes, body: bytes) -> HotCommand | None:
        """The command."""
        raise NotImplementedError

    def answer(self, result: Result) -> Answer:
        """The answer to a result. Raises the KvError that it stands for."""
        raise NotImplementedError

    def told(self, outcome: Outcome) -> Answer:
        """The answer to an outcome, whatever it is."""
        if isinstance(outcome, BaseException):
            return self.failed(outcome)
        try:
            return self.answer(outcome)
        except Exception as error:
            return self.problem(error)


class HotRead(HotCall):
    """A call that reads one key."""

    def what(self, key: bytes, body: bytes) -> WantedKey | None:
        """The key."""
        raise NotImplementedError

    def answer(self, session: Session, key: bytes) -> Answer:
        """The answer to what `session` sees there now. Raises KvError."""
        raise NotImplementedError
