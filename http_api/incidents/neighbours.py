"""What the other nodes say: this node asks each of them over HTTP, in its caller's name.

A page that is served by one node shows all of them and yet talks to nobody else. Nothing is asked
unless somebody looks.
"""

import asyncio
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson

from kvstore.certificates.trust import node_trust
from kvstore.errors import InvalidArgument

ANSWER_S_MAX = 1.5
NO_ANSWER = "no answer"
"""With this begins the trouble of a node that takes a request and does not answer it in time."""
"""Who takes longer is shown as silent."""
ANSWER_BYTES_MAX = 8 << 20
ASKED_AT_ONCE_MAX = 64


class Heard(NamedTuple):
    """What node `id` answered, or why it did not."""

    id: int
    document: dict[str, Any] | None
    trouble: str = ""


class Neighbours:
    """Asks other nodes. Made before there is a loop; `close` when nobody asks any more.

    `authorities`: a file of those whose certificates nodes may show, besides the system's. One that
    was replaced counts from the next question on.
    """

    def __init__(self, authorities: Path | None = None) -> None:
        self._authorities = authorities
        self._session: aiohttp.ClientSession | None = None
        self._stamp = 0
        self._opening = asyncio.Lock()

    async def ask(
        self, urls: Mapping[int, str | None], target: str, authorization: str | None
    ) -> list[Heard]:
        """`GET target` of each node, all at the same time; in the order of the nodes."""
        try:
            session = await self._opened()
        except InvalidArgument as error:
            return [Heard(node, None, str(error)) for node in sorted(urls)]
        asked = (self._ask(session, node, url, target, authorization) for node, url in urls.items())
        return sorted(await asyncio.gather(*asked))

    async def _ask(
        self,
        session: aiohttp.ClientSession,
        node: int,
        url: str | None,
        target: str,
        authorization: str | None,
    ) -> Heard:
        if not url:
            return Heard(node, None, "this node has not met it yet")
        headers = {} if authorization is None else {"Authorization": authorization}
        base = url if "://" in url else f"http://{url}"
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                async with session.get(base + target, headers=headers) as answer:
                    body = await answer.content.read(ANSWER_BYTES_MAX)
                    while not answer.content.at_eof() and len(body) < ANSWER_BYTES_MAX:
                        body += await answer.content.read(ANSWER_BYTES_MAX - len(body))
                if answer.status != 200:
                    return Heard(node, None, f"it answers with status {answer.status}")
                document = orjson.loads(body)
        except aiohttp.ClientConnectorCertificateError as error:
            cause = error.certificate_error
            told = getattr(cause, "verify_message", "") or str(cause)
            return Heard(node, None, f"its certificate is not trusted: {told}")
        except aiohttp.ClientConnectorSSLError as error:
            return Heard(node, None, f"no TLS with it: {error.os_error}")
        except aiohttp.ClientConnectorError as error:
            number = error.os_error.errno
            told = os.strerror(number) if number and number > 0 else str(error.os_error)
            return Heard(node, None, told)
        except TimeoutError:
            return Heard(node, None, f"{NO_ANSWER} within {ANSWER_S_MAX:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Heard(node, None, str(error)[:200] or type(error).__name__)
        return Heard(node, document if isinstance(document, dict) else {})

    async def _opened(self) -> aiohttp.ClientSession:
        async with self._opening:
            stamp = self._stamp_now()
            if self._session is not None and stamp != self._stamp:
                await self.close()
            if self._session is None:
                trust: ssl.SSLContext | bool = True
                if self._authorities is not None:
                    trust = await asyncio.to_thread(node_trust, self._authorities)
                connector = aiohttp.TCPConnector(limit=ASKED_AT_ONCE_MAX, ssl=trust)
                # What is asked is no secret of this machine's user, and must reach the node itself.
                self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
                self._stamp = stamp
            return self._session

    def _stamp_now(self) -> int:
        try:
            return 0 if self._authorities is None else self._authorities.stat().st_mtime_ns
        except OSError:
            return 0

    async def close(self) -> None:
        """Idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None
