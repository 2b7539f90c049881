"""How the command line is put together: what it loads, and what others add to it."""

import subprocess
import sys

import pytest

import kvstore
from kvstore_cli.main import COMMANDS, main, offered_commands
from tests.support.paths import ROOT

_LOADED = """
import sys
from kvstore_cli.main import main
code = main(["put", "--endpoints", "127.0.0.1:1", "--timeout", "0.2", "k", "v"])
print(code, *sorted(name for name in sys.modules if name.partition(".")[0] in sys.argv[1:]))
"""
_WITHOUT_PROOF = """
import sys
sys.modules["proof"] = None  # an import of it fails
from kvstore_cli.main import main
for words in (["--help"], ["put", "--help"], ["simulate"]):
    try:
        main(words)
    except SystemExit as end:
        print("ended with", end.code)
"""


def run(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        capture_output=True, text=True, timeout=60, cwd=ROOT,
    )  # fmt: skip


def test_put_loads_neither_server_nor_storage_nor_proof() -> None:
    done = run(_LOADED, "http_api", "lmdb", "proof", "uvloop", "prometheus_client")
    assert done.stdout == "4\n", done.stdout + done.stderr


def test_without_proof_the_rest_works() -> None:
    done = run(_WITHOUT_PROOF)
    helped, put, refused, rest = done.stdout.split("ended with")
    assert "demo" in helped and "torture" not in helped
    assert put.startswith(" 0") and "--if-absent" in put
    assert refused.startswith(" 0") and rest == " 2\n" and "invalid choice" in done.stderr


def test_simulate_and_torture_come_by_entry_point() -> None:
    assert {"simulate", "torture"} <= {command.name for command in offered_commands()}
    assert not {"simulate", "torture"} & {command.name for command in COMMANDS}


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"kvstore {kvstore.__version__}\n"
