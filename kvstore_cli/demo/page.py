"""The page of `kvstore demo`: the dashboard with controls, which stays when nodes do not.

It serves the dashboard's files, passes every other request on to a node that runs, and has a few
calls of its own under `/demo/`. Only this machine is served, and only pages of this server may use
the controls: a page of somebody else can neither read the answers nor send the header.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
from aiohttp import web

from http_api.v1.dashboard import CONTENT_SECURITY_POLICY, PARTS
from kvstore.client.at_most_once import Attempt, at_most_once
from kvstore_cli.demo.hands import NodeHands, NotNow
from kvstore_cli.demo.load import RATE_MAX, DemoLoad
from kvstore_cli.demo.tls import DemoTls
from kvstore_cli.launcher.node_process import ServerProcess

CONTROL_HEADER = "X-Kvstore-Demo"
BODY_BYTES_MAX = 2 << 20
PASSED_ON_AT_ONCE_MAX = 200
CONNECT_S_MAX = 1.0
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "content-length"}
"""The host is not among them: a node sees by it that the page that sends a write is its own."""
HOSTS = {"127.0.0.1", "localhost", "[::1]"}


class DemoPage:
    """A server on `host:port`. `nodes` are those that requests are passed on to. With `tls`, they
    and the page speak it."""

    def __init__(
        self,
        hands: NodeHands,
        nodes: Sequence[ServerProcess],
        load: DemoLoad,
        tls: DemoTls | None = None,
    ) -> None:
        self._tls = tls
        self._hands = hands
        self._nodes = list(nodes)
        self._load = load
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._states = {node.number: "" for node in nodes}

    async def start(self, host: str, port: int) -> None:
        """Bind and serve. Raises OSError."""
        app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_only_this_machine])
        add = app.router.add_route
        add("GET", "/", self._page)
        add("GET", "/ui/{part:.+}", self._part)
        add("GET", "/demo/state", self._state)
        add("POST", "/demo/load", self._set_load)
        add("POST", r"/demo/nodes/{number:\d+}/{action:stop|start|freeze|cut|plug|wipe}", self._act)
        add("*", "/{rest:.*}", self._pass_on)
        tls = self._tls
        trust = True if tls is None else tls.trust
        connector = aiohttp.TCPConnector(limit=PASSED_ON_AT_ONCE_MAX, ssl=trust)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S_MAX)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            auto_decompress=False,
            trace_configs=[at_most_once()],
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        served = None if tls is None else tls.page
        await web.TCPSite(self._runner, host, port, ssl_context=served).start()

    async def stop(self) -> None:
        """Close everything. Idempotent."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    # -- the files --------------------------------------------------------------------------

    async def _page(self, _: web.Request) -> web.Response:
        body = PARTS["index.html"][0].replace(b"<body>", b'<body data-demo="1">')
        return _answer(body, PARTS["index.html"][1])

    async def _part(self, request: web.Request) -> web.Response:
        found = PARTS.get(request.match_info["part"])
        if found is None:
            raise web.HTTPNotFound
        return _answer(*found)

    # -- the controls -----------------------------------------------------------------------

    async def _state(self, _: web.Request) -> web.Response:
        return web.json_response({"nodes": self._hands.states(), "load": self._load.state()})

    async def _set_load(self, request: web.Request) -> web.Response:
        _check_control(request)
        try:
            rate = (await request.json())["rate_per_s"]
        except (ValueError, KeyError, TypeError):
            rate = None
        if not isinstance(rate, int) or not 0 <= rate <= RATE_MAX:
            raise web.HTTPBadRequest(text=f"rate_per_s: a whole number from 0 to {RATE_MAX}\n")
        self._load.rate_per_s = rate
        return await self._state(request)

    async def _act(self, request: web.Request) -> web.Response:
        _check_control(request)
        act = {
            "stop": self._hands.stop_node,
            "start": self._hands.start_node,
            "freeze": self._hands.freeze_node,
            "cut": self._hands.cut_node,
            "plug": self._hands.plug_node,
            "wipe": self._hands.wipe_node,
        }[request.match_info["action"]]
        try:
            act(int(request.match_info["number"]))
        except KeyError:
            raise web.HTTPNotFound(text="there is no such node\n") from None
        except NotNow as error:
            raise web.HTTPConflict(text=f"{error}\n") from None
        return await self._state(request)

    # -- everything else --------------------------------------------------------------------

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        running = [node for node in self._nodes if self._hands.state_of(node.number) == "runs"]
        # One that is cut off is asked if there is no other.
        running.sort(key=lambda node: self._hands.is_cut(node.number))
        body = await request.read()
        headers = {n: v for n, v in request.headers.items() if n.lower() not in HOP_BY_HOP}
        for node in running:
            attempt = Attempt(again=request.method in ("GET", "HEAD"))
            try:
                answer = await self._session.request(
                    request.method, node.url + request.raw_path, data=body, headers=headers,
                    allow_redirects=False, trace_request_ctx=attempt,
                )  # fmt: skip
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if not attempt.sent:
                    continue  # another node may have it
                raise web.HTTPBadGateway(text=f"node {node.number}: {error}\n") from None
            async with answer:
                return await self._copy(request, answer)
        raise web.HTTPServiceUnavailable(text="no node of the demo runs\n")

    async def _copy(
        self, request: web.Request, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        headers = {n: v for n, v in answer.headers.items() if n.lower() not in HOP_BY_HOP}
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        try:
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
        except (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError):
            # The node has gone in the middle: the end must not look like a proper one.
            if request.transport is not None:
                request.transport.abort()
        return response


def _answer(body: bytes, kind: str) -> web.Response:
    return web.Response(
        body=body,
        headers={
            "Content-Type": kind,
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-cache",
        },
    )


def _check_control(request: web.Request) -> None:
    if CONTROL_HEADER not in request.headers:
        raise web.HTTPForbidden(text=f"the header {CONTROL_HEADER} is missing\n")


@web.middleware
async def _only_this_machine(request: web.Request, handler: Any) -> web.StreamResponse:
    """A name that somebody else made to mean this machine is refused, too."""
    if request.host.rpartition(":")[0] not in HOSTS:
        raise web.HTTPForbidden(text="the demo serves 127.0.0.1 only\n")
    response: web.StreamResponse = await handler(request)
    return response
