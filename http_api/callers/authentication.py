"""Who sends a request: from tokens and passwords to a caller, and to the session that it gets.

While authentication is off this costs one attribute test per request.
"""

import asyncio
import hashlib
import secrets
from base64 import b64decode
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import hdrs, web

from http_api.callers.caller_sessions import CallerSessions
from http_api.callers.login_queue import LoginQueue
from http_api.callers.passwords import SALT_BYTES, nobodys_hash, password_hash, password_matches
from http_api.callers.tokens import TTL_S, Tokens
from http_api.core.calls import SCOPES, Need
from http_api.core.port import ReplicaPort
from http_api.core.senders import address_of, certificate_name
from http_api.core.session import Session
from kvstore.commands.accounts import RotateSecret
from kvstore.commands.commands import Administer, AsUser
from kvstore.commands.results import AuthRefused
from kvstore.errors import InvalidArgument, Overloaded, Reason, Unauthenticated, auth_error
from kvstore.state.rights import ITSELF, Caller

SECRET_BYTES = 32
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
        self._queue = LoginQueue()
        self._key = secrets.token_bytes(32)
        self._logins: OrderedDict[bytes, bytes] = OrderedDict()
        self._dummy = nobodys_hash()

    @property
    def enabled(self) -> bool:
        """Whether this node has applied that authentication is on."""
        return self._replica.state.auth.enabled

    # -- passwords --------------------------------------------------------------------------

    async def hash(self, password: str) -> bytes:
        """What to store of a password. Raises InvalidArgument for the empty one, Overloaded."""
        if not password:
            raise InvalidArgument("password", "password: must not be empty")
        salt = secrets.token_bytes(SALT_BYTES)
        async with self._turn("", ""):
            return await asyncio.to_thread(password_hash, password, salt)

    async def _matches(self, name: str, password: str, address: str, stored: bytes) -> bool:
        async with self._turn(name, address):
            return await asyncio.to_thread(password_matches, password, stored)

    @asynccontextmanager
    async def _turn(self, name: str, address: str) -> AsyncIterator[None]:
        """`LoginQueue.turn`, not waited for without end."""
        try:
            async with asyncio.timeout(self._timeout_s) as waiting:
                async with self._queue.turn(name, address):
                    waiting.reschedule(None)
                    yield
        except TimeoutError:
            if not waiting.expired():
                raise
            raise Overloaded("too many passwords are being checked at once") from None

    async def _verify(self, name: str, password: str, address: str) -> Caller:
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
        right = await self._matches(name, password, address, stored)
        # A store of an earlier release may hold hashes of the empty password.
        if not right or user is None or not password:
            self._queue.failed(name, address)
            raise Unauthenticated(Reason.WRONG_PASSWORD)
        self._queue.succeeded(name, address)
        return Caller(name, revision)

    # -- callers ----------------------------------------------------------------------------

    async def log_in(self, name: str, password: str, address: str = "", ttl_s: int = TTL_S) -> str:
        """A token that is good for `ttl_s`. Raises AuthError, Unavailable."""
        await self._replica.barrier(self._timeout_s)
        by = await self.of_password(name, password, address)
        return self._tokens.issue(by, await self._secret(), ttl_s)

    async def _secret(self) -> bytes:
        """What signs tokens. A state that was restored from a backup has none, and gets one; if two
        nodes do so at once the later one counts. Raises AuthError, Unavailable."""
        if not self._replica.state.auth.secret:
            change = Administer(RotateSecret(secrets.token_bytes(SECRET_BYTES)))
            result = await self._replica.submit(AsUser(ITSELF, 0, change), self._timeout_s)
            if isinstance(result, AuthRefused):
                raise auth_error(result.reason)
        return self._replica.state.auth.secret

    async def lend(self, by: Caller) -> str:
        """A token with which this node asks other nodes in the caller's name: who shows a
        certificate proves itself to this node only. Raises AuthError, Unavailable."""
        return self._tokens.lend(by, await self._secret())

    async def check(self, name: str, password: str, address: str) -> None:
        """Raise AuthError unless that is the user's password. Raises Unavailable."""
        await self.of_password(name, password, address)

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

    async def of_password(self, name: str, password: str, address: str = "") -> Caller:
        """Whom name and password prove; remembered while the password stays what it is, so that a
        client which has logged in here before waits in no queue. Raises AuthError, Unavailable."""
        auth = self._replica.state.auth
        message = b"%d:%b%b" % (len(name), name.encode(), password.encode())
        login = hashlib.blake2b(message, key=self._key).digest()
        user = auth.users.get(name)
        known = user is not None and user.password and self._logins.get(login) == user.password
        if auth.enabled and known:
            self._logins.move_to_end(login)
            return Caller(name, auth.revision)
        by = await self._verify(name, password, address)
        user = self._replica.state.auth.user(by)
        if user is not None and user.password:
            self._logins[login] = user.password
            if len(self._logins) > LOGINS_MAX:
                self._logins.popitem(last=False)
        return by

    async def of_certificate(self, request: web.BaseRequest) -> Caller:
        """Whom the connection's certificate proves. Raises Unauthenticated, Unavailable."""
        name = certificate_name(request.transport)
        if not name:
            raise Unauthenticated(Reason.NO_USER)
        if name not in self._replica.state.auth.users:
            await self._replica.barrier(self._timeout_s)
            if name not in self._replica.state.auth.users:
                raise Unauthenticated(Reason.NO_SUCH_CERTIFICATE)
        return Caller(name, self._replica.state.auth.revision)

    async def of_header(self, request: web.BaseRequest) -> Caller:
        """Whom the Authorization header proves: a token, bare or as a Bearer, or Basic. Without
        the header, whom the connection's certificate proves.

        Raises Unauthenticated or Unavailable.
        """
        value = request.headers.get(hdrs.AUTHORIZATION, "").strip()
        if not value:
            return await self.of_certificate(request)
        scheme, _, rest = value.partition(" ")
        match scheme.lower():
            case "bearer":
                return await self.of_token(rest.strip())
            case "basic":
                name, password = _basic(rest)
                return await self.of_password(name, password, address_of(request))
        return await self.of_token(value)

    # -- admission --------------------------------------------------------------------------

    async def admit(self, need: Need, prove: Callable[[], Awaitable[Caller | None]]) -> Session:
        """The session in which a request for a call with this need is served.

        `prove` says whose request it is; None is nobody in particular. It is asked only if the
        call needs to know. Raises what it raises, AuthError and Unavailable. The APIs ask for
        nothing of this while authentication is off, and serve `sessions.anonymous`.
        """
        if need is Need.OPEN:
            return self.sessions.anonymous
        session = self.sessions.of(await prove())
        if need is Need.ROOT:
            await session.require_root(self._timeout_s)
        elif need in SCOPES:
            await session.require_scope(SCOPES[need], self._timeout_s)
        return session


def _basic(text: str) -> tuple[str, str]:
    """User and password of an Authorization header (RFC 7617)."""
    try:
        name, colon, password = b64decode(text.strip(), validate=True).decode().partition(":")
    except ValueError:
        raise Unauthenticated(Reason.WRONG_PASSWORD) from None
    if not colon:
        raise Unauthenticated(Reason.WRONG_PASSWORD)
    return name, password
