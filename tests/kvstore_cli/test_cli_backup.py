"""`kvstore backup` and what belongs to it, against real nodes."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from kvstore.backup import building
from kvstore.backup.downloads import Download, download
from kvstore.backup.inspecting import contents_of
from kvstore.backup.putting_back import Difference, put_back
from kvstore.backup.sources import RestorePoint
from kvstore.client import BlockingClient, Client, RevisionCompacted
from kvstore.commands.operations import KeyValue
from kvstore_cli.main import main
from tests.support.real_cluster import Cluster

pytestmark = pytest.mark.integration


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What a command printed."""
    capsys.readouterr()
    found = main(list(words))
    printed = capsys.readouterr()
    assert found == code, printed
    return printed.out if code == 0 else printed.err


def endpoints(cluster: Cluster) -> str:
    return ",".join(node.url for node in cluster.nodes.values())


def test_backup_and_inspect(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--endpoints", endpoints(cluster))
    with BlockingClient(endpoints(cluster)) as store:
        for number in range(50):
            store.put(f"backed/{number}", bytes(1000))
        store.delete("backed/7")
        revision = store.status().revision
        listed = [
            KeyValue(e.key, e.value, e.create_revision, e.mod_revision, e.version, e.lease)
            for e in store.list()
        ]
    done = json.loads(run(capsys, "backup", f"{tmp_path}/", *where, "--json"))
    file = Path(done["file"])
    assert file.parent == tmp_path and file.name.endswith(f"-r{revision}.kvb")
    seen = json.loads(run(capsys, "backup", "inspect", str(file), "--json"))
    assert seen["revision"] == done["revision"] == revision
    assert (seen["keys"], seen["contents"]) == contents_of(listed)
    assert "sound" in run(capsys, "backup", "inspect", str(file))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert "is damaged" in run(capsys, "backup", "inspect", str(file), code=7)


def test_a_backup_that_is_killed_is_gone_on_with(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BlockingClient(endpoints(cluster)) as store:
        for number in range(8):
            store.put(f"large/{number}", os.urandom(1 << 20))
    file = tmp_path / "store.kvb"
    part = tmp_path / "store.kvb.part"
    where = ("--endpoints", endpoints(cluster))
    words = [sys.executable, "-m", "kvstore_cli.main", "backup", str(file), *where]
    with subprocess.Popen([*words, "--rate-mib-s", "2"]) as process:
        while not part.exists() or part.stat().st_size < 2 << 20:
            assert process.poll() is None
        process.kill()
    assert not file.exists()
    kept = part.stat().st_size

    async def resumed() -> int:
        again = Download(endpoints(cluster), file, lambda _: None)
        await again.run()
        return again.resumed_at

    assert asyncio.run(resumed()) >= 1 and kept > 0
    run(capsys, "backup", "inspect", str(file))
    assert not part.exists()


def test_a_part_that_nobody_can_go_on_with_is_begun_anew(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "store.kvb"
    where = ("--endpoints", endpoints(cluster))
    run(capsys, "backup", str(file), *where)
    whole = file.read_bytes()
    # As if of a node that has given the copy up: of another name, the head is another one.
    for left in (
        b"no backup at all",
        whole[:100],
        whole.replace(b'"snapshot":"', b'"snapshot":"f', 1),
    ):
        (tmp_path / "store.kvb.part").write_bytes(left)
        file.unlink(missing_ok=True)
        run(capsys, "backup", str(file), *where)
        run(capsys, "backup", "inspect", str(file))


def test_no_node_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvstore.backup.downloads.PATIENCE_S", 0.1)
    said = run(capsys, "backup", str(tmp_path / "x"), "--endpoints", "127.0.0.1:1", code=4)
    assert "cannot reach" in said


def test_a_restored_cluster_serves(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three new nodes hold what the old ones held at a revision in the middle; they agree, survive
    a kill, and whoever watches from an old revision is told that it is gone."""
    file, where = str(tmp_path / "store.kvb"), endpoints(cluster)
    with BlockingClient(where) as store:
        middle = store.put("then/a", "1").revision
        store.put("then/a", "2")
        store.put("then/b", "1")
        run(capsys, "backup", file, "--endpoints", where)
        expected = list(store.list(revision=middle))
        old = store.status()
    paths = [str(tmp_path / f"node-{number}") for number in (1, 2, 3)]
    words = ("restore", file, "--to-revision", str(middle), "--json", "--data-dir", *paths)
    done = json.loads(run(capsys, *words))
    assert done["keys"] == len(expected)
    made = Cluster(3, tmp_path)
    try:
        made.start()
        made.converged()
        for node in made.nodes.values():
            with BlockingClient(node.url) as store:
                assert list(store.list()) == expected
                status = store.status()
                assert status.cluster_id not in ("", old.cluster_id)
                assert status.revision == done["revision"] >= old.revision + 10**9
                with pytest.raises(RevisionCompacted), store.watch(from_revision=middle) as watch:
                    next(iter(watch))
        with BlockingClient(made.nodes[1].url) as store:
            assert store.put("then/a", "3").version == 2
        made.kill9()
        made.start()
        assert made.get(2, "then/a").body == b"3"
        made.converged()
    finally:
        made.close()


def test_keys_go_back_into_a_live_cluster(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, where = str(tmp_path / "store.kvb"), endpoints(cluster)
    with BlockingClient(where) as store:
        for number in range(150):
            store.put(f"back/{number:03}", f"{number}")
        store.put("back/leased", "1", ttl_s=600)
        store.put("other", "1")
        run(capsys, "backup", file, "--endpoints", where)
        store.put("other", "2")
        store.delete("back/007")
        store.delete("back/leased")
        store.put("back/149", "changed")
        store.put("back/new", "1")
        before = store.status().revision
        words = ("restore", file, "--into", where, "--prefix", "back/")
        dry = run(capsys, *words, "--dry-run", "--delete")
        assert dry.splitlines()[:3] == ["+ back/007", "~ back/149", "- back/new"]
        assert store.status().revision == before
        said = run(capsys, *words)
        assert "1 added, 1 changed, 0 deleted, 1 left" in said and "1 left out" in said
        assert store.get("back/007").value == b"7" and store.get("back/149").value == b"149"
        assert store.get("back/new") and not store.get("back/leased")
        counts = json.loads(run(capsys, *words, "--delete", "--leased", "--json"))
        assert (counts["added"], counts["deleted"]) == (1, 1)
        assert store.get("back/leased").lease == 0 and store.get("other").value == b"2"
        for number in range(150):
            store.delete(f"back/{number:03}")
        again = json.loads(run(capsys, *words, "--json"))
        assert again["added"] == 150 and len(list(store.list(prefix="back/"))) == 151


def test_a_write_in_between_is_not_undone_unseen(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is compared anew: what was seen is what is replaced."""
    file, where = str(tmp_path / "store.kvb"), endpoints(cluster)

    async def test() -> None:
        async with Client(where) as store:
            await store.put("race/a", "then")
            await download(where, Path(file))
            await store.put("race/a", "now")
            seen: list[tuple[str, bytes]] = []

            def show(found: Difference) -> None:
                assert found.live is not None
                seen.append((found.sign, found.live.value))
                with BlockingClient(where) as other:
                    other.put("race/a", "meanwhile")

            options = {"delete_others": False, "leased": False, "dry_run": False, "show": show}
            done = await put_back(file, RestorePoint(), store, b"race/", **options)
            assert seen == [("~", b"now")] and done.changed == 1
            history = [event.value async for event in store.history("race/a")]
            assert history == [b"then", b"meanwhile", b"now", b"then"]

    asyncio.run(test())


def test_a_drill_proves_a_backup(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, where = tmp_path / "store.kvb", endpoints(cluster)
    with BlockingClient(where) as store:
        store.put("drilled", "1")
        store.put("drilled/leased", "1", ttl_s=600)
        run(capsys, "backup", str(file), "--endpoints", where)
        keys = len(list(store.list(revision=store.status().revision, keys_only=True)))
    done = json.loads(run(capsys, "backup", "drill", str(file), "--nodes", "1", "--json"))
    assert done["keys"] == keys and done["leases"] == 1 and done["total_s"] > 0


def test_a_drill_notices_what_a_restore_loses(
    cluster: Cluster,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A value that the restore writes otherwise than the backup holds it."""
    file, where = tmp_path / "store.kvb", endpoints(cluster)
    with BlockingClient(where) as store:
        store.put("drilled", "1")
        run(capsys, "backup", str(file), "--endpoints", where)
    real = building.stored_alone
    monkeypatch.setattr(
        building,
        "stored_alone",
        lambda item: real(replace(item, value=b"2") if item.key == b"drilled" else item),
    )
    said = run(capsys, "backup", "drill", str(file), "--nodes", "1", code=7)
    assert "and the backup holds" in said
