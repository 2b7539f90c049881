"""What the other nodes say: this node asks each of them over HTTP, in its caller's name.

A page that is served by one node shows all of them and yet talks to nobody else. Nothing is asked
unless somebody looks.
"""

import asyncio
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp
import orjson

ANSWER_S_MAX = 1.5
"""Who takes longer is shown as silent."""
ANSWER_BYTES_MAX = 8 << 20
ASKED_AT_ONCE_MAX = 64


class Heard(NamedTuple):
    """What node `id` answered, or why it did not."""

    id: int
    document: dict[str, Any] | None
    trouble: str = ""


class Neighbours:
    """Asks other nodes. Made before there is a loop; `close` when nobody asks any more."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self, urls: Mapping[int, str | None], target: str, authorization: str | None
    ) -> list[Heard]:
        """`GET target` of each node, all at the same time; in the order of the nodes."""
        asked = (self._ask(node, url, target, authorization) for node, url in urls.items())
        return sorted(await asyncio.gather(*asked))

    async def _ask(
        self, node: int, url: str | None, target: str, authorization: str | None
    ) -> Heard:
        if not url:
            return Heard(node, None, "this node has not met it yet")
        headers = {} if authorization is None else {"Authorization": authorization}
        base = url if "://" in url else f"http://{url}"
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                async with self._opened().get(base + target, headers=headers) as answer:
                    body = await answer.content.read(ANSWER_BYTES_MAX)
                    while not answer.content.at_eof() and len(body) < ANSWER_BYTES_MAX:
                        body += await answer.content.read(ANSWER_BYTES_MAX - len(body))
                if answer.status != 200:
                    return Heard(node, None, f"it answers with status {answer.status}")
                document = orjson.loads(body)
        except aiohttp.ClientConnectorError as error:
            number = error.os_error.errno
            told = os.strerror(number) if number and number > 0 else str(error.os_error)
            return Heard(node, None, told)
        except TimeoutError:
            return Heard(node, None, f"no answer within {ANSWER_S_MAX:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Heard(node, None, str(error)[:200] or type(error).__name__)
        return Heard(node, document if isinstance(document, dict) else {})

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=ASKED_AT_ONCE_MAX)
            # What is asked is no secret of this machine's user, and must reach the node itself.
            self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
        return self._session

    async def close(self) -> None:
        """Idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None
