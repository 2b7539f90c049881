"""The command line as people expect it: prefixes, counting, suggestions, flags anywhere."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from kvstore.client import Client, InvalidArgument
from kvstore_cli.main import main
from tests.support.etcd_node import EtcdNode, on_node

Capture = pytest.CaptureFixture[str]


async def run(node: EtcdNode, capture: Capture, *words: str) -> tuple[int, str, str]:
    host, port = node.address
    argv = ["--endpoints", f"http://{host}:{port}", *words]  # before the verb
    code = await asyncio.to_thread(main, argv)
    out, err = capture.readouterr()
    return code, out, "\n".join(line for line in err.splitlines() if not line[:4].isdecimal())


def test_prefixes(capsys: Capture, tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        for number in range(12):
            assert (await run(node, capsys, "put", f"a/{number:02}", str(number)))[0] == 0
        await run(node, capsys, "put", "b", "stays")
        code, out, _ = await run(node, capsys, "get", "--prefix", "a/0")
        assert (code, out.splitlines()[:2]) == (0, ["a/00\t0", "a/01\t1"])
        assert (await run(node, capsys, "get", "--prefix", "none"))[0] == 1
        code, _, err = await run(node, capsys, "del", "--prefix", "a/")
        assert code == 2 and "delete 12 keys?" in err and "--yes" in err
        code, out, _ = await run(node, capsys, "del", "--prefix", "a/1")
        assert code == 0 and out.startswith("2 keys deleted")
        code, out, _ = await run(node, capsys, "del", "--prefix", "a/", "--yes", "--json")
        assert code == 0 and '"deleted":10' in out
        assert (await run(node, capsys, "list", "--keys-only"))[1] == "b\n"
        assert (await run(node, capsys, "del", "--prefix", "a/", "--yes"))[0] == 1
        code, _, err = await run(node, capsys, "del", "--prefix", "b", "--if-exists")
        assert code == 2 and "no conditions" in err

    on_node(tmp_path, test)


def test_counting(capsys: Capture, tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        assert await run(node, capsys, "incr", "n") == (0, "1\n", "")
        assert await run(node, capsys, "incr", "n", "10") == (0, "11\n", "")
        assert await run(node, capsys, "incr", "--json", "n", "-12") == (
            0, '{"value":-1}\n', "",
        )  # fmt: skip
        await run(node, capsys, "put", "word", "hello")
        code, _, err = await run(node, capsys, "incr", "word")
        assert code == 2 and "no whole number: b'hello'" in err
        url = f"http://{node.address[0]}:{node.address[1]}"
        async with asyncio.timeout(60), Client(url, timeout_s=30) as client:
            values = await asyncio.gather(*(client.increment("many", 2) for _ in range(20)))
            assert sorted(values) == list(range(2, 42, 2))
            await client.put("big", "9" * 5000)
            with pytest.raises(InvalidArgument):
                await client.increment("big")

    on_node(tmp_path, test)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gett", "k"], "did you mean get?"),
        (["lst"], "did you mean list?"),
        (["get", "k", "--endpont", "x"], "did you mean --endpoints?"),
        (["lease", "grnt", "60"], "did you mean grant?"),
        (["role", "grant", "r", "raed", "k"], "did you mean read?"),
    ],
)
def test_suggestions(capsys: Capture, words: list[str], says: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2 and says in capsys.readouterr().err


def test_nothing_teaches_and_help_helps(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2 and "first steps:" in capsys.readouterr().err
    for words, says in ((["help"], "first steps:"), (["help", "lease", "grant"], "SECONDS")):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 0 and says in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(capsys: Capture, tmp_path: Path, shell: str) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "simulate" in script and "prefix" in script
    if shutil.which(shell):
        file = tmp_path / "script"
        file.write_text(script)
        subprocess.run([shell, "-n", str(file)], check=True, timeout=30)
