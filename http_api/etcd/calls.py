"""A call of etcd's API is one row, which stands beside its handler; a request for it is one object.

Dispatch, the meters, authentication and the checks of sizes read the rows, and so do the tests.
"""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Generic, TypeVar

import msgspec
from aiohttp import web

from http_api.core.account_session import SessionCommand
from http_api.core.calls import Doc, H, M, Need, Row
from http_api.core.problems import refusal
from http_api.core.session import Session
from http_api.etcd.channel import DOCUMENT_BYTES_MAX, Channel
from http_api.etcd.errors import UNKNOWN, EtcdError, status_of
from http_api.etcd.gateway import Gateway
from kvstore.commands.results import Result
from kvstore.errors import AuthError, RequestError

BODY_BYTES_MAX = 4 << 20
"""Of JSON; no message within etcd's limits is longer, unless it is mostly white space."""

PREFIX = "/v3/"
"""Of the paths in rows; other prefixes lead to the same calls."""

Struct = TypeVar("Struct", bound=msgspec.Struct)
Other = TypeVar("Other")


# -- requests -------------------------------------------------------------------------------


class EtcdAsk(Generic[M]):
    """One message for a call, and what serves it: all that a handler gets.

    Handlers raise EtcdError or any KvError.
    """

    __slots__ = ("address", "gateway", "message", "session")

    def __init__(self, gateway: Gateway, session: Session, message: M, address: str = "") -> None:
        self.gateway = gateway
        self.session = session
        self.message = message
        self.address = address
        """Where the message comes from; "" in streams."""

    def about(self, message: Other) -> "EtcdAsk[Other]":
        """Another message of the same sender's."""
        return EtcdAsk(self.gateway, self.session, message, self.address)

    async def execute(self, command: SessionCommand, expected: type[Struct]) -> Struct:
        """Replicate a command. Raises the KvError that another result than `expected` means."""
        result: Result = await self.session.execute(command, self.gateway.timeout_s)
        if not isinstance(result, expected):
            raise refusal(result)
        return result

    async def barrier(self) -> None:
        """After it, reads show every write acknowledged before. Raises Unavailable."""
        await self.session.barrier(self.gateway.timeout_s)

    def header(self, revision: int | None = None) -> dict[str, Any]:
        """See `Gateway.header`."""
        return self.gateway.header(revision)


class EtcdStream:
    """A stream that a client has opened. Each of its messages is admitted by itself: a token may
    end before the stream does."""

    def __init__(
        self,
        gateway: Gateway,
        channel: Channel,
        admit: Callable[[msgspec.Struct], Awaitable[Session]],
    ) -> None:
        self.gateway = gateway
        self.channel = channel
        self._admit = admit

    async def ask(self, message: Struct) -> EtcdAsk[Struct]:
        """What serves one message. Raises AuthError, Unavailable."""
        return EtcdAsk(self.gateway, await self._admit(message), message)


# -- rows -----------------------------------------------------------------------------------


class SizeRule(Enum):
    """What of a request is bounded, besides the bytes of its body."""

    BODY = auto()
    """Nothing: the body's bound is enough."""
    MESSAGE = auto()
    """The message as etcd would receive it (`sizes.MESSAGE_BYTES_MAX`)."""
    LOGGED = auto()
    """That, and the message as etcd would write it to its log (`sizes.REQUEST_BYTES_MAX`)."""
    DOCUMENT = auto()
    """Each document of the body, not the body, which may be without an end."""


def unchecked(message: object) -> None:
    """No fault is looked for."""


def as_it_is(error: RequestError) -> RequestError:
    """Most refusals are told as they are."""
    return error


def in_one_code(error: RequestError) -> RequestError:
    """etcd tells every refusal of a lock or an election with code 2, whatever its own code is."""
    return EtcdError(UNKNOWN, status_of(error).text)


def without_code(error: RequestError) -> RequestError:
    """etcd refuses some calls for administrators without a proper code, with another text."""
    if not isinstance(error, AuthError):
        return error
    return EtcdError(UNKNOWN, status_of(error).text.replace("etcdserver:", "auth:"))


