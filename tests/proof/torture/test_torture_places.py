"""Disks that hang, clocks that step, logs that nobody reads and clients that take all: each fault
does what it says to a real process, and to nothing else of it."""

import asyncio
import json
import os
import random
import subprocess
import sys
import time

import pytest

from proof.processes import preload
from proof.processes.faulty_places import DESCRIPTORS, FaultyPlaces
from proof.processes.log_pipe import PIPE_BYTES, LogPipe
from proof.processes.preload import NodeGrip, PreloadUnavailable
from proof.processes.proxies import ProxyNetwork
from proof.processes.squatters import Squatters
from proof.processes.waiting import eventually, until
from proof.torture.faults.disks import needs_grips
from proof.torture.faults.silence import needs_packets

LIMIT_S = 20.0
CHILD = """
import datetime, json, os, sys, threading, time
def sync(name, number):
    with open(sys.argv[1] + name, "w") as file:
        if name == "pwritev":
            os.pwritev(file.fileno(), [b"x"], 0, os.RWF_DSYNC)
        else:
            getattr(os, name)(file.fileno())
    print(json.dumps({"synced": name}), flush=True)
for line in sys.stdin:
    if line.strip() == "clock":
        now = time.clock_gettime(time.CLOCK_REALTIME)
        print(json.dumps({"time": time.time(), "now": datetime.datetime.now().timestamp(),
                          "ns": time.time_ns() / 1e9, "clock": now,
                          "monotonic": time.monotonic()}), flush=True)
    else:
        threading.Thread(target=sync, args=(line.strip(), 1), daemon=True).start()
"""

with_grips = pytest.mark.skipif(
    bool(preload.unavailable()), reason=preload.unavailable() or "available"
)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return preload.build(tmp_path_factory.mktemp("library"))


@pytest.fixture
def gripped(tmp_path, request):
    """A grip, and a process under it that obeys lines on its standard input."""
    grip = NodeGrip(request.getfixturevalue("library"), tmp_path / "grip")
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "synced-")], env=os.environ | grip.variables,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield grip, child
    child.kill()
    child.communicate()
    grip.close()


def tell(child: subprocess.Popen[str], word: str) -> None:
    child.stdin.write(f"{word}\n")
    child.stdin.flush()


def clock(child: subprocess.Popen[str]) -> dict[str, float]:
    tell(child, "clock")
    return json.loads(child.stdout.readline())


@with_grips
@pytest.mark.parametrize("call", ["fsync", "fdatasync", "pwritev"])
def test_a_sync_hangs_and_the_rest_goes_on(gripped, call):
    """It returns once the disk is well again, and each one that waited is counted."""
    grip, child = gripped
    tell(child, call)
    assert json.loads(child.stdout.readline()) == {"synced": call} and grip.hung == 0
    grip.hang(True)
    tell(child, call)
    eventually(lambda: grip.hung == 1, "the sync waits")
    # The next line is the clock's: the thread that syncs has written nothing.
    assert "time" in clock(child)
    grip.hang(False)
    assert json.loads(child.stdout.readline()) == {"synced": call} and grip.hung == 1


@with_grips
@pytest.mark.parametrize("offset_s", [180.0, -86_400.25, 315_576_000.0])
def test_the_wall_clock_steps(gripped, offset_s):
    """Whichever way it is read, there and back; the monotonic clock is the true one."""
    grip, child = gripped
    for step_s in (0.0, offset_s, 0.0):
        grip.step(step_s)
        shifted, true_s, monotonic_s = grip.shifted, time.time(), time.monotonic()
        seen = clock(child)
        for name in ("time", "now", "ns", "clock"):
            assert seen[name] - true_s == pytest.approx(step_s, abs=LIMIT_S), name
        assert seen["monotonic"] - monotonic_s == pytest.approx(0, abs=LIMIT_S)
        assert (grip.shifted > shifted) is bool(step_s)


def test_no_compiler(monkeypatch, tmp_path):
    """The reason is told, and everything else of the places works."""
    monkeypatch.setattr(preload, "COMPILERS", ("no-such-compiler",))
    with pytest.raises(PreloadUnavailable, match="no-such-compiler"):
        preload.build(tmp_path)

    async def go() -> None:
        network = ProxyNetwork([1], random.Random(1))
        places = FaultyPlaces(network, [1], tmp_path)
        places.start()
        try:
            assert "no-such-compiler" in places.why_no_grips and not places.grips
            assert "no-such-compiler" in needs_grips(network, places)
            assert "proxy" in needs_packets(network, places)
            assert "env" not in places.prefix(1)
        finally:
            places.close()
            await network.close()

    asyncio.run(go())
    assert [file.name for file in tmp_path.iterdir()] == []


