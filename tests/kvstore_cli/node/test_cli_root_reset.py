"""`kvstore recover --reset-root`: who owns a node's directory sets root's password, once."""

import asyncio
import json
import shutil
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kvstore.audit_log import AuditLog, verify
from kvstore.client import BlockingClient, Unauthenticated
from kvstore.commands.accounts import ROOT, AddUser
from kvstore.commands.commands import Administer, AsUser
from kvstore.errors import NoQuorum, OutcomeUnknown, StorageError
from kvstore.event_log import EventLog
from kvstore.state.rights import ITSELF
from kvstore_cli import credentials
from kvstore_cli.main import main
from kvstore_cli.node.root_reset import GOOD_S, NAME, RootReset, leave_record, take_record
from tests.support.etcd_node import EtcdNode, on_node
from tests.support.guarded_node import guard
from tests.support.real_cluster import eventually, running_cluster

NEW = "chosen anew"
HASH = bytes(range(51))


class Heard(EventLog):
    """Events are kept in a list."""

    def __init__(self) -> None:
        super().__init__(1)
        self.names: list[str] = []
        self.reasons: list[str] = []

    def event(self, name: str, **fields: object) -> None:
        self.names.append(name)
        self.reasons.append(str(fields.get("reason", "")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a node with authentication on, which is down."""

    async def test(node: EtcdNode) -> None:
        await guard(node)

    path = tmp_path_factory.mktemp("whole")
    on_node(path, test)
    return path / "node"


@pytest.fixture
def founded(tmp_path: Path, whole: Path) -> Path:
    """The same, for one test."""
    shutil.copytree(whole, tmp_path / "node")
    return tmp_path / "node"


def asked(data_dir: Path, password: str = NEW) -> int:
    """The exit code of the command."""
    file = data_dir.parent / "new-password"
    file.write_text(f"{password}\n")
    file.chmod(0o600)
    command = ["recover", "--data-dir", str(data_dir), "--reset-root"]
    return main([*command, "--new-password-file", str(file)])


def started(data_dir: Path, test: Callable[[EtcdNode, Heard], Awaitable[None]]) -> Heard:
    """The node runs, and has looked for a record."""
    events = Heard()

    async def run(node: EtcdNode) -> None:
        await RootReset(node.replica, data_dir, events, None).run()
        await test(node, events)

    on_node(data_dir.parent, run)
    return events


async def root_has(node: EtcdNode, password: str) -> bool:
    reply = await node.post("auth/authenticate", {"name": "root", "password": password})
    return reply.status == 200


def test_the_next_start_sets_it_once(founded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(founded) == 0
    assert "node 1 sets root's password at its next start" in capsys.readouterr().out
    record = founded / NAME
    assert stat.S_IMODE(record.stat().st_mode) == 0o600 and NEW.encode() not in record.read_bytes()

    async def has_new(node: EtcdNode, events: Heard) -> None:
        assert events.names == ["root was reset"] and not record.exists()
        assert await root_has(node, NEW) and not await root_has(node, "root's")
        revision = node.replica.state.auth.revision
        await RootReset(node.replica, founded, events, None).run()
        assert events.names == ["root was reset"]
        assert node.replica.state.auth.revision == revision

    started(founded, has_new)

    async def still(node: EtcdNode, events: Heard) -> None:
        assert await root_has(node, NEW) and events.names == []

    started(founded, still)


def test_it_is_asked_for_twice_without_echo(
    founded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [NEW, "another", NEW, NEW]
    monkeypatch.setattr(credentials, "ask", lambda prompt: typed.pop(0))
    command = ["recover", "--data-dir", str(founded), "--reset-root"]
    assert main(command) == 2 and "differ" in capsys.readouterr().err
    assert not (founded / NAME).exists()
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"node": 1, "good_s": GOOD_S}
    assert not typed
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--new-cluster"])


def test_what_does_not_count(founded: Path) -> None:
    """It is taken away, and a line says why."""
    later = time.time()
    for asked_s, says in (
        (later - GOOD_S - 1, "60 minutes ago"),
        (later + 300, "in the future"),
        (float("nan"), "in the future"),
    ):
        leave_record(founded, HASH, asked_s)

        async def unchanged(node: EtcdNode, events: Heard, says: str = says) -> None:
            assert events.names == ["root not reset"] and says in events.reasons[0]
            assert await root_has(node, "root's") and not (founded / NAME).exists()

        started(founded, unchanged)


def test_what_cannot_be_read_is_left_and_said(founded: Path) -> None:
    for text in ("{", "[]", '{"password":"xx","asked_s":1}', '{"password":"00","asked_s":1}'):
        (founded / NAME).write_text(text)
        with pytest.raises(StorageError, match="remove it"):
            take_record(founded)

    async def unchanged(node: EtcdNode, events: Heard) -> None:
        assert events.names == ["root not reset"] and "remove it" in events.reasons[0]
        assert await root_has(node, "root's")

    started(founded, unchanged)


def test_a_root_that_has_no_password_gets_none(tmp_path: Path) -> None:
    async def nobody(node: EtcdNode) -> None:
        """No root, then one that shows a certificate; authentication is off."""
        data_dir, events = tmp_path / "node", Heard()
        record = json.dumps({"password": HASH.hex(), "asked_s": time.time()})
        for change in (None, AddUser(ROOT, None)):
            if change is not None:
                await node.replica.execute(AsUser(ITSELF, 0, Administer(change)), 5)
            (data_dir / NAME).write_text(record)
            await RootReset(node.replica, data_dir, events, None).run()
        assert events.names == ["root not reset"] * 2
        assert "never enabled" in events.reasons[0] and "certificate" in events.reasons[1]

    on_node(tmp_path, nobody)


def test_whose_directory_it_is(
    tmp_path: Path, founded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(tmp_path / "nothing") == 74
    assert "no data directory" in capsys.readouterr().err

    async def runs(node: EtcdNode) -> None:
        assert await asyncio.to_thread(asked, founded) == 74
        assert "in use by another process" in capsys.readouterr().err

    on_node(tmp_path, runs)
    assert asked(founded, "x" * 1025) == 2
    assert "at most 1024 bytes" in capsys.readouterr().err
    identity = founded / "identity.json"
    identity.write_text(identity.read_text().replace('"formed": true', '"formed": false'))
    assert asked(founded) == 74
    assert "belongs to no cluster yet" in capsys.readouterr().err
    assert not (founded / NAME).exists()


def test_without_a_quorum_it_waits_and_an_unknown_outcome_is_looked_for(
    founded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record stays until a barrier holds; a change that was made is not made again."""
    monkeypatch.setattr("kvstore_cli.node.root_reset.AGAIN_S", 0.01)
    assert asked(founded) == 0
    events, audit = Heard(), founded.parent / "audit.jsonl"
    seen: list[bool] = []

    async def run(node: EtcdNode) -> None:
        replica = node.replica
        barrier, execute = replica.read_barrier, replica.execute

        async def late(timeout_s: float) -> None:
            seen.append((founded / NAME).exists())
            if len(seen) < 3:
                raise NoQuorum("nobody answers")
            await barrier(timeout_s)

        async def unsure(command: Any, timeout_s: float) -> Any:
            assert not (founded / NAME).exists(), "it is away before anything is proposed"
            await execute(command, timeout_s)
            raise OutcomeUnknown("no answer")

        monkeypatch.setattr(replica, "read_barrier", late)
        monkeypatch.setattr(replica, "execute", unsure)
        revision = replica.state.auth.revision
        log = AuditLog(str(audit), 1)
        await RootReset(replica, founded, events, log).run()
        log.close()
        assert replica.state.auth.revision == revision + 1
        assert await root_has(node, NEW)

    on_node(founded.parent, run)
    assert seen == [True] * 3
    waits = "root waits to be reset"
    assert events.names == [waits, waits, "root was reset"]
    records = [json.loads(line) for line in audit.read_bytes().splitlines()]
    assert records[-1]["event"] == "root reset" and "denied" not in records[-1]
    assert records[-1]["changes"] == [{"change": "ChangePassword", "name": "root"}]


def test_a_stop_before_the_quorum_keeps_the_record(founded: Path) -> None:
    assert asked(founded) == 0
    events = Heard()

    async def run(node: EtcdNode) -> None:
        node.replica.fail("stopped by the test")
        await RootReset(node.replica, founded, events, None).run()

    on_node(founded.parent, run)
    assert events.names == [] and (founded / NAME).exists()


@pytest.mark.integration
@pytest.mark.proof
def test_one_node_of_three_sets_it_for_all_and_says_so(tmp_path: Path) -> None:
    """While the others go on."""
    audit = tmp_path / "audit.jsonl"
    with running_cluster(3, start=False) as cluster:
        node = cluster.nodes[2]
        node.command += ("--audit-log", str(audit))
        cluster.start()
        with BlockingClient(cluster.nodes[1].url) as client:
            client.add_user("root", "lost")
            client.grant_role("root", "root")
            client.auth_enable()
        assert asked(node.data_dir) == 74, "it is in use"
        assert cluster.stop(2) == [0]
        assert asked(node.data_dir) == 0
        cluster.start(2)
        eventually(lambda: "root was reset" in cluster.log(2), "the log says so")
        for number in cluster.numbers:
            url = cluster.nodes[number].url
            with BlockingClient(url, user="root", password=NEW) as client:
                client.put("k", "v")
            with (
                BlockingClient(url, user="root", password="lost") as client,
                pytest.raises(Unauthenticated),
            ):
                client.put("k", "v")
        assert not (node.data_dir / NAME).exists()
        assert cluster.stop(2) == [0]
    lines = audit.read_bytes().splitlines()
    assert verify(lines).fault == ""
    assert [one["event"] for one in map(json.loads, lines) if "event" in one].count(
        "root reset"
    ) == 1
