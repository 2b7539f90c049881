"""The page of the README that leads from nothing to three nodes by TLS with a user: as it stands,
but for the ports."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kvstore.client import BlockingClient, Unauthenticated
from kvstore_cli.launcher.node_process import PROGRAM, clean_environment
from proof.processes.network import HeldPlaces
from proof.processes.waiting import eventually
from tests.support.paths import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.proof]

PASSWORD = "correct horse"


def lines(places: HeldPlaces) -> list[str]:
    """The commands of the page, with other ports and this interpreter's program."""
    page = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"^## Three nodes by TLS.*?^```\n(.*?)^```", page, re.M | re.S)
    found = block.replace(".venv/bin/kvstore", shlex.join(PROGRAM))
    for number in (1, 2, 3):
        for port, held in zip((2379, 2380), places.ports[number], strict=True):
            found = found.replace(f"127.0.0.1:{port + 10 * (number - 1)}", f"127.0.0.1:{held}")
    return found.splitlines()


@contextmanager
def serving(line: str, directory: Path, environment: dict[str, str]) -> Iterator[None]:
    log = directory / f"{len(list(directory.glob('*.log')))}.log"
    with log.open("wb") as opened:
        process = subprocess.Popen(
            shlex.split(line), cwd=directory, env=environment, stdin=subprocess.DEVNULL,
            stdout=opened, stderr=opened,
        )  # fmt: skip
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(30)
        print(log.read_text(), file=sys.stderr)


def test_from_nothing_to_three_nodes(tmp_path: Path) -> None:
    places = HeldPlaces((1, 2, 3))
    environment = clean_environment()
    first, token, *joins, user = lines(places)
    assert len(joins) == 2
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    client = environment | {
        "KVSTORE_ENDPOINTS": places.listen_client(1),
        "KVSTORE_PASSWORD_FILE": "password",
    }

    def shell(line: str) -> str:
        ran = subprocess.run(
            line, shell=True, cwd=tmp_path, env=client, capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, (line, ran)
        return ran.stdout.strip()

    with ExitStack() as stack:
        stack.callback(places.close)
        here = {
            "KVSTORE_LISTEN_CLIENT": places.listen_client(1),
            "KVSTORE_LISTEN_PEER": places.listen_peer(1),
        }
        stack.enter_context(serving(first, tmp_path, environment | here))
        authority = tmp_path / "n1" / "tls" / "ca.crt"
        eventually(authority.exists, "the authority is there")
        secret = shell(token)
        for line in joins:
            assert " TOKEN " in line
            words = line.replace(" TOKEN ", f" {shlex.quote(secret)} ")
            stack.enter_context(serving(words, tmp_path, environment))
        urls = [f"https://{places.listen_client(number)}" for number in (1, 2, 3)]
        with BlockingClient(urls, ca=str(authority), timeout_s=30) as anybody:
            eventually(
                lambda: sum(one.kind == "voter" for one in anybody.status().members) == 3,
                "all three vote", 60.0,
            )  # fmt: skip
            client["KVSTORE_CA"] = os.fspath(authority)
            shell(user.replace("auth enable", "auth enable --new-password-file password"))
            with pytest.raises(Unauthenticated):
                anybody.get("greeting")
        with BlockingClient(urls[2], ca=str(authority), user="root", password=PASSWORD) as root:
            entry = root.get("greeting")
            assert entry is not None and entry.value == b"hello"
