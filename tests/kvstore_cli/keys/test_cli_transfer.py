"""`kvstore export` and `import` against a real node: out and in again, exactly once."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kvstore.backup.importing import MARK_PREFIX, Import, Numbered
from kvstore.backup.lines import KeyLine
from kvstore.client import BlockingClient, Client
from tests.support.commands import run as run_command
from tests.support.thread_node import thread_node

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with thread_node(tmp_path_factory.mktemp("transfer")) as url:
        yield url


@pytest.fixture
def store(where: str) -> Iterator[BlockingClient]:
    """Empty."""
    with BlockingClient(where) as found:
        for entry in list(found.list(keys_only=True)):
            found.delete(entry.key)
        yield found


def run(capsys: Capture, store: BlockingClient, *words: str, code: int = 0) -> str:
    where = ("--endpoints", ",".join(store.endpoints))
    return run_command(capsys, words[0], *where, *words[1:], code=code)


def user_keys(store: BlockingClient) -> list[tuple[bytes, bytes, int]]:
    found = ((e.key, e.value, e.lease) for e in store.list())
    return [each for each in found if not each[0].startswith(MARK_PREFIX)]


def test_out_and_in_is_the_same(store: BlockingClient, tmp_path: Path, capsys: Capture) -> None:
    for number in range(60):
        store.put(f"k/{number:03}", os.urandom(number) if number % 3 else f"text {number}\n")
    store.put(b"\xff\0", "")
    file, again = tmp_path / "all.jsonl", tmp_path / "again.jsonl"
    run(capsys, store, "export", "--to", str(file))
    before = user_keys(store)
    for key, _, _ in before:
        store.delete(key)
    assert "61 lines imported" in run(capsys, store, "import", str(file))
    assert user_keys(store) == before
    run(capsys, store, "export", "k/", "--to", str(again))
    lines = file.read_bytes().splitlines(keepends=True)
    assert again.read_bytes() == b"".join(lines[:60]) and len(lines) == 61
    # A second time it does nothing, and does not undo what came since.
    store.put("k/000", "newer")
    assert "imported before" in run(capsys, store, "import", str(file))
    assert store.get("k/000").value == b"newer" and store.get("k/001").version == 1
    run(capsys, store, "import", str(file), "--again")
    assert store.get("k/000").value != b"newer" and store.get("k/001").version == 2


def test_list_can_be_read_back(store: BlockingClient, tmp_path: Path, capsys: Capture) -> None:
    store.put("a", "1")
    store.put(b"\xfe", b"\xff")
    file = tmp_path / "list.jsonl"
    file.write_text(run(capsys, store, "list", "--json"))
    before = user_keys(store)
    store.delete("a")
    store.delete(b"\xfe")
    run(capsys, store, "import", str(file))
    assert user_keys(store) == before


def test_leases_come_along_where_asked(
    store: BlockingClient, tmp_path: Path, capsys: Capture
) -> None:
    lease = store.put("worker", "up", ttl_s=600).lease
    store.put("other", "1")
    file = tmp_path / "all.jsonl"
    run(capsys, store, "export", "--leases", "--revisions", "--to", str(file))
    assert json.loads(file.read_text().splitlines()[-1])["mod_revision"] > 1
    store.revoke(lease)
    run(capsys, store, "import", str(file), "--leases")
    assert store.get("worker").lease == lease and store.lease_status(lease).ttl_s == 600
    store.revoke(lease)
    run(capsys, store, "import", str(file), "--name", "plain")
    assert store.get("worker").lease == 0


def test_a_revision_of_old_is_exported(store: BlockingClient, capsys: Capture) -> None:
    revision = store.put("a", "then").revision
    store.put("a", "now")
    line = run(capsys, store, "export", "a", "--revision", str(revision))
    assert json.loads(line) == {"key": "a", "value": "then"}


def test_a_bad_line_is_told_and_what_was_before_it_counts(
    store: BlockingClient, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"key":"a","value":"1"}\n{"key":"b"}\n')
    assert "line 2: " in run(capsys, store, "import", str(file), code=7)
    assert user_keys(store) == []
    assert "--name" in run(capsys, store, "import", "-", code=2)


def test_killed_anywhere_and_by_two_at_once_it_is_exactly_once(store: BlockingClient) -> None:
    """Runs end in the middle of a call, or share the work with another; each key is put once."""
    total = 400

    async def records(last: int) -> AsyncIterator[Numbered]:
        for number in range(1, last + 1):
            yield Numbered(number, KeyLine(b"once/%04d" % number, b"%d" % number))

    async def run_once(client: Client) -> None:
        run = Import(client, "sample")
        await run.begin()
        await run.run(records(total))

    async def test() -> None:
        async with Client(store.endpoints) as client:
            for patience_s in (0.01, 0.02, 0.04, 0.08):
                try:
                    async with asyncio.timeout(patience_s):
                        await run_once(client)
                except TimeoutError:
                    pass
            await asyncio.gather(run_once(client), run_once(client))

    asyncio.run(test())
    found = list(store.list(prefix="once/"))
    assert [entry.value for entry in found] == [b"%d" % n for n in range(1, total + 1)]
    assert {entry.version for entry in found} == {1}
