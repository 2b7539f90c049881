"""Tokens: who a client is, signed, so that every node knows them without being told.

A token names its user, the auth revision at which it was issued and when, signed with HMAC-SHA256
by a secret of the replicated state. It is good on every node for its time (TTL_S unless more was
asked for) after it was issued, and on a node that has seen it since then for that time after it was
last seen there; the clocks of the nodes need to agree within TTL_S. Disabling authentication
discards the secret, and with it all tokens, and so does its rotation; a user's are void once its
password changes, it is logged out or deleted (`Auth.user`).
"""

import hmac
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from kvstore.state.rights import Caller

TTL_S = 300
TTL_S_MAX = 86_400
"""What a client may ask for at most: a day."""
SEEN_MAX = 10_000
"""Tokens whose last use is remembered; those dropped live on until TTL_S after they were issued."""
TOKEN_CHARACTERS_MAX = 1_000


class _Claims(msgspec.Struct, frozen=True, array_like=True):
    user: str
    auth_revision: int
    issued_s: int
    nonce: bytes
    ttl_s: int = TTL_S


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Claims).decode


class _KnownToken(NamedTuple):
    """A token that was recognised: what it says, by which secret, and when it was used last."""

    claims: _Claims
    secret: bytes
    used_s: float


class Tokens:
    """Issues and recognises tokens. `wall` counts seconds since 1970, `monotonic` seconds."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._seen: OrderedDict[str, _KnownToken] = OrderedDict()

    def issue(self, by: Caller, secret: bytes, ttl_s: int = TTL_S) -> str:
        """A token that is different from all others and good for `ttl_s`."""
        nonce = secrets.token_bytes(9)
        return _signed(_Claims(by.user, by.auth_revision, int(self._wall()), nonce, ttl_s), secret)

    def lend(self, by: Caller, secret: bytes) -> str:
        """A token by which nodes know in whose name another node asks: the same one for a minute,
        since each of them is remembered."""
        minute_s = int(self._wall()) // 60 * 60
        return _signed(_Claims(by.user, by.auth_revision, minute_s, b""), secret)

    def recognise(self, token: str, secret: bytes) -> Caller | None:
        """Whom it names, unless it is not ours or too old. It counts as seen."""
        if not secret or len(token) > TOKEN_CHARACTERS_MAX:
            return None
        seen = self._seen.get(token)
        if seen is not None and seen.secret == secret:
            claims = seen.claims  # a signature is not computed again with each request
        elif (verified := _verified(token, secret)) is not None:
            claims, seen = verified, None
        else:
            return None
        now = self._monotonic()
        ttl_s = claims.ttl_s
        if abs(self._wall() - claims.issued_s) >= ttl_s and (
            seen is None or now - seen.used_s >= ttl_s
        ):
            return None
        self._seen[token] = _KnownToken(claims, secret, now)
        self._seen.move_to_end(token)
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
        return Caller(claims.user, claims.auth_revision)


def _signed(claims: _Claims, secret: bytes) -> str:
    body = _encode(claims)
    return f"{_text(body)}.{_text(_signature(body, secret))}"


def _verified(token: str, secret: bytes) -> _Claims | None:
    """What it says, if `secret` has signed it."""
    text, dot, signature = token.partition(".")
    try:
        body = _data(text)
        if not dot or not hmac.compare_digest(_data(signature), _signature(body, secret)):
            return None
        return _decode(body)
    except ValueError:
        return None


def _signature(body: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, body, "sha256")


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _data(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
