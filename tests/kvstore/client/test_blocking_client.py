"""The blocking client: generated, fresh, and complete."""

import asyncio
import inspect
import re
import runpy
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

import pytest

import kvstore.client
from kvstore.client import BlockingClient, LeaseLost, Turn, loop_thread
from kvstore.client.loop_thread import LoopThread
from tests.support.flaky_node import FlakyNode, answers, value
from tests.support.paths import ROOT

GENERATOR = "scripts/generate_blocking_client.py"
TWINS = {
    getattr(kvstore.client, name.removeprefix("Blocking")): getattr(kvstore.client, name)
    for name in kvstore.client.__all__
    if name.startswith("Blocking") and name != "BlockingEvent"
}
NAMES = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__",
         "__anext__": "__next__", "aclose": "close"}  # fmt: skip
METHODS = [
    (own, twin, name)
    for own, twin in TWINS.items()
    for name, member in inspect.getmembers(own)
    if (name in NAMES or not name.startswith("_"))
    and (inspect.isfunction(member) or isinstance(member, property))
]


def test_what_is_checked_in_is_what_the_generator_writes() -> None:
    written = (ROOT / "kvstore/client/blocking.py").read_text()
    assert runpy.run_path(str(ROOT / GENERATOR))["generate"]() == written, "run `make client`"
    assert GENERATOR in written.splitlines()[0]
    assert len((ROOT / GENERATOR).read_text().splitlines()) < len(written.splitlines())


def test_every_handle_has_a_twin() -> None:
    assert {cls.__name__ for cls in TWINS} == {
        "Client", "Lease", "Lock", "Leadership", "Turn", "Watch"
    }  # fmt: skip
    assert len(METHODS) > 60
    assert all(issubclass(TWINS[cls], TWINS[Turn]) for cls in TWINS if issubclass(cls, Turn))


def translated(annotation: Any) -> str:
    """An annotation of the async face, as the blocking one must have it."""
    text = inspect.formatannotation(annotation).replace("AsyncIterator", "Iterator")
    text = text.replace("asyncio.locks.Event", "kvstore.client.loop_thread.BlockingEvent")
    handles = "|".join(cls.__name__ for cls in TWINS)
    return re.sub(rf"kvstore\.client\.\w+\.({handles})\b", r"kvstore.client.blocking.Blocking\1",
                  text)  # fmt: skip


@pytest.mark.parametrize(("own", "twin", "name"), METHODS)
def test_the_twin_has_the_same_methods_and_parameters(own: type, twin: type, name: str) -> None:
    ours, theirs = getattr(own, name), getattr(twin, NAMES.get(name, name))
    if isinstance(ours, property):
        assert isinstance(theirs, property) and ours.fget and theirs.fget
        ours, theirs = ours.fget, theirs.fget
    wanted, found = inspect.signature(ours), inspect.signature(theirs)
    assert list(found.parameters.values()) == list(wanted.parameters.values())
    assert inspect.formatannotation(found.return_annotation) == translated(wanted.return_annotation)
    assert not inspect.iscoroutinefunction(theirs) and not inspect.isasyncgenfunction(theirs)


@pytest.mark.parametrize("twin", TWINS.values(), ids=lambda twin: twin.__name__)
def test_docstrings_are_those_of_the_blocking_face(twin: type) -> None:
    texts = [inspect.getdoc(member) or "" for _, member in inspect.getmembers(twin)
             if inspect.isfunction(member) and member.__name__ != "__init__"]  # fmt: skip
    assert all(texts)
    for text in [twin.__doc__ or "", *texts]:
        assert not re.search(r"\basync\b|\bawait\b|`(Client|Lease|Watch|Turn|Lock)\b", text)


def test_attributes_have_twins() -> None:
    for own, attributes in {
        "Lease": ("ttl_s", "lost"),
        "Turn": ("lease", "key", "revision"),
    }.items():
        twin = getattr(kvstore.client, f"Blocking{own}")
        assert all(isinstance(getattr(twin, name), property) for name in attributes)


def test_a_call_that_waits_ends_when_another_thread_closes_the_client() -> None:
    async def main() -> None:
        async with asyncio.timeout(20), FlakyNode("hang") as node:
            client = BlockingClient(node.url)
            waiting = asyncio.create_task(asyncio.to_thread(client.get, "k"))
            while not node.seen:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(client.close)
            with pytest.raises(RuntimeError, match="closed during the call"):
                await waiting

    asyncio.run(main())


async def nothing() -> None:
    """There is nothing to close."""


@pytest.mark.parametrize("round_", range(5))
def test_close_frees_all_threads_whatever_they_are_at(round_: int) -> None:
    """Calls that begin while it closes never ran, and their threads waited for ever."""
    loop = LoopThread(nothing)
    freed: list[BaseException] = []

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                await asyncio.sleep(0.05)
                raise

    def call_again_and_again(call: Any) -> None:
        try:
            while True:
                loop.run(call())
        except BaseException as error:
            freed.append(error)

    calls = [stubborn] * 2 + [nothing] * 6
    threads = [
        threading.Thread(target=call_again_and_again, args=(call,), daemon=True) for call in calls
    ]
    for thread in threads:
        thread.start()
    threading.Event().wait(0.05)
    loop.end()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert len(freed) == len(threads) and all(isinstance(e, RuntimeError) for e in freed)


