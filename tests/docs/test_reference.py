"""The reference of the site has every route, command and public name, and is rid of raw reprs."""

import importlib
import inspect
import re
from argparse import ArgumentParser
from collections.abc import Iterator

import pytest

import kvstore.client
from http_api.server import native_calls
from kvstore.client import BlockingClient, Client
from kvstore_cli.command import Command
from kvstore_cli.main import COMMANDS, offered_commands
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def pages() -> Iterator[dict[str, str]]:
    """What the build of the site writes, by the name of the page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        hook = importlib.import_module("site_pages")
        yield {place: written() for place, written in hook.REFERENCE.items()}


def sections(page: str) -> dict[str, str]:
    """Its text by heading, that of the headings below not included."""
    _, *parts = re.split(r"^##+ (.+)$", page, flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_route_with_its_parameters(pages: dict[str, str]) -> None:
    found = sections(pages["reference/http.md"])
    for call in native_calls():
        text = found[f"`{call.method} {call.path}`"]
        assert call.doc.summary.split("`")[0].split("*")[0] in text
        for name in (*call.doc.query, *call.doc.headers, *re.findall(r"{(\w+)}", call.path)):
            assert f"\n| `{name}` | " in text, (call.path, name)
        for status in call.doc.answers:
            assert f"\n| {status} | " in text, (call.path, status)
        if call.message is not None:
            assert call.message.__name__ in text
            assert "{" in found[call.message.__name__]


def rows(commands: tuple[Command, ...], before: str = "kvstore") -> Iterator[tuple[str, Command]]:
    for command in commands:
        yield f"{before} {command.name}", command
        yield from rows(command.actions, f"{before} {command.name}")


def test_every_command_with_its_flags(pages: dict[str, str]) -> None:
    found = sections(pages["reference/commands.md"])
    for words, command in rows((*COMMANDS, *offered_commands())):
        text = found[words]
        assert " ".join(command.summary.split())[1:] in " ".join(text.split())
        parser = ArgumentParser()
        for add_flags in command.flags:
            add_flags(parser)
        for flag in parser._option_string_actions:
            assert re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text), (words, flag)
        assert command.text.strip() in text
        assert "exit codes:" not in text, "they are told once"


def test_every_public_name_and_method_of_the_client(pages: dict[str, str]) -> None:
    page = pages["reference/python.md"]
    found = sections(page)
    for name in kvstore.client.__all__:
        if f"\n| `{name}` | " not in page:  # an error
            assert found[name].strip() or f"### {name}." in page, name
    for name in (name for name in dir(Client) if not name.startswith("_")):
        method = inspect.getattr_static(Client, name)
        text = found[f"Client.{name}"]
        doc = inspect.getdoc(method)
        assert doc is not None
        assert doc.split()[0].strip("`") in text
        if not isinstance(method, property):
            for parameter in list(inspect.signature(method).parameters)[1:]:
                assert re.search(rf"[ (*]{parameter}[:,)]", text), (name, parameter)
    for name in (name for name in dir(BlockingClient) if not name.startswith("_")):
        assert re.search(rf"^    (def )?{name}[(:]", found["BlockingClient"], re.M), name


def test_nothing_is_shown_as_python_would_print_it(pages: dict[str, str]) -> None:
    for place, page in pages.items():
        assert not re.findall(r"<(?:class|function|object)\b.*|\bat 0x\w+|&lt;class", page), place