@dataclass(frozen=True)
class EtcdCall(Row[M, H]):
    """What all calls of etcd's API say of themselves; the subclasses differ in how they answer."""

    size: SizeRule = SizeRule.MESSAGE
    at_apply: bool = False
    """The right is judged where the command is applied, and not before: other faults of the
    request are told first."""
    check: Callable[[M], None] = unchecked
    """Raises EtcdError for a fault that is told before anybody asks who sent the message."""
    told: Callable[[RequestError], RequestError] = as_it_is
    """How a refusal, of the caller or by the handler, is told."""

    @property
    def name(self) -> str:
        """The path without its prefix."""
        return self.path.removeprefix(PREFIX)


Unary = Callable[[EtcdAsk[M]], Coroutine[Any, Any, dict[str, Any]]]
"""The result is built with `encode.document`."""
Download = Callable[[EtcdAsk[M], web.BaseRequest], Awaitable[web.StreamResponse]]
Serve = Callable[[EtcdStream], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class UnaryCall(EtcdCall[M, Unary[M]]):
    """One message, one answer."""


@dataclass(frozen=True)
class WaitingCall(EtcdCall[M, Unary[M]]):
    """One message, one answer that may take hours: given up when the client hangs up."""


@dataclass(frozen=True)
class DownloadCall(EtcdCall[M, Download[M]]):
    """One message that changes nothing; the handler sends its own response. One that it hands back
    whole is refused at the bound on answers that nobody has taken yet."""


@dataclass(frozen=True)
class StreamCall(EtcdCall[M, Serve]):
    """Messages in and out for as long as both sides want; a WebSocket can carry it too."""


AnyEtcdCall = UnaryCall[Any] | WaitingCall[Any] | DownloadCall[Any] | StreamCall[Any]


def unary(
    name: str,
    message: type[M],
    handler: Unary[M],
    need: Need,
    summary: str,
    *,
    size: SizeRule = SizeRule.MESSAGE,
    at_apply: bool = False,
    check: Callable[[M], None] = unchecked,
    told: Callable[[RequestError], RequestError] = as_it_is,
) -> UnaryCall[M]:
    """The row of a call with one answer; `name` is its path without the prefix."""
    return UnaryCall(
        "POST", PREFIX + name, handler, need, Doc(summary), BODY_BYTES_MAX, message,
        size=size, at_apply=at_apply, check=check, told=told,
    )  # fmt: skip


def waiting(
    name: str,
    message: type[M],
    handler: Unary[M],
    need: Need,
    summary: str,
    *,
    told: Callable[[RequestError], RequestError] = as_it_is,
) -> WaitingCall[M]:
    """The row of a call whose answer comes when its time comes."""
    return WaitingCall(
        "POST", PREFIX + name, handler, need, Doc(summary), BODY_BYTES_MAX, message,
        size=SizeRule.BODY, told=told,
    )  # fmt: skip


def download(
    name: str,
    message: type[M],
    handler: Download[M],
    need: Need,
    summary: str,
    *,
    size: SizeRule = SizeRule.BODY,
    check: Callable[[M], None] = unchecked,
    told: Callable[[RequestError], RequestError] = as_it_is,
) -> DownloadCall[M]:
    """The row of a call that sends much."""
    return DownloadCall(
        "POST", PREFIX + name, handler, need, Doc(summary), BODY_BYTES_MAX, message,
        size=size, check=check, told=told,
    )  # fmt: skip


def stream(
    name: str,
    message: type[M],
    serve: Serve,
    need: Need,
    summary: str,
    *,
    told: Callable[[RequestError], RequestError] = as_it_is,
) -> StreamCall[M]:
    """The row of a stream; `message` is what each document of the body holds."""
    return StreamCall(
        "POST", PREFIX + name, serve, need, Doc(summary), DOCUMENT_BYTES_MAX, message,
        size=SizeRule.DOCUMENT, told=told,
    )  # fmt: skip