def test_close_frees_who_waits_for_what_cannot_be_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop_thread, "END_S", 0.1)
    loop, begun, end = LoopThread(nothing), threading.Event(), threading.Event()
    freed: list[BaseException] = []

    async def deaf() -> None:
        begun.set()
        while not end.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    def wait() -> None:
        try:
            loop.run(deaf())
        except RuntimeError as error:
            freed.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert begun.wait(10)
    loop.end()
    thread.join(10)
    end.set()
    assert "closed during the call" in str(*freed)


_NOT_HOW_SLOW = 'import logging; logging.getLogger("asyncio").setLevel("ERROR")\n'
"""With -X dev asyncio warns of each step that took 0.1 s: that is the machine, not the client."""


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    """What a program says that uses a node which answers `v` to everything."""

    async def main() -> subprocess.CompletedProcess[str]:
        async with asyncio.timeout(60), FlakyNode(value(b"v")) as node:
            words = [sys.executable, "-X", "dev", "-c", _NOT_HOW_SLOW + script, node.url]
            return await asyncio.to_thread(
                subprocess.run, words, capture_output=True, text=True, timeout=50, cwd=ROOT
            )

    return asyncio.run(main())


def test_after_a_fork_the_child_hears_it_and_the_parent_goes_on() -> None:
    done = run_script("""
import os, sys, time
from kvstore.client import BlockingClient
client = BlockingClient(sys.argv[1])
client.get("k")
child = os.fork()
if not child:
    try:
        client.get("k")
    except RuntimeError as error:
        print(error)
    client.close()
    with BlockingClient(sys.argv[1]) as own:
        print(own.get("k").value)
    del client
    sys.exit(0)
_, code = os.waitpid(child, 0)
begun = time.monotonic()
print(code, client.get("k").value, time.monotonic() - begun < 5)
client.close()
""")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "this client was made before a fork: make one in the child", "b'v'", "0 b'v' True",
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["", "del client", "sys.exit(0)"])
def test_a_forgotten_close_is_nobodys_business(end: str) -> None:
    done = run_script(f"""
import sys
from kvstore.client import BlockingClient
client = BlockingClient(sys.argv[1])
print(client.get("k").value)
{end}
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "b'v'\n", "")


def test_an_iterator_that_is_left_lets_go() -> None:
    ended = threading.Event()

    async def items() -> Any:
        try:
            while True:
                yield 1
        finally:
            ended.set()

    loop = LoopThread(nothing)
    for _ in loop.iterate(items(), 1):
        break
    assert ended.wait(10)
    loop.end()


def test_a_callback_cannot_wait_for_its_own_thread() -> None:
    loop = LoopThread(nothing)
    inner = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="callback"):
        loop.call(loop.run, inner)
    loop.end()
    with pytest.raises(RuntimeError, match="this client is closed"):
        loop.run(asyncio.sleep(0))


def test_a_lease_that_nobody_can_renew_is_lost_for_the_blocking_holder() -> None:
    """`lost` wakes who waits for it, `on_lost` is called, and `check` raises."""

    async def main() -> None:
        granted, gone = answers({"id": "5", "ttl_s": 1}), "drop"
        async with asyncio.timeout(20), FlakyNode(granted, gone) as node:

            def calls() -> None:
                told = threading.Event()
                with (
                    BlockingClient(node.url, timeout_s=0.5) as client,
                    client.lease(1, margin_s=0.3) as lease,
                ):
                    lease.on_lost(told.set)
                    assert not lease.lost.wait(0.01)
                    assert lease.lost.wait(10) and lease.lost.is_set() and told.wait(10)
                    with pytest.raises(LeaseLost):
                        lease.check()

            await asyncio.to_thread(calls)

    asyncio.run(main())


def test_threads_share_one_client() -> None:
    async def main() -> None:
        async with asyncio.timeout(20), FlakyNode(value(b"v")) as node:

            def calls() -> None:
                with BlockingClient(node.url) as client:
                    found: list[bytes] = []

                    def read() -> None:
                        for _ in range(20):
                            entry = client.get("k")
                            assert entry is not None
                            found.append(entry.value)

                    threads = [threading.Thread(target=read) for _ in range(4)]
                    for thread in threads:
                        thread.start()
                    for thread in threads:
                        thread.join()
                    assert found == [b"v"] * 80

            await asyncio.to_thread(calls)

    asyncio.run(main())


def test_the_client_imports_nothing_of_the_store_but_its_errors() -> None:
    for file in (ROOT / "kvstore/client").glob("*.py"):
        for module in re.findall(r"^\s*(?:from|import) (kvstore[\w.]*)", file.read_text(), re.M):
            assert re.match(r"kvstore\.(client|errors)\b", module), f"{file}: {module}"
