"""Sending one request until it is answered: fail-over, back-off and the total deadline."""

import asyncio
import random
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from kvstore.client.verdict import Answer, error_of, error_of_failure, says_key_not_found
from kvstore.errors import (
    InvalidArgument,
    KvError,
    NoQuorum,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
)

_BACK_OFF_S = 0.05
_BACK_OFF_S_MAX = 1.0
_CONNECT_S_MAX = 2.0
_SERVER_S_MAX = 60.0
"""The API takes no longer `?timeout=`."""
_SERVER_SHARE = 0.9
"""Of an attempt's time, what the node may take: its own verdict, which is more precise than a
time-out here, should still arrive."""


class Request(NamedTuple):
    """One HTTP request, the same on every attempt, so that its idempotency key is too."""

    method: str
    target: str
    """Path, percent-encoded."""
    query: tuple[tuple[str, str], ...] = ()
    """Names and values, percent-encoded."""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None

    @property
    def writes(self) -> bool:
        """Whether an attempt without an answer may have changed something."""
        return self.method != "GET"


def parse_endpoints(endpoints: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Base addresses without a trailing slash; `host:port` alone means http."""
    listed = endpoints.split(",") if isinstance(endpoints, str) else endpoints
    found = [_parse_endpoint(text.strip()) for text in listed if text.strip()]
    if not found:
        raise InvalidArgument("endpoints", "endpoints: none given")
    return tuple(dict.fromkeys(found))


def _parse_endpoint(text: str) -> str:
    address = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment:
        raise InvalidArgument("endpoints", f"endpoints: expected http://host:port, got {text!r}")
    return address.rstrip("/")


class Attempts:
    """Sends requests to one of several endpoints. Belongs to the event loop that uses it first.

    It stays with an endpoint that answers. After a failure it goes to the next one at once, and
    waits only when all have failed in a row.
    """

    def __init__(
        self, endpoints: tuple[str, ...], timeout_s: float, attempt_timeout_s: float | None = None
    ) -> None:
        for name, value in (("timeout_s", timeout_s), ("attempt_timeout_s", attempt_timeout_s)):
            if value is not None and value <= 0:
                raise InvalidArgument(name, f"{name}: must be above 0, got {value}")
        self.endpoints = endpoints
        self._timeout_s = timeout_s
        self._attempt_s = attempt_timeout_s or timeout_s / min(len(endpoints), 3)
        self._preferred = 0
        self._session: aiohttp.ClientSession | None = None
        self._random = random.Random()

    async def send(self, request: Request) -> Answer:
        """The answer: 2xx, or 404 that says "no such key". Raises what the other ones stand for.

        Unavailable and OutcomeUnknown are tried again until the deadline. Once one attempt has
        an unknown outcome, later certain refusals do not make it certain: OutcomeUnknown is raised.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        unknown: OutcomeUnknown | None = None
        heard: dict[str, KvError] = {}
        failures = 0
        while True:
            index = self._preferred
            # Never 0, which aiohttp takes for "no limit".
            limit_s = max(min(self._attempt_s, deadline - loop.time()), 0.001)
            try:
                return await self.send_once(self.endpoints[index], request, limit_s)
            except OutcomeUnknown as error:
                last: KvError = error
                unknown = unknown or error
            except Unavailable as error:
                last = error
            if self._preferred == index:
                self._preferred = (index + 1) % len(self.endpoints)
            failures += 1
            heard[self.endpoints[index]] = last
            pause_s = self._pause_s(failures, last)
            if pause_s >= deadline - loop.time():
                raise _verdict(request, heard, last, unknown)
            await asyncio.sleep(pause_s)

    async def send_once(self, endpoint: str, request: Request, limit_s: float) -> Answer:
        """One attempt at one endpoint, ended after `limit_s`; the same errors, no retry."""
        query = [*request.query]
        if request.target.startswith("/v1/kv"):
            server_s = min(max(limit_s * _SERVER_SHARE, 0.001), _SERVER_S_MAX)
            query.append(("timeout", f"{server_s:.3f}"))
        joined = "&".join(f"{name}={value}" for name, value in query)
        url = URL(f"{endpoint}{request.target}{'?' if joined else ''}{joined}", encoded=True)
        time_out = aiohttp.ClientTimeout(total=limit_s, sock_connect=min(limit_s, _CONNECT_S_MAX))
        try:
            async with self._open().request(
                request.method,
                url,
                headers=request.headers,
                data=request.body,
                timeout=time_out,
                allow_redirects=False,
            ) as response:
                answer = Answer(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise error_of_failure(error, endpoint) from error
        if 200 <= answer.status < 300 or says_key_not_found(answer):
            return answer
        raise error_of(answer)

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=256),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Content-Type", "Accept-Encoding"),
            )
        return self._session

    def _pause_s(self, failures: int, last: KvError) -> float:
        rounds, rest = divmod(failures, len(self.endpoints))
        if rest:
            return 0.0
        pause_s = min(_BACK_OFF_S * 2.0 ** min(rounds - 1, 10), _BACK_OFF_S_MAX)
        if isinstance(last, Overloaded):
            pause_s = max(pause_s, last.retry_after_s)
        return pause_s * self._random.uniform(0.5, 1.0)


def _verdict(
    request: Request, heard: dict[str, KvError], last: KvError, unknown: OutcomeUnknown | None
) -> KvError:
    """What to raise in the end, with what each endpoint said last."""
    text = "; ".join(dict.fromkeys(str(error) for error in heard.values()))
    if unknown is not None and request.writes:
        return OutcomeUnknown(text)
    if isinstance(last, OutcomeUnknown):
        return NoQuorum(text)  # a read has no outcome to doubt
    return type(last)(text)
