"""`kvstore backup` and `restore` against a real node; those with clusters of processes are in
`tests/integration/test_backups.py`."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.backup.downloads import Download, DownloadProgress, download
from kvstore.backup.inspecting import contents_of, inspect
from kvstore.backup.putting_back import Difference, put_back
from kvstore.backup.sources import RestorePoint
from kvstore.client import BlockingClient, Client
from kvstore.commands.operations import KeyValue
from tests.support.commands import run
from tests.support.thread_node import thread_node


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with thread_node(tmp_path_factory.mktemp("backups")) as url:
        yield url


def test_backup_and_inspect(where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BlockingClient(where) as store:
        for number in range(50):
            store.put(f"backed/{number}", bytes(1000))
        store.delete("backed/7")
        revision = store.status().revision
        listed = [
            KeyValue(e.key, e.value, e.create_revision, e.mod_revision, e.version, e.lease)
            for e in store.list()
        ]
    done = json.loads(run(capsys, "backup", f"{tmp_path}/", "--endpoints", where, "--json"))
    file = Path(done["file"])
    assert file.stat().st_mode & 0o077 == 0, "others could read it"
    assert file.parent == tmp_path and file.name.endswith(f"-r{revision}.kvb")
    seen = json.loads(run(capsys, "backup", "inspect", str(file), "--json"))
    assert seen["revision"] == done["revision"] == revision
    assert (seen["keys"], seen["contents"]) == contents_of(listed)
    assert "sound" in run(capsys, "backup", "inspect", str(file))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert "is damaged" in run(capsys, "backup", "inspect", str(file), code=7)


def test_a_download_that_ends_is_gone_on_with(where: str, tmp_path: Path) -> None:
    """And then by another process, as it were: with what is on the disk."""
    file, part = tmp_path / "store.kvb", tmp_path / "store.kvb.part"
    with BlockingClient(where) as store:
        for number in range(4):
            store.put(f"large/{number}", os.urandom(1 << 20))

    async def until_two_blocks() -> None:
        came = asyncio.Event()

        def watch(so_far: DownloadProgress) -> None:
            if so_far.raw_bytes >= 2 << 20:
                came.set()

        begun = asyncio.create_task(Download(where, file, watch, 4).run())
        await came.wait()
        begun.cancel()
        await asyncio.gather(begun, return_exceptions=True)

    asyncio.run(until_two_blocks())
    assert not file.exists()
    with part.open("ab") as torn:
        torn.write(b"the beginning of a block")
    again = Download(where, file, lambda _: None)
    asyncio.run(again.run())
    assert again.resumed_at >= 2 and not part.exists()
    inspect(file)


def test_a_part_that_nobody_can_go_on_with_is_begun_anew(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "store.kvb"
    run(capsys, "backup", str(file), "--endpoints", where)
    whole = file.read_bytes()
    # As if of a node that has given the copy up: of another name, the head is another one.
    for left in (
        b"no backup at all",
        whole[:100],
        whole.replace(b'"snapshot":"', b'"snapshot":"f', 1),
    ):
        (tmp_path / "store.kvb.part").write_bytes(left)
        file.unlink(missing_ok=True)
        run(capsys, "backup", str(file), "--endpoints", where)
        run(capsys, "backup", "inspect", str(file))


def test_no_node_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvstore.backup.downloads.PATIENCE_S", 0.1)
    said = run(capsys, "backup", str(tmp_path / "x"), "--endpoints", "127.0.0.1:1", code=4)
    assert "cannot reach" in said


def test_keys_go_back_into_a_live_cluster(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "store.kvb")
    with BlockingClient(where) as store:
        for number in range(70):
            store.put(f"back/{number:03}", f"{number}")
        store.put("back/leased", "1", ttl_s=600)
        store.put("other", "1")
        run(capsys, "backup", file, "--endpoints", where)
        store.put("other", "2")
        store.delete("back/007")
        store.delete("back/leased")
        store.put("back/069", "changed")
        store.put("back/new", "1")
        before = store.status().revision
        words = ("restore", file, "--into", where, "--prefix", "back/")
        dry = run(capsys, *words, "--dry-run", "--delete")
        assert dry.splitlines()[:3] == ["+ back/007", "~ back/069", "- back/new"]
        assert store.status().revision == before
        said = run(capsys, *words)
        assert "1 added, 1 changed, 0 deleted, 1 left" in said and "1 left out" in said
        assert store.get("back/007").value == b"7" and store.get("back/069").value == b"69"
        assert store.get("back/new") and not store.get("back/leased")
        counts = json.loads(run(capsys, *words, "--delete", "--leased", "--json"))
        assert (counts["added"], counts["deleted"]) == (1, 1)
        assert store.get("back/leased").lease == 0 and store.get("other").value == b"2"
        for number in range(70):
            store.delete(f"back/{number:03}")
        again = json.loads(run(capsys, *words, "--json"))
        assert again["added"] == 70 and len(list(store.list(prefix="back/"))) == 71


def test_a_write_in_between_is_not_undone_unseen(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is compared anew: what was seen is what is replaced."""
    file = str(tmp_path / "store.kvb")

    async def test() -> None:
        async with Client(where) as store:
            await store.put("race/a", "then")
            await download(where, Path(file))
            await store.put("race/a", "now")
            seen: list[tuple[str, bytes]] = []

            def show(found: Difference) -> None:
                assert found.live is not None
                seen.append((found.sign, found.live.value))
                if len(seen) == 1:
                    with BlockingClient(where) as other:
                        other.put("race/a", "meanwhile")

            options = {"delete_others": False, "leased": False, "dry_run": False, "show": show}
            done = await put_back(file, RestorePoint(), store, b"race/", **options)
            assert seen == [("~", b"now"), ("~", b"meanwhile")] and done.changed == 1
            history = [event.value async for event in store.history("race/a")]
            assert history == [b"then", b"meanwhile", b"now", b"then"]

    asyncio.run(test())
