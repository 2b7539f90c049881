"""`kvstore backup` and what belongs to it, against real nodes."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kvstore.backup.inspecting import contents_of
from kvstore.client import BlockingClient
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
    import os

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
        from kvstore.backup.downloads import Download

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
    for left in (b"no backup at all", whole[:100], whole.replace(b'"snapshot":"', b'"snapshot":"f', 1)):
        (tmp_path / "store.kvb.part").write_bytes(left)
        file.unlink(missing_ok=True)
        run(capsys, "backup", str(file), *where)
        run(capsys, "backup", "inspect", str(file))


def test_no_node_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.backup.downloads.PATIENCE_S", 0.1)
    said = run(capsys, "backup", str(tmp_path / "x"), "--endpoints", "127.0.0.1:1", code=4)
    assert "cannot reach" in said
