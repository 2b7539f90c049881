"""The end of an async client: closed while calls wait, forgotten, used after a fork, in a second
loop. No call waits for ever, and nothing is printed."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from kvstore.client import Client, LeaseLost
from tests.support.flaky_node import FlakyNode, answers, value
from tests.support.paths import ROOT

Test = Callable[[Client, FlakyNode], Awaitable[None]]


async def silent_stream(request: web.Request) -> web.StreamResponse:
    """A watch that has begun, at a node of a release that promises no keep-alive."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"event: ready\nid: 1\ndata: {}\n\n")
    await asyncio.sleep(60)
    return response


def on_node(test: Test, *script: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), FlakyNode(*script) as node:
            client = Client(node.url)
            try:
                await test(client, node)
            finally:
                await client.close()

    asyncio.run(main())


async def ended(call: Awaitable[Any]) -> None:
    """It ends at once, and says why."""
    begun_s = time.monotonic()
    with pytest.raises(RuntimeError, match="closed"):
        await call
    assert time.monotonic() - begun_s < 5


@pytest.mark.parametrize("step", ["hang", "drop"])
def test_calls_that_wait_hear_of_the_close(step: str) -> None:
    async def test(client: Client, node: FlakyNode) -> None:
        calls: list[Awaitable[Any]] = [
            client.get("k"),
            client.put("k", "v"),
            client.lease(5).__aenter__(),
            client.lock("l").__aenter__(),
            client.watch("k").__aenter__(),
        ]
        waiting = [asyncio.ensure_future(call) for call in calls]
        while len(node.seen) < len(calls):
            await asyncio.sleep(0.01)
        await client.close()
        for each in waiting:
            await ended(each)
        await ended(client.get("k"))

    on_node(test, step)


def test_a_watch_that_reads_hears_of_the_close() -> None:
    async def test(client: Client, node: FlakyNode) -> None:
        watch = await client.watch("k").__aenter__()
        reading = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0.1)
        await client.close()
        await ended(reading)
        await ended(anext(watch))

    on_node(test, silent_stream)


def test_a_lease_is_lost_with_its_client() -> None:
    async def test(client: Client, node: FlakyNode) -> None:
        async with client.lease(1) as lease:
            await client.close()
            await asyncio.wait_for(lease.lost.wait(), 5)
            with pytest.raises(LeaseLost):
                lease.check()

    on_node(test, answers({"id": "5", "ttl_s": 1}))


def test_one_client_in_one_loop_after_another() -> None:
    async def main() -> None:
        async with asyncio.timeout(30), FlakyNode(value(b"v")) as node:
            client = Client(node.url)

            async def get() -> None:
                assert await client.get("k")

            for _ in range(2):
                await asyncio.to_thread(asyncio.run, get())
            await get()
            with pytest.raises(RuntimeError, match="another event loop"):
                await asyncio.to_thread(asyncio.run, get())
            await client.close()

    asyncio.run(main())


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    """What a program says that uses a node which answers `v` to everything."""

    async def main() -> subprocess.CompletedProcess[str]:
        async with asyncio.timeout(60), FlakyNode(value(b"v")) as node:
            words = [sys.executable, "-W", "default", "-c", script, node.url]
            return await asyncio.to_thread(
                subprocess.run, words, capture_output=True, text=True, timeout=50, cwd=ROOT
            )

    return asyncio.run(main())


@pytest.mark.parametrize("end", ["", "del client", "del client; await asyncio.sleep(0.1)"])
def test_a_forgotten_close_is_nobodys_business(end: str) -> None:
    done = run_script(f"""
import asyncio, sys
from kvstore.client import Client
async def main():
    client = Client(sys.argv[1])
    print((await client.get("k")).value)
    {end}
asyncio.run(main())
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "b'v'\n", "")


def test_after_a_fork_the_child_hears_it_and_the_parent_goes_on() -> None:
    done = run_script("""
import asyncio, os, sys
from kvstore.client import Client
client = Client(sys.argv[1])
async def get():
    print((await client.get("k")).value)
loop = asyncio.new_event_loop()
loop.run_until_complete(get())
sys.stdout.flush()
child = os.fork()
if not child:
    own = asyncio.new_event_loop()
    try:
        own.run_until_complete(get())
    except RuntimeError as error:
        print(error)
    own.run_until_complete(client.close())
    own.close()
    del client
    sys.stdout.flush()
    os._exit(0)
print(os.waitpid(child, 0)[1])
loop.run_until_complete(get())
loop.run_until_complete(client.close())
loop.close()
""")
    assert done.stdout.splitlines() == [
        "b'v'", "this client was made before a fork: make one in the child", "0", "b'v'",
    ]  # fmt: skip
    assert done.stderr == ""
