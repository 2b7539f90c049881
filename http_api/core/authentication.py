"""Who sends a request: from tokens and passwords to a caller, and to the session that it gets.

While authentication is off this costs one attribute test per request.
"""

import asyncio
import hashlib
import secrets
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from http_api.core.caller_sessions import CallerSessions
from http_api.core.calls import Need
from http_api.core.passwords import SALT_BYTES, password_hash, password_matches
from http_api.core.port import ReplicaPort
from http_api.core.session import Session
from http_api.core.tokens import Tokens
from kvstore.errors import Overloaded, Reason, Unauthenticated, auth_error
from kvstore.state.rights import Caller

HASHING_MAX = 2
"""Password hashes computed at once; each takes a core and 16 MiB for some 50 ms."""
HASHES_WAITING_MAX = 64
LOGINS_MAX = 1_000
"""Pairs of user and password that were found right, for clients that send them each time."""


class Access:
    """Shared by both APIs of a server."""

    def __init__(
        self, replica: ReplicaPort, timeout_s: float, tokens: Tokens | None = None
    ) -> None:
        self.sessions = CallerSessions(replica)
        self._replica = replica
        self._timeout_s = timeout_s
        self._tokens = tokens or Tokens()
        self._hashing = asyncio.Semaphore(HASHING_MAX)
        self._waiting = 0
        self._key = secrets.token_bytes(32)
        self._logins: OrderedDict[bytes, bytes] = OrderedDict()
        self._dummy = password_hash("", bytes(SALT_BYTES))

    @property
    def enabled(self) -> bool:
        """Whether this node has applied that authentication is on."""
        return self._replica.state.auth.enabled

    # -- passwords --------------------------------------------------------------------------

    async def hash(self, password: str) -> bytes:
        """What to store of a password. Raises Overloaded."""
        salt = secrets.token_bytes(SALT_BYTES)
        await self._begin_hashing()
        try:
            return await asyncio.to_thread(password_hash, password, salt)
        finally:
            self._hashing.release()

    async def _matches(self, password: str, stored: bytes) -> bool:
        await self._begin_hashing()
        try:
            return await asyncio.to_thread(password_matches, password, stored)
        finally:
            self._hashing.release()

    async def _begin_hashing(self) -> None:
        if self._waiting >= HASHES_WAITING_MAX:
            raise Overloaded("too many passwords are being checked at once")
        self._waiting += 1
        try:
            await self._hashing.acquire()
        finally:
            self._waiting -= 1

    async def _verify(self, name: str, password: str) -> Caller:
        """Whom name and password prove, as of a read barrier.

        Raises AuthError, Unavailable. A change while the hash is computed makes the answer void
        by its revision, so it need not be looked for.
        """
        await self._replica.barrier(self._timeout_s)
        auth = self._replica.state.auth
        if not auth.enabled:
            raise auth_error(Reason.OFF)
        user, revision = auth.users.get(name), auth.revision
        if user is not None and user.password is None:
            raise Unauthenticated(Reason.NO_PASSWORD)
        # An unknown user takes as long as a known one.
        stored = self._dummy if user is None or user.password is None else user.password
        if not await self._matches(password, stored) or user is None:
            raise Unauthenticated(Reason.WRONG_PASSWORD)
        return Caller(name, revision)

    # -- callers ----------------------------------------------------------------------------

    async def log_in(self, name: str, password: str) -> str:
        """A token. Raises AuthError, Unavailable."""
        by = await self._verify(name, password)
        secret = self._replica.state.auth.secret
        if not secret:
            raise auth_error(Reason.OFF)
        return self._tokens.issue(by, secret)

    async def of_token(self, token: str) -> Caller:
        """Whom a token names. Raises Unauthenticated, Unavailable."""
        by = self._known(token)
        if by is None:
            # Perhaps this node has not applied yet what the token needs.
            await self._replica.barrier(self._timeout_s)
            by = self._known(token)
        if by is None:
            raise Unauthenticated(Reason.BAD_TOKEN)
        return by

    def known(self, token: str) -> Session | None:
        """The session of whom `token` names, if this node knows that without asking others. Raises
        Stopping."""
        by = self._known(token)
        return None if by is None else self.sessions.of(by)

    def known_header(self, value: str) -> Session | None:
        """The same for an Authorization header of the native API: of a token, bare or as a Bearer.
        While authentication is off that header means nothing."""
        if not self.enabled:
            return self.sessions.anonymous
        scheme, _, rest = value.strip().partition(" ")
        match scheme.lower():
            case "bearer":
                return self.known(rest.strip())
            case "basic":
                return None
        return self.known(value.strip())

    def _known(self, token: str) -> Caller | None:
        auth = self._replica.state.auth
        by = self._tokens.recognise(token, auth.secret)
        if by is None or by.auth_revision > auth.revision or auth.user(by) is None:
            return None
        return by

    async def of_password(self, name: str, password: str) -> Caller:
        """Whom name and password prove; remembered while the password stays what it is."""
        auth = self._replica.state.auth
        message = b"%d:%b%b" % (len(name), name.encode(), password.encode())
        login = hashlib.blake2b(message, key=self._key).digest()
        user = auth.users.get(name)
        if user is not None and user.password and self._logins.get(login) == user.password:
            self._logins.move_to_end(login)
            return Caller(name, auth.revision)
        by = await self._verify(name, password)
        user = self._replica.state.auth.user(by)
        if user is not None and user.password:
            self._logins[login] = user.password
            if len(self._logins) > LOGINS_MAX:
                self._logins.popitem(last=False)
        return by

    async def of_header(self, request: web.BaseRequest) -> Caller:
        """Whom the Authorization header proves: a token, bare or as a Bearer, or Basic.

        Raises Unauthenticated, also without the header, or Unavailable.
        """
        value = request.headers.get(hdrs.AUTHORIZATION, "").strip()
        if not value:
            raise Unauthenticated(Reason.NO_USER)
        scheme, _, rest = value.partition(" ")
        match scheme.lower():
            case "bearer":
                return await self.of_token(rest.strip())
            case "basic":
                name, password = _basic(rest)
                return await self.of_password(name, password)
        return await self.of_token(value)

    # -- admission --------------------------------------------------------------------------

    async def admit(self, need: Need, prove: Callable[[], Awaitable[Caller | None]]) -> Session:
        """The session in which a request for a call with this need is served.

        `prove` says whose request it is; None is nobody in particular. It is asked only if the
        call needs to know. Raises what it raises, AuthError and Unavailable. The APIs ask for
        nothing of this while authentication is off, and serve `sessions.anonymous`.
        """
        match need:
            case Need.OPEN:
                return self.sessions.anonymous
            case Need.SHOWN:
                return await self._shown(prove)
        session = self.sessions.of(await prove())
        if need is Need.ROOT:
            await session.require_root(self._timeout_s)
        return session

    async def _shown(self, prove: Callable[[], Awaitable[Caller | None]]) -> Session:
        """Who cannot prove who it is is nobody."""
        if not self.enabled:
            return self.sessions.anonymous
        try:
            return self.sessions.of(await prove())
        except Unauthenticated:
            return self.sessions.anonymous


def _basic(text: str) -> tuple[str, str]:
    """User and password of an Authorization header (RFC 7617)."""
    try:
        name, colon, password = b64decode(text.strip(), validate=True).decode().partition(":")
    except ValueError:
        raise Unauthenticated(Reason.WRONG_PASSWORD) from None
    if not colon:
        raise Unauthenticated(Reason.WRONG_PASSWORD)
    return name, password
