"""The wheel, built and installed into an empty environment: it is all that a user needs."""

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import kvstore
from proof.processes.waiting import eventually
from tests.support.paths import ROOT
from tests.support.ports import free_base

pytestmark = pytest.mark.proof

_LIMIT_S = 300
_NOT_SOURCE = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "tests", "kvstore-data"
)


def run(*words: object, directory: Path) -> str:
    """The output of a program that must succeed."""
    done = subprocess.run(
        [str(word) for word in words], cwd=directory, env=environment(),
        capture_output=True, text=True, timeout=_LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    """Ours, without what would lead to the source tree."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and "KVSTORE" not in k}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has only the wheel and what it needs."""
    home = tmp_path_factory.mktemp("packaging")
    shutil.copytree(ROOT, home / "source", ignore=_NOT_SOURCE)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", home, home / "source", directory=home)
    (wheel,) = home.glob("*.whl")
    run(sys.executable, "-m", "venv", home / "venv", directory=home)
    found = home / "venv" / "bin"
    run(found / "python", "-m", "pip", "install", wheel, directory=home)
    return found


def test_it_has_a_version_and_looks_for_faults(programs: Path, tmp_path: Path) -> None:
    found = run(programs / "kvstore", "--version", directory=tmp_path)
    assert found == f"kvstore {kvstore.__version__}\n"
    told = run(programs / "kvstore", "simulate", "--seeds", 3, "--jobs", 1, directory=tmp_path)
    assert "No invariant was violated." in told
    page = tmp_path / "page.html"
    run(programs / "kvstore", "simulate", "--seed", 3, "--trace", page, directory=tmp_path)
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")


def test_the_demo_serves_and_stops(programs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as file:
        demo = subprocess.Popen(
            [programs / "kvstore", "demo", "--client-port", str(free_base(0, 1, 10, 11, 20, 21))],
            stdout=file, stderr=file, cwd=tmp_path, env=environment(),
        )  # fmt: skip
    try:
        eventually(lambda: "Ctrl-C stops" in out.read_text(), "the cluster is ready", 60)
        first, *_, last = re.findall(r"http://\S+:\d+(?=  )", out.read_text())
        put = urllib.request.Request(f"{first}/v1/kv/greeting", b"hello", method="PUT")
        with urllib.request.urlopen(put) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"{last}/v1/kv/greeting") as answer:
            assert answer.read() == b"hello"
        with urllib.request.urlopen(f"{first}/") as answer:
            assert answer.read().startswith(b"<!doctype html>")
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0
    finally:
        demo.kill()
        demo.wait()
    pids = re.findall(r" pid (\d+)", out.read_text())
    assert len(pids) == 3 and not any(Path("/proc", pid).exists() for pid in pids)