# -- the log ----------------------------------------------------------------------------------


def test_a_pipe_that_nobody_reads(tmp_path):
    """Full: a writer must wait; read again: what it wrote is in the file, and nothing else."""

    async def go() -> None:
        pipe = LogPipe(tmp_path / "fifo", tmp_path / "log")
        pipe.read()
        writer = os.open(pipe.fifo, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(writer, b"one\n")
            pipe.fill()
            with pytest.raises(BlockingIOError):
                os.write(writer, b"t")
            pipe.read()
            assert await until(lambda: _written(writer), LIMIT_S)
            assert await until(lambda: pipe.lines == 2, LIMIT_S)
        finally:
            pipe.leave()
            os.close(writer)
        assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"

    def _written(writer: int) -> bool:
        try:
            return os.write(writer, b"two\n") > 0
        except BlockingIOError:
            return False

    asyncio.run(go())


def test_a_pipe_whose_reader_goes_and_comes_back(tmp_path):
    """An error for the writer meanwhile, on the same descriptor."""

    async def go() -> None:
        pipe = LogPipe(tmp_path / "fifo", tmp_path / "log")
        pipe.read()
        writer = os.open(pipe.fifo, os.O_WRONLY | os.O_NONBLOCK)
        try:
            pipe.leave()
            with pytest.raises(BrokenPipeError):
                os.write(writer, b"lost\n")
            pipe.read()
            os.write(writer, b"x" * (PIPE_BYTES - 1) + b"\n")
            assert await until(lambda: pipe.lines == 1, LIMIT_S)
        finally:
            pipe.leave()
            os.close(writer)
        assert (tmp_path / "log").stat().st_size == PIPE_BYTES

    asyncio.run(go())


@with_grips
def test_what_a_node_is_started_with(tmp_path):
    """Few descriptors, the pipe as standard error, the grip: and its files go in the end."""
    script = (
        "import os, resource, sys; print(resource.getrlimit(resource.RLIMIT_NOFILE), "
        "bool(os.environ['NODE_GRIP']), os.getpid(), file=sys.stderr)"
    )

    async def go() -> None:
        network = ProxyNetwork([1], random.Random(1))
        places = FaultyPlaces(network, [1], tmp_path)
        places.start()
        try:
            child = await asyncio.create_subprocess_exec(
                *places.prefix(1), sys.executable, "-c", script
            )
            assert await child.wait() == 0
            places.drain()
            log = (tmp_path / "node-1.log").read_text()
            assert log == f"({DESCRIPTORS}, {DESCRIPTORS}) True {child.pid}\n"
        finally:
            places.close()
            await network.close()

    asyncio.run(go())
    assert [file.name for file in tmp_path.iterdir()] == ["node-1.log"]


# -- clients that take all ----------------------------------------------------------------------


def test_squatters_take_all_and_come_again():
    """They hold what the server has room for, are refused beyond, come again, and can ask."""
    room, answer = 3, b"HTTP/1.1 204 No Content\r\n\r\n"
    open_, taken = set(), 0

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        if len(open_) < room:
            taken += 1
            open_.add(writer)
            try:
                while await reader.readline():
                    writer.write(answer)
            except OSError:
                pass
            open_.discard(writer)
        writer.close()

    async def go() -> None:
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        some = Squatters(f"{host}:{port}", room + 2)
        some.start()
        try:
            assert await until(lambda: len(open_) == room and some.refused >= 2, LIMIT_S)
            assert await until(lambda: taken >= room, LIMIT_S) and some.most >= room
            before = taken
            async with asyncio.timeout(LIMIT_S):
                while await some.ask("/readyz") != 204:
                    await asyncio.sleep(0.05)
            assert await until(lambda: taken > before, LIMIT_S), "nobody came for the free place"
        finally:
            await some.close()
            server.close()
        assert await until(lambda: not open_, LIMIT_S)

    asyncio.run(go())
