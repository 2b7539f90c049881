"""One attempt at one node, and what its caller knows afterwards.

Not `kvstore.client`: what judges the store shares no code with what the store ships.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
from yarl import URL

from kvstore.client.at_most_once import Attempt, at_most_once
from proof.histories.history import CallOutcome

CONNECT_S_MAX = 0.5
CONNECTIONS_MAX = 256


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of an attempt. `status` 0: no answer; `body` then says why."""

    outcome: CallOutcome
    status: int = 0
    body: bytes = b""
    revision: int = 0
    """From the ETag; 0 if there is none."""

    def document(self) -> dict[str, Any]:
        """The body as JSON, {} if it is none."""
        try:
            found = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def absent(self) -> bool:
        """The node says that the key does not exist."""
        return self.status == 404 and b"key-not-found" in self.body

    @property
    def unexpected(self) -> bool:
        """An answer that no request of ours may get: a defect of the store or of the torture."""
        return self.status not in (0, 200, 412, 429, 503, 504) and not self.absent


class Requests:
    """Sends attempts to nodes; `endpoints` are base addresses by the node's number.

    Use it as an async context, from one event loop.
    """

    def __init__(self, endpoints: dict[int, str]) -> None:
        self.endpoints = endpoints

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Content-Type", "Accept-Encoding", "User-Agent"),
            trace_configs=[at_most_once()],
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        await self._session.close()

    async def send(
        self,
        node: int,
        method: str,
        target: str,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = 1.0,
    ) -> Reply:
        """One attempt: the request leaves at most once. Never raises for what the node or the
        network does."""
        attempt = Attempt()
        url = URL(f"{self.endpoints[node]}{target}", encoded=True)
        limits = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(CONNECT_S_MAX, timeout_s))
        try:
            async with self._session.request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=limits,
                allow_redirects=False,
                trace_request_ctx=attempt,
            ) as answer:
                return _reply(answer.status, await answer.read(), answer.headers.get("ETag", ""))
        except (aiohttp.ClientError, OSError) as error:
            outcome = CallOutcome.UNKNOWN if attempt.sent else CallOutcome.REFUSED
            return Reply(outcome, body=f"{type(error).__name__}: {error}".encode())


def _reply(status: int, body: bytes, etag: str) -> Reply:
    outcome = CallOutcome.OK
    if status in (429, 503):
        outcome = CallOutcome.REFUSED
        if b'"outcome":"unknown"' in body:
            outcome = CallOutcome.UNKNOWN
    elif status >= 500:
        outcome = CallOutcome.UNKNOWN
    elif status not in (200, 412) and not (status == 404 and b"key-not-found" in body):
        outcome = CallOutcome.REFUSED
    text = etag.strip('"')
    return Reply(outcome, status, body, int(text) if text.isdecimal() else 0)


def key_target(key: str, **query: object) -> str:
    """The path of a key made of letters, digits and `-_/`, with query parameters."""
    joined = "&".join(f"{name}={value}" for name, value in query.items())
    return f"/v1/kv/{key}{'?' if joined else ''}{joined}"
