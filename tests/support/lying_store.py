"""A store of one node in memory, as the torture sees it, that can be told to lie."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

EVERY = 15
"""It lies once in so many calls of the kind."""


@dataclass
class LyingStore:
    """`lie`: "" (none), "forget", "twice", "stale", "reuse", "ignore" or "fail"."""

    lie: str = ""
    revision: int = 1
    keys: dict[str, list[tuple[int, str | None]]] = field(default_factory=dict)
    answered: dict[str, dict[str, int]] = field(default_factory=dict)
    calls: int = 0

    def _now(self) -> bool:
        self.calls += 1
        return self.calls % EVERY == 0

    def at(self, key: str, revision: int = 0) -> tuple[int, str | None]:
        """What `key` held at `revision`, now if it is 0, and since when."""
        found: tuple[int, str | None] = (0, None)
        for entry in self.keys.get(key, ()):
            if not revision or entry[0] <= revision:
                found = entry
        return found

    async def get(self, request: web.Request) -> web.Response:
        """GET of a key."""
        key, wanted = request.match_info["key"], int(request.query.get("revision", 0))
        revision, value = self.at(key, wanted)
        history = self.keys.get(key, ())
        stale = self.lie == "stale" and not request.query and len(history) > 1
        if stale and self._now():
            revision, value = history[-2]
        if value is None:
            return web.json_response({"type": "/problems/key-not-found"}, status=404)
        return web.Response(text=value, headers={"ETag": f'"{revision}"'})

    async def write(self, request: web.Request) -> web.Response:
        """PUT and DELETE of a key."""
        key, once = request.match_info["key"], request.headers.get("Idempotency-Key", "")
        if self.lie == "fail" and self._now():
            return web.json_response({"type": "/problems/unexpected"}, status=500)
        if once in self.answered and self.lie != "twice":
            return _answer(self.answered[once])
        value = await request.text() if request.method == "PUT" else None
        revision, held = self.at(key)
        condition = request.headers.get("If-Match"), request.headers.get("If-None-Match")
        wrong = condition[0] not in (None, f'"{revision}"') or (condition[1] and held is not None)
        if wrong and not (self.lie == "ignore" and self._now()):
            return web.json_response({"mod_revision": revision}, status=412)
        deleted = int(held is not None)
        if value is not None or deleted:
            self._apply(key, value)
        document = {"revision": self.revision}
        document |= {"version": 1} if value is not None else {"deleted": deleted}
        if once:
            self.answered[once] = document
        return _answer(document)

    def _apply(self, key: str, value: str | None) -> None:
        self.revision += 0 if self.lie == "reuse" and self._now() else 1
        if not (self.lie == "forget" and self._now()):
            self.keys.setdefault(key, []).append((self.revision, value))

    async def cluster(self, _: web.Request) -> web.Response:
        """What the node says of itself."""
        node = {"role": "leader", "digest": "d"}
        return web.json_response(
            {"node": node, "ballot": "1.1", "applied_through": 1, "revision": self.revision}
        )

    async def ready(self, _: web.Request) -> web.Response:
        """It always serves."""
        return web.Response()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Listen on a free port of the loopback address; gives the base address."""
        app = web.Application()
        app.router.add_get("/v1/kv/{key:.*}", self.get)
        app.router.add_put("/v1/kv/{key:.*}", self.write)
        app.router.add_delete("/v1/kv/{key:.*}", self.write)
        app.router.add_get("/v1/cluster", self.cluster)
        app.router.add_get("/readyz", self.ready)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


def _answer(document: dict[str, int]) -> web.Response:
    return web.json_response(document, headers={"ETag": f'"{document["revision"]}"'})
