"""`kvstore login`, `auth`, `user`, `role`, and who other commands are, against a real node."""

import asyncio
import getpass
import json
import os
import pty
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from kvstore.errors import InvalidArgument
from kvstore_cli import credentials
from kvstore_cli.main import main
from tests.support.etcd_node import EtcdNode, on_node

Capture = pytest.CaptureFixture[str]


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Person:
    """Somebody at a terminal: what is to be typed is in `types`, what was asked in `asked`."""

    def __init__(self, capture: Capture) -> None:
        self.types: list[str] = []
        self.asked: list[str] = []
        self.node: EtcdNode
        self._capture = capture

    def answer(self, prompt: str) -> str:
        self.asked.append(prompt)
        return self.types.pop(0)

    async def runs(self, *words: str, types: tuple[str, ...] = ()) -> Said:
        """What the command says; `types` are passwords for its prompts, all of which it asks."""
        self.types = list(types)
        host, port = self.node.address
        at = 2 if words[0] in ("auth", "user", "role") else 1
        flags = ["--endpoints", f"http://{host}:{port}"]
        flags += [] if words[0] == "logout" else ["--timeout", "5"]
        code = await asyncio.to_thread(main, [*words[:at], *flags, *words[at:]])
        assert not self.types, "it did not ask"
        out, err = self._capture.readouterr()
        # The node logs to the same place; and a busy machine makes a command wait.
        lines = [line for line in err.splitlines() if not line[:4].isdecimal()]
        own = [line for line in lines if "still trying" not in line]
        return Said(code, out, "\n".join(own))

    async def does(self, *words: str, types: tuple[str, ...] = ()) -> str:
        said = await self.runs(*words, types=types)
        assert (said.code, said.err) == (0, ""), said
        return said.out


@pytest.fixture
def person(capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Person]:
    made = Person(capsys)
    monkeypatch.setattr(getpass, "getpass", made.answer)
    monkeypatch.setattr(credentials, "TERMINAL", os.devnull)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    yield made
    asked = "".join(made.asked)
    assert "secret" not in asked


