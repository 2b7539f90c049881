"""Who a client is: a token, or a user and a password that get one.

A token that was got by a password is got anew when it has ended: nobody who uses the client
notices. Calls that need one at the same time wait for the same login.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypedDict

import msgspec

from kvstore.errors import (
    AuthChangeRefused,
    InvalidArgument,
    NoQuorum,
    OutcomeUnknown,
    Reason,
    Unavailable,
)


class Login(TypedDict, total=False):
    """What `Client` takes of who it is and whom it trusts."""

    user: str
    password: str
    token: str
    ca: str
    cert: str | tuple[str, str]


NOBODY: Login = {}
LogIn = Callable[[str, str], Awaitable[str]]
"""Name and password to a token. Raises KvError."""


class Credentials:
    """Of one client. Raises InvalidArgument if what is given contradicts itself."""

    def __init__(self, user: str | None, password: str | None, token: str | None) -> None:
        if (user is None) != (password is None):
            raise InvalidArgument("user", "user: give user and password, or neither")
        if token is not None and user is not None:
            raise InvalidArgument("token", "token: give a token, or user and password, not both")
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise InvalidArgument("token", "token: is none")
        self._user, self._password = user, password
        self._token = token
        self._off = False
        """Authentication is off, as far as this knows: nothing needs to be sent."""
        self._login: asyncio.Task[str | None] | None = None

    @property
    def given(self) -> bool:
        """Whether there are any."""
        return self._user is not None or self._token is not None

    async def token(self, log_in: LogIn) -> str | None:
        """What to send; None while authentication is off. Raises KvError."""
        if self._token is not None or self._off or self._user is None:
            return self._token
        return await self._logged_in(log_in)

    async def renewed(self, refused: str | None, log_in: LogIn) -> str | None:
        """Another token than the one that was refused; None if there is no way to get one."""
        if self._user is None:
            return None
        if self._token == refused:
            self._token, self._off = None, False
        return await self.token(log_in)

    async def _logged_in(self, log_in: LogIn) -> str | None:
        login = self._login
        if login is None or login.done() or login.get_loop() is not asyncio.get_running_loop():
            login = self._login = asyncio.ensure_future(self._log_in(log_in))
            login.add_done_callback(_heard)
        return await asyncio.shield(login)

    async def _log_in(self, log_in: LogIn) -> str | None:
        assert self._user is not None and self._password is not None
        try:
            self._token = await log_in(self._user, self._password)
        except OutcomeUnknown as error:
            raise NoQuorum(str(error)) from None  # a login changes nothing
        except AuthChangeRefused as error:
            if error.reason is not Reason.OFF:
                raise
            self._off = True
        return self._token


def login_body(user: str, password: str, ttl_s: int | None = None) -> bytes:
    """What `POST /v1/auth/login` takes."""
    fields: dict[str, Any] = {"user": user, "password": password}
    return msgspec.json.encode(fields if ttl_s is None else fields | {"ttl_s": ttl_s})


class _Token(msgspec.Struct):
    token: str


def decode_token(body: bytes) -> str:
    """The token in the answer to a login. Raises Unavailable."""
    try:
        return msgspec.json.decode(body, type=_Token).token
    except (msgspec.DecodeError, ValueError, RecursionError) as cause:
        raise Unavailable(f"the endpoint answered a login unreadably: {cause}") from None


def _heard(login: asyncio.Task[str | None]) -> None:
    """The error of a login for which nobody waits any more is nobody's business."""
    if not login.cancelled():
        login.exception()
