"""Who sends a message to etcd's API, and in whose session it is served.

Rights on keys are judged by the session and where a write is applied; here stands what a row says
of its caller. The differences to etcd 3.5: nobody in particular may do nothing but log in, what an
inner transaction does is checked too, the keys of a lease are shown only to who may read them (as
since 3.5.9), and what takes root there may take a scope here.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from http_api.callers.auditing import Auditing
from http_api.callers.authentication import Access
from http_api.core.calls import Need
from http_api.core.session import Session
from http_api.etcd.calls import EtcdCall
from kvstore.state.rights import Caller

TOKEN_HEADERS = ("Grpc-Metadata-Token", "Grpc-Metadata-Authorization", "Authorization")
"""In the order in which etcd's gateway looks for a token."""

UNPROVED_BYTES_MAX = 16 << 10
"""A longer body, or one of unknown length, is read only for who has proved to be somebody."""


LEADER_HEADER = "Grpc-Metadata-Hasleader"
"""What etcd's clients send who want to hear of a node without a leader (`WithRequireLeader`)."""


class CallAdmission:
    """Shared by all requests of a server."""

    def __init__(self, access: Access, audit: Auditing) -> None:
        self._access = access
        self._audit = audit

    async def check_sender(self, call: EtcdCall[Any, Any], request: web.BaseRequest) -> None:
        """Raise AuthError if a large body comes from nobody: it is not read, let alone decoded.

        A small one is, because etcd tells everybody what is wrong with a message. Raises
        Unavailable.
        """
        if not self._access.enabled or call.need is Need.OPEN:
            return
        length = request.content_length
        if length is None and request.content.is_eof():
            return
        if length is None or length > UNPROVED_BYTES_MAX:
            token = token_of(request.headers)
            if token:
                await self._access.of_token(token)
            else:
                await self._access.of_certificate(request)

    async def session(
        self, call: EtcdCall[Any, Any], request: web.BaseRequest, message: msgspec.Struct
    ) -> Session:
        """The session in which `message` is served.

        Raises AuthError, Unavailable, or what the row's check raises. Costs nothing while
        authentication is off and the request has no token. A token that proves nobody is refused
        even then, as in etcd, where the row wants a caller.
        """
        call.check(message)
        token = token_of(request.headers)
        if not self._access.enabled and (not token or call.need is Need.NAMED):
            return self._access.sessions.anonymous

        async def prove() -> Caller | None:
            if token:
                return await self._access.of_token(token)
            return await self._access.of_certificate(request)

        need = Need.CALLER if call.at_apply else call.need
        return await self._access.admit(need, self._audit.proved(request, prove))


def needs_leader(headers: Mapping[str, str]) -> bool:
    """Whether the sender wants no answer from a node that knows no leader."""
    return headers.get(LEADER_HEADER) == "true"


def token_of(headers: Mapping[str, str]) -> str:
    """The token in a request's headers; "" if there is none."""
    return next((found for name in TOKEN_HEADERS if (found := headers.get(name))), "")
