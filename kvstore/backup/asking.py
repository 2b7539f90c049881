"""Downloads ask nodes for copies: as whom, and whom they trust."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from kvstore.client.attempts import LOGIN
from kvstore.client.credentials import Credentials, LogIn, Login, decode_token, login_body
from kvstore.client.tls import client_tls
from kvstore.client.verdict import HttpReply, error_of


class DownloadHttp:
    """The HTTP of one download. Raises InvalidArgument if what the login says contradicts
    itself, or names a file that cannot be used."""

    def __init__(self, login: Login) -> None:
        self._credentials = Credentials(
            login.get("user"), login.get("password"), login.get("token")
        )
        tls = client_tls(login.get("ca"), login.get("cert"))
        self.secure = tls is not None
        """Whether endpoints without a scheme are https."""
        self._trust: ssl.SSLContext | bool = True if tls is None else tls

    @asynccontextmanager
    async def opened(self, timeout: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientSession]:
        """Connections for the length of the block."""
        connector = aiohttp.TCPConnector(ssl=self._trust)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False
        ) as http:
            yield http

    @asynccontextmanager
    async def get(
        self, http: aiohttp.ClientSession, endpoint: str, path: str, query: dict[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a GET, whatever it is; a token that has ended is got anew. Raises KvError
        for a login, aiohttp.ClientError, OSError."""
        log_in = _log_in(http, endpoint)
        token = await self._credentials.token(log_in)
        async with http.get(endpoint + path, params=query, headers=_named(token)) as response:
            if response.status != 401:
                yield response
                return
            renewed = await self._credentials.renewed(token, log_in)
            if renewed is None:
                yield response
                return
        async with http.get(endpoint + path, params=query, headers=_named(renewed)) as response:
            yield response


def _named(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def _log_in(http: aiohttp.ClientSession, endpoint: str) -> LogIn:
    async def log_in(user: str, password: str) -> str:
        headers = {"Content-Type": "application/json"}
        body = login_body(user, password)
        async with http.post(endpoint + LOGIN, data=body, headers=headers) as response:
            reply = HttpReply(response.status, response.headers, await response.read())
        if reply.status != 200:
            raise error_of(reply)
        return decode_token(reply.body)

    return log_in
