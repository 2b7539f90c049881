"""Short runs of the torture against real clusters, and that nothing stays behind."""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from kvstore.errors import InvalidArgument
from kvstore_cli.launcher.node_cluster import NodeCluster
from proof.processes import namespaces
from proof.processes.proxies import ProxyNetwork
from proof.torture import cli
from proof.torture.arguments import add_arguments

DEADLINE_S = 60.0
MAIN = """
import argparse, sys
from proof.processes import namespaces
from proof.torture import cli
from proof.torture.arguments import add_arguments
namespaces.DEVICE_PREFIX = sys.argv.pop(1)
parser = argparse.ArgumentParser()
add_arguments(parser)
sys.exit(cli.run(parser.parse_args()))
"""

pytestmark = pytest.mark.integration


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def processes_of(directory: Path) -> list[str]:
    """Command lines of processes that name `directory`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in words:
            found.append(words)
    return found


def devices() -> set[str]:
    """Network devices that this test made."""
    names = (entry.name for entry in Path("/sys/class/net").iterdir())
    return {name for name in names if name.startswith(namespaces.DEVICE_PREFIX)}


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


def check_report(path: Path, names: set[str]) -> None:
    """The run passed, and did what it was asked to."""
    report = json.loads(path.read_bytes())
    assert report["complaints"] == [] and report["passed"] and report["linearizable"]
    assert report["acknowledged"] > 50 and report["looked_for"] == report["acknowledged"]
    assert report["lost"] == 0
    injected = {name for fault in report["injected"] for name in fault["names"]}
    assert injected <= names and len(injected) >= 2
    assert 0 < report["availability"] <= 1
    for fault in report["injected"]:
        assert fault["began_s"] < fault["ended_s"] <= fault["until_s"]


@pytest.mark.proof
def test_kills_pauses_and_cuts_over_proxies(environment, capsys):
    """Some seconds of three kinds of fault: linearizable, nothing lost, nothing left."""
    report = environment / "report.json"
    code = cli.run(
        parse("--minutes", "0.2", "--network", "proxy", "--seed", "7", "--rate", "100",
              "--faults", "kill-leader,pause-leader,isolate-leader", "--json", str(report))
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "PASSED" in printed and "availability" in printed
    check_report(report, {"kill-leader", "pause-leader", "isolate-leader"})
    assert list(environment.iterdir()) == [report]
    assert processes_of(environment) == [] and not devices()


@pytest.mark.proof
def test_links_of_packets(environment, capsys):
    """The same with namespaces: loss, delay and one-way cuts of packets."""
    if reason := namespaces.unavailable():
        pytest.skip(reason)
    report = environment / "report.json"
    code = cli.run(
        parse("--minutes", "0.15", "--network", "namespaces", "--seed", "8", "--rate", "300",
              "--faults", "split,one-way,lossy-links,kill-node", "--json", str(report))
    )  # fmt: skip
    assert code == 0, capsys.readouterr().out
    check_report(report, {"split", "one-way", "lossy-links", "kill-node"})
    assert list(environment.iterdir()) == [report]
    assert processes_of(environment) == []
    # The kernel takes devices away a little after the last process of their namespace.
    wait_until(lambda: not devices(), "the devices are gone")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.proof)]
)
def test_an_interrupted_run_leaves_nothing(environment, number):
    """Whatever ends the run, while a node is paused: processes, devices and files are gone."""
    network = "proxy" if namespaces.unavailable() else "namespaces"
    log = environment / "out"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", MAIN, namespaces.DEVICE_PREFIX, "--network", network,
             "--faults", "pause-node", "--rate", "50"],
            stdout=out, stderr=out, process_group=0, cwd=environment,
        )  # fmt: skip
    try:
        wait_until(lambda: _paused(environment), "a node is paused")
        process.send_signal(number)
        process.wait(DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: processes_of(environment) == [], "no process is left")
    wait_until(lambda: not devices(), "no device is left")
    if number != signal.SIGKILL:
        assert list(environment.iterdir()) == [log]


def _paused(directory: Path) -> bool:
    """Whether some process that names `directory` is stopped."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if state == "T" and str(directory).encode() in (entry / "cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False


@pytest.mark.proof
def test_a_cluster_of_somebody_else(environment, capsys):
    """Load and checking on endpoints; the keys are gone afterwards, and no fault was injected."""

    async def start() -> tuple[ProxyNetwork, NodeCluster]:
        network = ProxyNetwork([1], random.Random(1))
        await network.start()
        (environment / "theirs").mkdir()
        cluster = NodeCluster([1], network, environment / "theirs")
        cluster.start()
        return network, cluster

    network, cluster = asyncio.run(start())
    report = environment / "report.json"
    try:
        url = cluster.nodes[1].url
        code = cli.run(
            parse("--minutes", "0.03", "--endpoints", url, "--json", str(report), "--rate", "200")
        )
        assert code == 0, capsys.readouterr().out
        found = json.loads(report.read_bytes())
        assert found["acknowledged"] > 20 and found["injected"] == []
        with urllib.request.urlopen(f"{url}/v1/kv?prefix=torture") as answer:
            assert json.load(answer)["items"] == []
    finally:
        cluster.close()
        asyncio.run(network.close())


@pytest.mark.proof
def test_a_network_that_cannot_be_had(environment, monkeypatch, capsys):
    """Asked for by name it is refused with the reason; `auto` takes proxies instead."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InvalidArgument, match="need root"):
        cli.run(parse("--network", "namespaces"))
    code = cli.run(parse("--minutes", "0.02", "--seed", "1", "--faults", "kill-node", "--json",
                         str(environment / "report.json")))  # fmt: skip
    assert json.loads((environment / "report.json").read_bytes())["network"] == "proxy"
    assert code in (0, 1)
    capsys.readouterr()


def test_a_failed_run_keeps_the_evidence(environment, monkeypatch, capsys):
    """A node that is never ready: exit code 1, the reason, and the logs stay."""
    monkeypatch.setattr("proof.torture.run.wait_ready", _never)
    code = cli.run(parse("--minutes", "0.02", "--network", "proxy", "--seed", "1"))
    printed = capsys.readouterr().out
    assert code == 1 and "were not ready" in printed and "no write was acknowledged" in printed
    (kept,) = environment.iterdir()
    assert str(kept) in printed
    assert {"node-1.log", "report.json", "history.jsonl"} <= {p.name for p in kept.iterdir()}


async def _never(*_: object) -> list[int]:
    return [2]
