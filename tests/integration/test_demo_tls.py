"""`kvstore demo --tls`: the lines that it prints work, its page and its load speak TLS, and later
runs do so without the flag."""

import contextlib
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore_cli.launcher.node_process import PROGRAM, clean_environment
from proof.processes.waiting import eventually
from tests.support.ports import free_base

pytestmark = [pytest.mark.integration, pytest.mark.proof]


@contextlib.contextmanager
def demo(directory: Path, *words: str) -> Iterator[list[str]]:
    """What it has said once it is ready."""
    base = free_base(0, 1, 2, 3, 10, 11, 13, 20, 21, 23)
    command = [*PROGRAM, "demo", "--client-port", str(base), "--data-dir", "nodes", *words]
    process = subprocess.Popen(
        command, cwd=directory, env=clean_environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    said: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.strip())
            if "Ctrl-C stops" in line:
                break
        else:
            pytest.fail("\n".join(said))
        yield said
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        print(*said, rest, sep="\n", file=sys.stderr)
    assert process.returncode == 0


def runs(line: str, directory: Path) -> str:
    done = subprocess.run(
        shlex.split(line), cwd=directory, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, (line, done)
    return done.stdout


def test_the_demo_by_tls(tmp_path: Path) -> None:
    with demo(tmp_path, "--tls") as said:
        curls = [line for line in said if line.startswith("curl ")]
        assert len(curls) == 4
        assert all("--cacert nodes/authority/ca.crt" in line for line in curls)
        answers = [runs(f"{line} --no-progress-meter", tmp_path) for line in curls]
        assert answers[1] == "hello" and "greeting" in answers[2]
        members = json.loads(answers[3])["members"]
        assert all(one["connected"] for one in members) and len(members) == 3
        assert all(one["client_address"].startswith("https://") for one in members)
        for number in (1, 2, 3):
            assert (tmp_path / "nodes" / f"node-{number}" / "tls" / "node.crt").exists()
        page = re.search(r"Dashboard: (https://\S+)/", "\n".join(said))
        assert page is not None
        the_page_works(page[1], tmp_path)
    with demo(tmp_path) as said:
        assert "https://" in said[-1] or any("Dashboard: https://" in line for line in said)
        line = next(line for line in said if line.endswith("/v1/kv/greeting") and "-X" not in line)
        assert runs(f"{line} --no-progress-meter", tmp_path) == "hello"


def the_page_works(page: str, directory: Path) -> None:
    curl = "curl --no-progress-meter --cacert nodes/authority/ca.crt"
    assert "data-demo" in runs(f"{curl} {page}/", directory)
    put = f"{curl} -X PUT --data-binary bye -H 'Origin: {page}' {page}/v1/kv/other"
    assert "revision" in json.loads(runs(put, directory))
    load = f"{curl} -H 'X-Kvstore-Demo: 1' -d '{{\"rate_per_s\":50}}' {page}/demo/load"
    runs(load, directory)

    def done() -> bool:
        state = json.loads(runs(f"{curl} {page}/demo/state", directory))["load"]
        return bool(state["done"] > 20)

    eventually(done, "the demo's clients are answered")
