"""The rules of DESIGN.md §2 as tests: imports go one way, the core is pure, roles stand alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = ("paxos", "kvstore", "http_api", "kvstore_cli", "proof")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
ABOVE = {
    "paxos": {"kvstore", "http_api", "simulation", "torture"},
    "kvstore": {"http_api", "simulation", "torture"},
    "simulation": {"http_api", "torture"},
    "torture": {"http_api"},
}
PURE = {"collections", "collections.abc", "dataclasses", "enum", "typing", "msgspec"}
ROLES = {"acceptor", "proposer", "learner", "election", "reads"}
LINES_MAX, FUNCTION_LINES_MAX = 500, 60


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", FILES, ids=name)
def test_nothing_imports_upward(file: Path) -> None:
    above = ABOVE.get(file.relative_to(ROOT).parts[0], set())
    assert not [module for module in imports(file) if module.split(".")[0] in above]


@pytest.mark.parametrize("file", sorted((ROOT / "paxos").glob("*.py")), ids=name)
def test_the_core_is_pure(file: Path) -> None:
    foreign = {m for m in imports(file) if m not in PURE and m.split(".")[0] != "paxos"}
    assert not foreign


@pytest.mark.parametrize("file", sorted((ROOT / "paxos").glob("*.py")), ids=name)
def test_only_the_node_composes_roles(file: Path) -> None:
    used = {m.removeprefix("paxos.") for m in imports(file)} & ROLES
    allowed = {"node": ROLES, "synod": {"acceptor", "proposer"}}.get(file.stem, set())
    assert used <= allowed


@pytest.mark.parametrize("file", FILES, ids=name)
def test_files_and_functions_are_short(file: Path) -> None:
    source = file.read_text()
    assert len(source.splitlines()) <= LINES_MAX
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno + 1 <= FUNCTION_LINES_MAX, node.name
