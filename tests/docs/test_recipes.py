"""Each recipe of `docs/recipes.md` does its job, as it stands there."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore.client import BlockingClient, LeaseLost, put
from proof.processes.waiting import eventually
from tests.support.paths import ROOT
from tests.support.thread_node import thread_node

PAGE = (ROOT / "docs" / "recipes.md").read_text()


def blocks(title: str, language: str) -> list[str]:
    """Those below a heading."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def program(title: str) -> dict[str, Any]:
    """What the recipe's Python defines."""
    (text,) = blocks(title, "python")
    names: dict[str, Any] = {}
    exec(compile(text, "recipes.md", "exec"), names)
    return names


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with thread_node(tmp_path_factory.mktemp("recipes")) as found:
        yield found


@pytest.fixture
def store(url: str) -> Iterator[BlockingClient]:
    with BlockingClient(url) as made:
        yield made


def test_every_recipe_is_run_here() -> None:
    titles = set(re.findall(r"^## (.*)$", PAGE, re.MULTILINE))
    here = Path(__file__).read_text()
    assert titles and all(f'"{title}"' in here for title in titles)


def test_settings(store: BlockingClient, url: str) -> None:
    follow = program("Settings that change while a program runs")["follow_settings"]
    store.put("shop/host", "a")
    seen: list[dict[bytes, bytes]] = []
    with BlockingClient(url) as reader:

        def run() -> None:
            with pytest.raises((RuntimeError, StopIteration)):
                follow(reader, "shop/", seen.append)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        eventually(lambda: seen, "the settings as they are")
        store.txn(then=[put("shop/host", "b"), put("shop/port", "1")])
        eventually(lambda: len(seen) == 2, "the change")
        store.delete("shop/port")
        eventually(lambda: len(seen) == 3, "the deletion")
    assert seen == [
        {b"shop/host": b"a"},
        {b"shop/host": b"b", b"shop/port": b"1"},
        {b"shop/host": b"b"},
    ]


def shell(line: str, url: str, directory: Path, machine: str, day: str, works: bool = True) -> int:
    """On a machine with a report that appends to a file."""
    script = directory / "report.sh"
    script.write_text(f"#!/bin/sh\n{'true' if works else 'exit 9'} && echo {machine} >> done\n")
    script.chmod(0o755)
    kvstore = directory / "kvstore"
    kvstore.write_text(f'#!/bin/sh\nexec {sys.executable} -m kvstore_cli.main "$@"\n')
    kvstore.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{directory}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "KVSTORE_ENDPOINTS": url,
        "DAY": day,
        "MACHINE": machine,
    }
    return subprocess.run(
        ["sh", "-c", line], cwd=directory, env=environment, capture_output=True, timeout=60
    ).returncode


@pytest.mark.proof
def test_a_nightly_job(url: str, tmp_path: Path, store: BlockingClient) -> None:
    at_most, at_least = blocks("A nightly job on one of many machines", "sh")
    assert shell(at_most, url, tmp_path, "m1", "mon", works=False) == 9
    assert shell(at_most, url, tmp_path, "m2", "mon") == 3, "at most once, even if it failed"
    assert not (tmp_path / "done").exists()
    assert shell(at_least, url, tmp_path, "m1", "tue", works=False) == 9
    assert shell(at_least, url, tmp_path, "m2", "tue") == 0
    assert shell(at_least, url, tmp_path, "m3", "tue") == 0
    assert (tmp_path / "done").read_text() == "m2\n", "by one that was able to, and only once"
    entry = store.get("cron/report/tue")
    assert entry is not None and entry.value == b"m2" and entry.lease


def test_a_registry(store: BlockingClient) -> None:
    names = program("A registry of services")
    with names["registered"](store, "shop", "10.0.0.1:80"):
        with names["registered"](store, "shop", "10.0.0.2:80"):
            assert names["addresses"](store, "shop") == ["10.0.0.1:80", "10.0.0.2:80"]
        assert names["addresses"](store, "shop") == ["10.0.0.1:80"]
    assert names["addresses"](store, "shop") == []


def test_a_limit(store: BlockingClient, monkeypatch: pytest.MonkeyPatch) -> None:
    names = program("A limit for all machines together")
    monkeypatch.setattr(names["time"], "time", lambda: 1_000_000.0)
    assert [names["allowed"](store, "ann", 3) for _ in range(5)] == [True] * 3 + [False] * 2
    assert names["allowed"](store, "bob", 3)
    monkeypatch.setattr(names["time"], "time", lambda: 1_000_060.0)
    assert names["allowed"](store, "ann", 3)
    assert all(entry.lease for entry in store.list(prefix="limits/"))


def test_a_leader(store: BlockingClient, url: str) -> None:
    work = program("One of many workers leads")["work_as_leader"]

    def one_after_the_other() -> Iterator[tuple[str, str]]:
        yield "task/1", "done by a"
        leader = store.leader("dispatch")
        assert leader is not None and leader.value == b"a"
        store.revoke(leader.lease)  # as if it had stood still for too long
        yield "task/2", "done by a"

    with BlockingClient(url) as a, pytest.raises(LeaseLost):
        work(a, "a", one_after_the_other)
    assert store.get("task/1") is not None and store.get("task/2") is None
    work(store, "b", lambda: [("task/2", "done by b")])
    entry = store.get("task/2")
    assert entry is not None and entry.value == b"done by b"
