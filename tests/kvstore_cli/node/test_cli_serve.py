"""The process of `kvstore serve`, around a stand-in replica: how it starts, stops and fails."""

import signal
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

_DRIVER = """
import asyncio, os, sys, types
from kvstore.errors import StorageError
from kvstore.peers.refusals import Ending
case = sys.argv.pop(1)

class Replica:
    ending = Ending.FAILED
    async def wait_failed(self):
        if case == "fails":
            return "the log cannot be written"
        await asyncio.Event().wait()
    def fail_by(self, error):
        pass
    async def stop(self):
        print("replica stopped", flush=True)

async def open_replica(config, events):
    if case == "storage":
        raise StorageError("the data is damaged: restore a backup")
    return Replica()

class HttpServer:
    tls = audit_log = None
    def __init__(self, replica, config):
        pass
    async def start(self):
        if case == "taken":
            raise OSError(98, "address in use")
        print("serving", flush=True)
    async def stop(self):
        print("http stopped", flush=True)
        if case == "hangs":
            await asyncio.Event().wait()

for name, content in (
    ("http_api.server", {"HttpServer": HttpServer}),
    ("kvstore.replica.replica", {"Replica": Replica}),
    ("kvstore.replica.open", {"open_replica": open_replica}),
    ("kvstore_cli.node.private_dir", {"make_private": lambda directory: None}),
):
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(content)
from kvstore_cli.main import main
sys.exit(main(["serve", *sys.argv[1:]]))
"""
_NODE = ("--id", "1", "--initial-cluster", "1=127.0.0.1:1")


def start(case: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _DRIVER, case, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_http_and_then_the_replica(number: signal.Signals) -> None:
    process = start("runs", *_NODE)
    assert process.stdout is not None and process.stdout.readline() == "serving\n"
    process.send_signal(number)
    assert finish(process) == (0, "http stopped\nreplica stopped\n", "")


def test_a_second_signal_ends_a_stop_that_hangs() -> None:
    process = start("hangs", *_NODE)
    assert process.stdout is not None and process.stdout.readline() == "serving\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "http stopped\n"
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 128 + signal.SIGTERM


def test_it_stops_with_its_parent() -> None:
    process = start("runs", *_NODE, "--exit-with-parent")
    assert process.stdout is not None and process.stdout.readline() == "serving\n"
    assert finish(process)[0] == 0  # communicate() closes the pipe


@pytest.mark.parametrize(
    ("case", "out", "says"),
    [
        ("fails", "serving\nhttp stopped\nreplica stopped\n", "the log cannot be written"),
        ("storage", "", "restore a backup"),
        ("taken", "replica stopped\n", "address in use"),
    ],
)
def test_failures_exit_with_74_and_one_line(case: str, out: str, says: str) -> None:
    code, written, err = finish(start(case, *_NODE))
    assert (code, written) == (74, out)
    assert says in err and err.count("\n") == 1


def test_settings_that_cannot_be_exit_with_2() -> None:
    code, out, err = finish(start("runs", "--initial-cluster", "1=127.0.0.1:1"))
    assert (code, out) == (2, "") and "id is missing" in err
