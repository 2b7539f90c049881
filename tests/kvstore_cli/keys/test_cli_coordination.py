"""`kvstore watch`, `lease`, `lock`, `elect`, `history` and `upgrade` against three real nodes."""

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest

from kvstore.storage.data_dir import FORMAT
from kvstore_cli.main import main
from tests.support.real_cluster import ROOT, Cluster, eventually

pytestmark = pytest.mark.integration


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


class Cli:
    """Runs `kvstore`: `start` in a process of its own; a call in this one, unless it starts a
    command or might not end."""

    def __init__(self, cluster: Cluster, first: int = 1) -> None:
        ordered = sorted(cluster.numbers, key=lambda number: number != first)
        urls = (f"127.0.0.1:{cluster.nodes[number].client_port}" for number in ordered)
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "KVSTORE_ENDPOINTS": ",".join(urls),
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "kvstore_cli.main", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )

    def __call__(self, *words: str) -> Outcome:
        if words[0] in ("elect", "lock", "watch"):
            process = self.start(*words)
            out, err = process.communicate(timeout=30)
            return Outcome(process.returncode, out, err)
        said, complained = io.BytesIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(io.TextIOWrapper(said, write_through=True)),
            redirect_stderr(complained),
        ):
            patch.setenv("KVSTORE_ENDPOINTS", self._environment["KVSTORE_ENDPOINTS"])
            code = main(list(words))
            return Outcome(code, said.getvalue().decode(), complained.getvalue())


@pytest.fixture
def cli(cluster: Cluster) -> Cli:
    return Cli(cluster)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_leases(cli: Cli) -> None:
    lease = cli("lease", "grant", "60").out.strip()
    assert int(lease) > 0
    assert cli("lease", "grant", "60", "--id", lease).code == 2
    assert cli("put", "led", "1", "--lease", lease).code == 0
    assert "led\n" in cli("lease", "show", lease).out
    shown = json.loads(cli("lease", "show", lease, "--json").out)
    assert shown["keys"] == [{"key": "led"}] and 50 < shown["left_s"] <= 60
    assert lease in cli("lease", "list").out
    assert json.loads(cli("get", "led", "--json").out)["lease"] == lease
    assert cli("lease", "keep-alive", lease, "--once").out == f"lease {lease} lasts 60 s from now\n"
    assert "1 keys deleted" in cli("lease", "revoke", lease).out
    assert cli("get", "led").code == 1
    for words in (("show", lease), ("revoke", lease), ("keep-alive", lease)):
        assert cli("lease", *words).code == 1
    assert "lease " in cli("put", "short", "1", "--ttl", "60").out


def test_watch_and_history(cli: Cli) -> None:
    first = json.loads(cli("put", "seen/a", "1", "--json").out)["revision"]
    cli("put", "seen/b", "\n")
    cli("del", "seen/a")
    found = cli("watch", "seen/", "--from-revision", str(first), "--limit", "3")
    assert found.out.splitlines() == [
        f"{first}\tput\tseen/a\t1",
        f"{first + 1}\tput\tseen/b\t\\n",
        f"{first + 2}\tdelete\tseen/a",
    ]
    found = cli("watch", "seen/a", "--exact", "--only", "deletes", "--previous", "--json",
                "--from-revision", str(first), "--limit", "1")  # fmt: skip
    event = json.loads(found.out)
    assert event["type"] == "delete" and event["previous"]["value"] == "1"
    assert cli("history", "seen/a").out == f"{first + 2}\tdelete\n{first}\tput\t1\n"
    assert cli("history", "seen/never").code == 1


def test_whether_it_can_be_upgraded(cluster: Cluster, cli: Cli) -> None:
    done = cli("upgrade", "--check")
    assert done.code == 0 and "can be restarted with" in done.out, done
    told = json.loads(cli("upgrade", "--check", "--json").out)
    assert told["can_be_upgraded"] and [node["id"] for node in told["nodes"]] == [1, 2, 3]
    assert all(node["formats"] == {"data": FORMAT, "protocol": 2} for node in told["nodes"])
    cluster.kill9(3)
    done = cli("upgrade", "--check")
    assert done.code == 1 and "node 3 does not answer" in done.out, done