def test_from_an_open_store_to_one_with_users(person: Person, tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        person.node = node
        assert "is off" in await person.does("auth", "status")
        await person.does("auth", "enable", types=("root secret", "root secret"))
        refused = await person.runs("put", "a", "1")
        assert refused.code == 2 and "kvstore login NAME" in refused.err
        out = await person.does("login", "root", types=("root secret",))
        kept = credentials.kept_path()
        assert str(kept) in out and "secret" not in out + kept.read_text()
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
        assert "you are root" in await person.does("auth", "status")
        await person.does("role", "add", "app")
        await person.does("role", "grant", "app", "readwrite", "--prefix", "app/")
        await person.does("role", "grant", "app", "--scope", "metrics")
        await person.does("user", "add", "alice", types=("hers secret", "hers secret"))
        await person.does("user", "grant", "alice", "app")
        assert await person.does("user", "list") == (
            "USER   ROLES  PASSWORD\nalice  app    yes\nroot   root   yes\n"
        )
        listed = await person.does("role", "list", "app")
        assert listed.splitlines()[1:] == ["app   readwrite  app/*", "app   metrics    (scope)"]
        shown = json.loads(await person.does("role", "list", "app", "--json"))
        assert shown["permissions"] == [{"right": "readwrite", "prefix": "app/"}]
        as_alice = ("--user", "alice")
        await person.does("put", *as_alice, "app/x", "1", types=("hers secret",))
        denied = await person.runs("put", *as_alice, "z", "1", types=("hers secret",))
        assert denied.code == 2 and "lacks the permission" in denied.err
        await person.does("role", "revoke", "app", "--prefix", "app/")
        denied = await person.runs("get", *as_alice, "app/x", types=("hers secret",))
        assert denied.code == 2
        await person.does("user", "revoke", "alice", "app")
        await person.does("role", "delete", "app")
        await person.does("user", "delete", "alice")
        assert "alice" not in await person.does("user", "list")
        await person.does("auth", "disable")
        await person.does("put", "a", "1")
        assert "forgotten" in await person.does("logout")
        assert "no login" in await person.does("logout")

    on_node(tmp_path, test)


async def switch_on(person: Person, node: EtcdNode) -> None:
    person.node = node
    await person.does("auth", "enable", types=("root secret", "root secret"))
    await person.does("login", "root", types=("root secret",))


def test_passwords(person: Person, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.write_text("from a file\n")
    new.chmod(0o600)

    async def test(node: EtcdNode) -> None:
        await switch_on(person, node)
        await person.does("user", "add", "bob", "--new-password-file", str(new))
        for types in (("",), ("one", "another")):
            said = await person.runs("user", "passwd", "bob", types=types)
            assert said.code == 2 and "password" in said.err
        as_bob = ("--user", "bob", "--password-file", str(new))
        await person.does("user", "passwd", *as_bob, types=("mine", "mine"))
        said = await person.runs("auth", "status", *as_bob)
        assert said.code == 2 and "password is wrong" in said.err
        await person.does("user", "passwd", "bob", types=("yours", "yours"))
        out = await person.does("auth", "status", "--user", "bob", types=("yours",))
        assert "you are bob" in out
        said = await person.runs("user", "passwd", types=("wrong", "root 2", "root 2"))
        assert said.code == 2 and "password is wrong" in said.err
        await person.does("user", "passwd", types=("root secret", "root 2", "root 2"))
        said = await person.runs("auth", "status")
        assert said.code == 2 and "kvstore login" in said.err  # the kept token has ended

    on_node(tmp_path, test)


def test_tokens_end(person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: EtcdNode) -> None:
        await switch_on(person, node)
        await person.does("user", "add", "carol", types=("c", "c"))
        await person.does("login", "carol", types=("c",))
        token = tmp_path / "token"
        token.write_text(credentials.kept_login((url(node),)).token)  # type: ignore[union-attr]
        token.chmod(0o600)
        await person.does("login", "root", types=("root secret",))
        monkeypatch.setenv("KVSTORE_TOKEN_FILE", str(token))
        assert "you are carol" in await person.does("auth", "status")
        monkeypatch.delenv("KVSTORE_TOKEN_FILE")
        await person.does("user", "logout", "carol")
        assert (await person.runs("auth", "status", "--token-file", str(token))).code == 2
        assert "you are root" in await person.does("auth", "status")
        await person.does("auth", "rotate")
        assert (await person.runs("auth", "status")).code == 2

    on_node(tmp_path, test)


def url(node: EtcdNode) -> str:
    return f"http://{node.address[0]}:{node.address[1]}"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--user", "a:b"), "seen by everybody"),
        (("--user", "a", "--token-file", "t"), "not both"),
        (("--password-file", "no such file", "--user", "a"), "cannot read no such file"),
        (("--endpoints", "http://ann:geheim@127.0.0.1:1"), "user or password in it"),
    ],
)
def test_what_is_refused(capsys: Capture, words: tuple[str, ...], says: str) -> None:
    assert main(["get", "k", *words]) == 2
    err = capsys.readouterr().err
    assert says in err and "geheim" not in err


def test_a_file_that_others_can_read_is_no_secret(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("x\n")
    file.chmod(0o644)
    words = ["get", "k", "--user", "a", "--password-file", str(file)]
    assert main(words) == 2
    assert f"chmod 600 {file}" in capsys.readouterr().err


def test_a_token_is_kept_for_its_own_nodes_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    credentials.keep_login(credentials.KeptLogin(("http://a:1", "http://b:1"), "u", "t"))
    assert credentials.kept_login(("http://a:1",)) is not None
    assert credentials.kept_login(("http://a:1", "http://evil:1")) is None
    credentials.keep_login(credentials.KeptLogin(("http://b:1",), "v", "s"))
    found = credentials.kept_login(("http://b:1",))
    assert found is not None and found.user == "v"
    assert credentials.kept_login(("http://a:1",)) is None
    credentials.kept_path().chmod(0o640)
    with pytest.raises(InvalidArgument, match="chmod 600"):
        credentials.kept_login(("http://b:1",))


def test_a_password_is_not_shown_while_it_is_typed() -> None:
    """A process of its own with a terminal of its own."""
    child, terminal = pty.fork()
    if child == 0:
        words = ["get", "k", "--user", "ann", "--endpoints", "127.0.0.1:1", "--timeout", "0.2"]
        os.execv(sys.executable, [sys.executable, "-m", "kvstore_cli.main", *words])
    said = b""
    try:
        while not said.endswith(b"password of ann: "):
            said += os.read(terminal, 1000)
        os.write(terminal, b"geheim\n")
        with suppress(OSError):  # the end
            while piece := os.read(terminal, 1000):
                said += piece
    finally:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(terminal)
    assert code == 4 and b"cannot reach" in said and b"geheim" not in said
