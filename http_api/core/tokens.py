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


class Tokens:
    """Issues and recognises tokens. `wall` counts seconds since 1970, `monotonic` seconds."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._seen: OrderedDict[str, float] = OrderedDict()

    def issue(self, by: Caller, secret: bytes, ttl_s: int = TTL_S) -> str:
        """A token that is different from all others and good for `ttl_s`."""
        nonce = secrets.token_bytes(9)
        claims = _Claims(by.user, by.auth_revision, int(self._wall()), nonce, ttl_s)
        body = _encode(claims)
        return f"{_text(body)}.{_text(_signature(body, secret))}"

    def recognise(self, token: str, secret: bytes) -> Caller | None:
        """Whom it names, unless it is not ours or too old. It counts as seen."""
        if not secret or len(token) > TOKEN_CHARACTERS_MAX:
            return None
        body, dot, signature = token.partition(".")
        try:
            claims = _verified(_data(body), _data(signature), secret)
        except ValueError:
            return None
        if claims is None or not dot:
            return None
        now = self._monotonic()
        seen = self._seen.get(token)
        ttl_s = claims.ttl_s
        if abs(self._wall() - claims.issued_s) >= ttl_s and (seen is None or now - seen >= ttl_s):
            return None
        self._seen[token] = now
        self._seen.move_to_end(token)
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
        return Caller(claims.user, claims.auth_revision)


def _verified(body: bytes, signature: bytes, secret: bytes) -> _Claims | None:
    if not hmac.compare_digest(signature, _signature(body, secret)):
        return None
    return _decode(body)


def _signature(body: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, body, "sha256")


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _data(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
