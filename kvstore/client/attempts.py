"""Sending one request until it is answered: fail-over, back-off and the total deadline."""

import asyncio
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from kvstore.client.connections import CONNECT_S_MAX, Connections
from kvstore.client.racing import HEDGE_S, Race
from kvstore.client.requests import IDEMPOTENCY_KEY
from kvstore.client.verdict import HttpReply, error_of, error_of_failure, says_key_not_found
from kvstore.errors import InvalidArgument, KvError, OutcomeUnknown, Overloaded, Unavailable

_BACK_OFF_S = 0.05
_BACK_OFF_S_MAX = 1.0
_SERVER_S_MAX = 60.0
"""The longest `?timeout=` that the API takes."""
_TIMED = ("/v1/kv", "/v1/txn", "/v1/batch", "/v1/leases")
"""Resources that take `?timeout=`."""
_SERVER_SHARE = 0.9
"""The share of an attempt's time that the node may take: its own answer, which is more precise than
a time-out here, should still arrive."""


class Request(NamedTuple):
    """One HTTP request, the same on every attempt, so that its idempotency key is too."""

    method: str
    target: str
    """Path, percent-encoded."""
    query: tuple[tuple[str, str], ...] = ()
    """Names and values, percent-encoded."""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    only_reads: bool = False
    """It changes nothing, although its method is not GET."""

    @property
    def writes(self) -> bool:
        """Whether an attempt without an answer may have changed something."""
        return self.method != "GET" and not self.only_reads

    @property
    def repeatable(self) -> bool:
        """Whether it does no harm if it arrives at two nodes."""
        return not self.writes or any(name == IDEMPOTENCY_KEY for name, _ in self.headers)


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
    """Sends requests to one of several endpoints.

    It stays with an endpoint that answers. After a failure it goes to the next one at once, and
    waits only when all have failed in a row; one that is silent gets company, see `Race`.
    """

    def __init__(
        self, endpoints: tuple[str, ...], timeout_s: float, attempt_timeout_s: float | None = None
    ) -> None:
        for name, value in (("timeout_s", timeout_s), ("attempt_timeout_s", attempt_timeout_s)):
            if value is not None and value <= 0:
                raise InvalidArgument(name, f"{name}: must be above 0, got {value}")
        self.endpoints = endpoints
        """Never empty; a call goes on with those that there were when it began."""
        self.heard: Callable[[str, bool], None] = lambda endpoint, failed: None
        """Called with an endpoint that answered, and whether another one failed before."""
        self._timeout_s = timeout_s
        self._attempt_timeout_s = attempt_timeout_s
        self._preferred = endpoints[0]
        self.connections = Connections()
        self._random = random.Random()

    @property
    def timeout_s(self) -> float:
        """The total deadline of a call."""
        return self._timeout_s

    @property
    def preferred(self) -> int:
        """The index of the endpoint to begin with: the one that answered last."""
        return self._index_in(self.endpoints)

    def _index_in(self, endpoints: tuple[str, ...]) -> int:
        return endpoints.index(self._preferred) if self._preferred in endpoints else 0

    @property
    def _attempt_s(self) -> float:
        return self._attempt_timeout_s or self._timeout_s / min(len(self.endpoints), 3)

    async def send(
        self,
        request: Request,
        timeout_s: float | None = None,
        check: Callable[[HttpReply], None] | None = None,
    ) -> HttpReply:
        """The answer: 2xx, or to a GET 404 for "no such key". Raises what the others stand for.

        Unavailable and OutcomeUnknown are tried again until the deadline. Once one attempt has
        an unknown outcome, later certain refusals do not make it certain: OutcomeUnknown is raised.
        `timeout_s` replaces the deadline, and shortens attempts so that several fit in. `check` may
        raise for an answer, as if the attempt had failed so.
        """
        attempt_s = self._attempt_s
        if timeout_s is not None:
            attempt_s = min(attempt_s, timeout_s / min(len(self.endpoints), 3))
        now_s = asyncio.get_running_loop().time()
        endpoints = self.endpoints
        race = Race(
            endpoints,
            self._index_in(endpoints),
            lambda endpoint, limit_s: self.send_once(endpoint, request, limit_s),
            pause_s=self.pause_s,
            failed=lambda index: self._turn_from(endpoints, index),
            check=check,
            writes=request.writes,
            hedged=request.repeatable,
            attempt_s=attempt_s,
            deadline_s=now_s + (self._timeout_s if timeout_s is None else timeout_s),
        )
        try:
            async with self.connections.wanted():
                return await race.run()
        finally:
            if race.winner is not None:
                self._preferred = endpoints[race.winner]
                self.heard(self._preferred, race.failed)

    def _turn_from(self, endpoints: tuple[str, ...], index: int) -> None:
        """That endpoint failed: another may do better."""
        if self._preferred == endpoints[index]:
            self._preferred = endpoints[(index + 1) % len(endpoints)]

    async def send_once(self, endpoint: str, request: Request, limit_s: float) -> HttpReply:
        """One attempt at one endpoint, ended after `limit_s`; the same errors, no retry."""
        query = [*request.query]
        if request.target.startswith(_TIMED):
            server_s = min(max(limit_s * _SERVER_SHARE, 0.001), _SERVER_S_MAX)
            query.append(("timeout", f"{server_s:.3f}"))
        joined = "&".join(f"{name}={value}" for name, value in query)
        url = URL(f"{endpoint}{request.target}{'?' if joined else ''}{joined}", encoded=True)
        sent = SimpleNamespace(times=0)
        time_out = aiohttp.ClientTimeout(total=limit_s, sock_connect=min(limit_s, CONNECT_S_MAX))
        try:
            async with self.connections.calls().request(
                request.method,
                url,
                headers=request.headers,
                data=request.body,
                timeout=time_out,
                allow_redirects=False,
                trace_request_ctx=sent,
            ) as response:
                answer = HttpReply(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise error_of_failure(error, endpoint, sent=sent.times > 0) from error
        missing = request.method == "GET" and says_key_not_found(answer)
        if 200 <= answer.status < 300 or missing:
            return answer
        refusal = error_of(answer)
        if sent.times > 1 and request.writes and isinstance(refusal, Unavailable):
            # aiohttp sent it once more by itself when a connection that it had kept broke.
            raise OutcomeUnknown(f"the connection to {endpoint} was lost before the answer")
        raise refusal

    def stream_limit_s(self, failures: int) -> float:
        """How long a stream may take to begin after so many failures: where there are others to
        ask, as long as an answer to a call before the next one is asked; more after each round."""
        rounds = failures // len(self.endpoints)
        if len(self.endpoints) == 1:
            return self._attempt_s
        return min(self._attempt_s, HEDGE_S * 2.0 ** min(rounds, 10))

    async def stream(
        self, endpoint: str, request: Request, limit_s: float
    ) -> aiohttp.ClientResponse:
        """One attempt at an answer without an end; the caller reads it and closes it.

        The head must come within `limit_s`, and later something at least every
        `connections.STREAM_SILENCE_S`.
        Raises like `send_once`.
        """
        query = "&".join(f"{name}={value}" for name, value in request.query)
        url = URL(f"{endpoint}{request.target}{'?' if query else ''}{query}", encoded=True)
        try:
            async with asyncio.timeout(limit_s):
                response = await self.connections.streams().request(
                    request.method, url, headers=request.headers, allow_redirects=False
                )
                if response.status == 200:
                    return response
                async with response:
                    answer = HttpReply(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise error_of_failure(error, endpoint, sent=False) from error
        raise error_of(answer)

    async def close(self) -> None:
        """Close the connections. Requests that wait, and later ones, raise ClientClosed."""
        await self.connections.close()

    def pause_s(self, failures: int, last: KvError) -> float:
        """How long to wait after `failures` in a row: 0 until every endpoint had a turn."""
        rounds, rest = divmod(failures, len(self.endpoints))
        if rest:
            return 0.0
        pause_s = min(_BACK_OFF_S * 2.0 ** min(rounds - 1, 10), _BACK_OFF_S_MAX)
        if isinstance(last, Overloaded):
            pause_s = max(pause_s, last.retry_after_s)
        return pause_s * self._random.uniform(0.5, 1.0)
