"""What a process is started into: descriptors, signals, encodings, directories, limits, addresses.

Each works, or gives one clear line.
"""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kvstore.errors import InvalidArgument
from kvstore.storage.segment_log import SegmentLog
from kvstore_cli.node.settings import load
from proof.processes.waiting import eventually
from tests.support.paths import ROOT
from tests.support.ports import free_ports

PROGRAM = (sys.executable, "-m", "kvstore_cli.main")
LIMIT_S = 30


def environment(**changes: str) -> dict[str, str]:
    """Ours without settings of nodes; a variable that is changed to "" is not there."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("KVSTORE_")}
    found |= {"PYTHONPATH": str(ROOT), **changes}
    return {name: value for name, value in found.items() if value}


class Serving:
    """A node of one, and how to ask it."""

    def __init__(self, process: "subprocess.Popen[bytes]", address: str) -> None:
        self.process = process
        self.address = address

    def call(self, path: str, body: bytes | None = None) -> bytes:
        method = "GET" if body is None else "PUT"
        asked = urllib.request.Request(f"http://{self.address}{path}", body, method=method)
        with urllib.request.urlopen(asked, timeout=LIMIT_S) as answer:
            found: bytes = answer.read()
        return found

    def ready(self) -> bool:
        assert self.process.poll() is None, "it has ended"
        try:
            return b"ready" in self.call("/readyz")
        except OSError:
            return False

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(LIMIT_S)


@contextmanager
def serving(
    data_dir: Path,
    *,
    host: str = "127.0.0.1",
    shell: str = "",
    variables: Mapping[str, str] = {},
    before: Callable[[], None] | None = None,
    **popen: Any,
) -> Iterator[Serving]:
    """`kvstore serve`; `shell` is what a shell is to do before it becomes the node."""
    client, peer = (f"{host}:{port}" for port in free_ports(2))
    words = [*PROGRAM, "serve", "--id", "1", "--initial-cluster", f"1={peer}"]
    words += ["--listen-client", client, "--listen-peer", peer, "--data-dir", str(data_dir)]
    words += [] if host == "127.0.0.1" else ["--insecure"]
    if shell:
        words = ["sh", "-c", f'exec "$@" {shell}', "sh", *words]

    def prepare() -> None:
        # Whoever runs the tests by nohup hands an ignored signal on to all they start.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        if before is not None:
            before()

    process = subprocess.Popen(words, env=environment(**variables), preexec_fn=prepare, **popen)
    try:
        node = Serving(process, client)
        eventually(node.ready, "the node is ready", LIMIT_S)
        yield node
    finally:
        process.kill()
        process.wait(LIMIT_S)


def test_nothing_around_it(tmp_path: Path) -> None:
    """No standard descriptors, no home, an ASCII locale, a strict umask, and `/` as directory; a
    SIGHUP is a clean stop. The files are what they should be, whatever was written to stderr."""
    data_dir = tmp_path / "node"
    bare = {"HOME": "", "LANG": "C", "LC_ALL": "C", "PYTHONWARNINGS": ""}
    with serving(data_dir, shell="0<&- 1>&- 2>&-", variables=bare, umask=0o077, cwd="/") as node:
        node.call("/v1/kv/%D0%BA", b"v")
        listed = subprocess.run(
            [*PROGRAM, "list", "--endpoints", node.address],
            env=environment(PYTHONIOENCODING="ascii"),
            capture_output=True,
            timeout=LIMIT_S,
        )
        assert (listed.returncode, listed.stderr) == (0, b"")
        assert b"\\u043a" in listed.stdout
        assert node.end(signal.SIGHUP) == 0
    store = SegmentLog(data_dir / "log")
    assert store.restore().chosen_through > 0
    store.close()


def test_started_by_nohup_it_outlives_the_terminal(tmp_path: Path) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with serving(tmp_path / "node", before=ignore) as node:
        node.process.send_signal(signal.SIGHUP)
        node.call("/v1/kv/k", b"v")
        assert node.end(signal.SIGTERM) == 0


def test_a_log_on_a_full_disk_stops_nothing(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full, serving(tmp_path / "node", stderr=full) as node:
        node.call("/v1/kv/k", b"v")
        assert b"ok" in node.call("/healthz")
        metrics = node.call("/metrics").decode()
        assert float(metrics.split("\nkvstore_log_lines_dropped ")[1].split()[0]) > 0
        assert node.end(signal.SIGTERM) == 0


@pytest.mark.proof
def test_few_descriptors_and_many_clients(tmp_path: Path) -> None:
    """The soft limit is raised, the rest is kept for peers and files, and the bound is told."""

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 300))

    log = tmp_path / "log"
    with log.open("wb") as out, serving(tmp_path / "node", before=few, stderr=out) as node:
        host, _, port = node.address.rpartition(":")
        with ExitStack() as clients:
            idle = [
                clients.enter_context(socket.create_connection((host, int(port)), LIMIT_S))
                for _ in range(400)
            ]
            eventually(lambda: b"are at their bound" in log.read_bytes(), "it is told")
            descriptors = len(os.listdir(f"/proc/{node.process.pid}/fd"))
            assert descriptors < 300 - 64, "a reserve is left"
            idle[0].sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            metrics = b""
            while more := idle[0].recv(1 << 16):
                metrics += more
            assert b"\nkvstore_http_connections_max 164.0" in metrics
        eventually(lambda: b"are below their bound again" in log.read_bytes(), "and its end")
        assert log.read_bytes().count(b"at their bound") == 1
        assert node.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("kind", "limit", "says"),
    [
        (resource.RLIMIT_NOFILE, 20, b"may open 20 files"),
        (resource.RLIMIT_AS, 300 << 20, b"may use 300 MiB of addresses"),
        (resource.RLIMIT_FSIZE, 10_000, b"no room"),
    ],
)
@pytest.mark.proof
def test_limits_that_are_too_low(tmp_path: Path, kind: int, limit: int, says: bytes) -> None:
    """A traceback, a process that aborts without a word, and a fresh file that was said to be
    damaged, with the advice to give its data up."""
    words = ["--id", "1", "--initial-cluster", "1=127.0.0.1:1", "--data-dir", str(tmp_path)]
    done = subprocess.run(
        [*PROGRAM, "serve", *words],
        env=environment(),
        capture_output=True,
        timeout=LIMIT_S,
        preexec_fn=lambda: resource.setrlimit(kind, (limit, limit)),
    )
    assert done.returncode == 74
    assert done.stderr.count(b"\n") == 1 and says in done.stderr
    assert b"damaged" not in done.stderr


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6_addresses_have_brackets(tmp_path: Path) -> None:
    with serving(tmp_path / "node", host="[::1]") as node:
        [member] = json.loads(node.call("/v1/cluster"))["members"]
        assert member["client_address"] == f"http://{node.address}"
        assert member["peer_address"].startswith("[::1]:")


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.proof
def test_any_address_is_one_of_ipv4_too(tmp_path: Path) -> None:
    with serving(tmp_path / "node", host="[::]") as node:
        port = node.address.rpartition(":")[2]
        for address in (f"127.0.0.1:{port}", f"[::1]:{port}"):
            node.address = address
            assert b"ready" in node.call("/readyz")


def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with serving(tmp_path / "node") as node, open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*PROGRAM, "status", "--json", "--endpoints", node.address],
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=LIMIT_S,
        )
    assert done.returncode == 74
    assert done.stderr == b"kvstore: [Errno 28] No space left on device\n"


def test_a_directory_that_cannot_be() -> None:
    words = ["--id", "1", "--initial-cluster", "1=127.0.0.1:1", "--data-dir", "/dev/null/x"]
    done = subprocess.run(
        [*PROGRAM, "serve", *words], env=environment(), capture_output=True, timeout=LIMIT_S
    )
    assert done.returncode == 74
    assert done.stderr.count(b"\n") == 1 and b"cannot be used" in done.stderr


def test_a_home_that_is_not_there() -> None:
    flags = {"id": "1", "initial-cluster": "1=h:1", "data-dir": "~nobody-of-this-name/x"}
    with pytest.raises(InvalidArgument, match="no such home directory"):
        load(flags, {})


def test_a_checkout_that_was_moved_gets_a_new_environment(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for stamp in (".runtime", ".dev"):
        (tmp_path / ".venv" / stamp).touch()

    def asked() -> str:
        done = subprocess.run(["make", "-n", "demo"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (programs / "activate").write_text(f'VIRTUAL_ENV="{tmp_path}/.venv"\n')
    assert "-m venv" not in asked()
    (programs / "activate").write_text('VIRTUAL_ENV="/elsewhere/.venv"\n')
    assert "this checkout was moved" in (said := asked()) and "-m venv" in said
