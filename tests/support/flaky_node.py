"""A real HTTP server on a free port that answers from a script: one endpoint of a cluster."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import NamedTuple, Self

from aiohttp import web


class Seen(NamedTuple):
    """What arrived."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


Step = Callable[[web.Request], web.StreamResponse | Awaitable[web.StreamResponse]] | str
"""How to answer one request: a function, "drop" (cut the connection), "hang", or "wait" until
`go_on` is called, and then play the next step."""


class FlakyNode:
    """Plays `script` step by step; the last step repeats."""

    def __init__(self, *script: Step) -> None:
        self._script = list(script)
        self._hung = asyncio.Event()
        self._waited = asyncio.Event()
        self.seen: list[Seen] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hung.set()
        await self._runner.cleanup()

    def go_on(self) -> None:
        """Let what waits be answered."""
        self._waited.set()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        path, _, query = request.raw_path.partition("?")
        self.seen.append(Seen(request.method, path, query, dict(request.headers), body))
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if step == "wait":
            await self._waited.wait()
            step = self._script.pop(0)
        if step == "hang":
            await self._hung.wait()
        if isinstance(step, str):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        answer = step(request)  # type: ignore[arg-type]
        return answer if isinstance(answer, web.StreamResponse) else await answer


def problem(status: int, kind: str, outcome: str = "not-applied", **fields: object) -> Step:
    """A step that answers with a problem."""

    def answer(_: web.Request) -> web.StreamResponse:
        facts = {"type": f"/problems/{kind}", "status": status, "detail": f"it is {kind}"}
        return web.json_response(
            {**facts, "outcome": outcome, **fields},
            status=status,
            content_type="application/problem+json",
        )

    return answer


def answers(body: object, status: int = 200) -> Step:
    """A step that answers with JSON."""
    return lambda _: web.json_response(body, status=status)


def value(body: bytes, mod_revision: int = 7) -> Step:
    """A step that answers a GET of a key."""
    headers = {"ETag": f'"{mod_revision}"', "X-Create-Revision": "5", "X-Version": "2"}
    return lambda _: web.Response(body=body, headers=headers)


written = answers({"revision": 8, "version": 3})
no_quorum = problem(503, "no-quorum")
unknown = problem(504, "outcome-unknown", "unknown")