def test_a_watch_goes_on_when_its_node_is_killed(cluster: Cluster) -> None:
    victim = cluster.leader()
    cli = Cli(cluster, first=victim)
    start = json.loads(cli("put", "before", "1", "--json").out)["revision"]
    watch = cli.start("watch", "on/", "--from-revision", str(start))
    cli("put", "on/1", "1")
    assert line(watch).endswith("on/1\t1\n")
    cluster.kill9(victim)
    assert cli("put", "on/2", "2").code == 0
    assert line(watch).endswith("on/2\t2\n")
    watch.send_signal(signal.SIGINT)
    assert watch.communicate(timeout=20)[0] == "" and watch.returncode == 130


def test_a_command_under_a_lock(cli: Cli) -> None:
    script = 'echo "$KVSTORE_LOCK_KEY $KVSTORE_LOCK_REVISION"; exit 9'
    outcome = cli("lock", "job", "--", "sh", "-c", script)
    key, revision = outcome.out.split()
    assert outcome.code == 9 and key.startswith("job/") and int(revision) > 1
    assert cli("list", "job/").out == ""


def test_the_second_waits_and_is_told_if_it_does_not_want_to(cli: Cli) -> None:
    holder = cli.start("lock", "one", "--", "sh", "-c", "echo on; trap 'exit 5' TERM; "
                       "while :; do sleep 0.02; done")  # fmt: skip
    assert line(holder) == "on\n"
    refused = cli("lock", "one", "--wait", "0", "--", "true")
    assert refused.code == 3 and "not free" in refused.err
    waiter = cli.start("lock", "one", "--", "echo", "mine")
    eventually(lambda: len(cli("list", "one/").out.splitlines()) == 2, "it waits")
    given_up = cli.start("lock", "one")
    eventually(lambda: len(cli("list", "one/").out.splitlines()) == 3, "one more waits")
    given_up.terminate()
    assert given_up.wait(20) == 128 + signal.SIGTERM
    assert len(cli("list", "one/").out.splitlines()) == 2
    holder.terminate()
    assert holder.communicate(timeout=20)[0] == "" and holder.returncode == 5
    assert waiter.communicate(timeout=20)[0] == "mine\n" and waiter.returncode == 0


@pytest.mark.parametrize("trap", ["echo stopping; exit 0", ""])
def test_a_lost_lease_stops_the_command(cli: Cli, trap: str) -> None:
    script = f"trap '{trap}' TERM; echo $KVSTORE_LOCK_LEASE; while :; do sleep 0.02; done"
    words = ("lock", "fragile", "--ttl", "3", "--grace", "0.5", "--", "sh", "-c", script)
    holder = cli.start(*words)
    cli("lease", "revoke", line(holder).strip())
    out, err = holder.communicate(timeout=20)
    assert holder.returncode == 6 and "was lost" in err
    assert ("stopping" in out) == bool(trap)


def test_a_lock_without_a_command_is_held_until_a_signal(cli: Cli) -> None:
    holder = cli.start("lock", "bare")
    key = line(holder).strip()
    assert key.startswith("bare/") and cli("get", key).code == 0
    holder.send_signal(signal.SIGINT)
    assert holder.wait(20) == 130
    assert cli("get", key).code == 1


def test_elections(cli: Cli) -> None:
    listener = cli.start("elect", "head", "--listen")
    one = cli.start("elect", "head", "one")
    line(one)
    assert line(listener).endswith("\tone\n")
    two = cli.start("elect", "head", "two", "--", "echo", "leading")
    eventually(lambda: len(cli("list", "head/").out.splitlines()) == 2, "both stand")
    one.terminate()
    assert two.communicate(timeout=20)[0] == "leading\n" and two.returncode == 0
    assert line(listener).endswith("\ttwo\n")
    listener.send_signal(signal.SIGINT)
    listener.communicate(timeout=20)
    one.communicate(timeout=20)
    assert cli("elect", "head").code == 2


def test_transactions(cli: Cli) -> None:
    words = ("txn", "--if", "absent(x)", "--then", "put x '1 2'", "--else", "get x")
    assert cli(*words).out.startswith("then, revision ")
    again = cli(*words)
    assert again.code == 3 and again.out.splitlines()[1] == "get\tx\t1 2"
    assert cli("txn", "--then", "put y 1", "--then", "put y 2").code == 2
