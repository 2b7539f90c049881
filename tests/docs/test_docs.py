"""What README and docs name exists: files, folders, modules, settings, commands, metrics."""

import ast
import contextlib
import importlib
import io
import re
import shlex
import tomllib
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kvstore_cli.main import main
from tests.support.cluster_fixtures import cluster, shared_cluster
from tests.support.paths import ROOT

__all__ = ["cluster", "shared_cluster"]

PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
TOP = (
    "paxos", "kvstore", "http_api", "kvstore_cli", "proof", "benchmarks", "tests", "docs", "deploy",
)  # fmt: skip
"""Files of the next merge."""
WITH_ACTIONS = {"lease", "incident", "member", "token", "auth", "user", "role"}
"""Commands whose second word is what to do."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
INLINE = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(r"(?:^|[\s(`|])(?:\.venv/bin/)?kvstore[ \t]+([^`|\n]*)", re.M)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str | None = None) -> list[str]:
    """Its fenced blocks, continued lines joined."""
    found = FENCE.findall(page.read_text())
    return [
        text.replace("\\\n", " ") for kind, text in found if language is None or kind == language
    ]


def inline(page: Path) -> list[str]:
    """What stands between single backticks, outside of fenced blocks."""
    return INLINE.findall(FENCE.sub("", page.read_text()))


def words(page: Path) -> Iterator[str]:
    """All words of its code."""
    for text in (*blocks(page), *inline(page)):
        yield from re.split(r"[\s()\"',;]+", text)


@cache
def files() -> set[str]:
    """Every file and folder of the project, from the top, folders with a slash at the end."""
    found = {"README.md", "SECURITY.md", "CHANGELOG.md", "LICENSE", "Makefile", "pyproject.toml"}
    for top in TOP:
        found.add(f"{top}/")
        for path in (ROOT / top).rglob("*"):
            if "__pycache__" not in path.parts:
                found.add(str(path.relative_to(ROOT)) + ("/" if path.is_dir() else ""))
    return found


def missing_paths(candidates: Iterator[str]) -> list[str]:
    """Those that look like a path of ours and are none. `*` stands for anything."""
    missing = []
    for word in candidates:
        path = word.partition("::")[0].partition("#")[0].rstrip(".:")
        of_ours = path.split("/")[0] in TOP and "/" in path
        folder = re.fullmatch(r"[a-z_0-9]+/", path) is not None
        file = re.fullmatch(r"[\w./*-]+\.(py|md|toml)", path) is not None
        if not (of_ours or file) or (folder and path.rstrip("/") in TOP):
            continue
        pattern = re.compile("(.*/)?" + re.escape(path).replace(r"\*", "[^/]*") + "/?")
        if not any(pattern.fullmatch(known) for known in files()):
            missing.append(word)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_and_folders_exist(page: Path) -> None:
    assert not missing_paths(words(page))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://", "/")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_modules_exist(page: Path) -> None:
    """`python -m paxos.synod`, and dotted names in the text: a module, or what a module holds."""
    text = page.read_text()
    named = set(re.findall(r"python -m ([\w.]+)", text)) | {
        word for word in inline(page) if re.fullmatch(rf"({'|'.join(TOP)})(\.\w+)+", word)
    }
    for dotted in named:
        assert resolve(dotted) is not None, dotted


def resolve(dotted: str) -> Any:
    """What `dotted` names, or None."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        with contextlib.suppress(ModuleNotFoundError):
            found: Any = importlib.import_module(".".join(parts[:length]))
            for attribute in parts[length:]:
                found = getattr(found, attribute, None)
            return found
    return None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_imports_of_examples_work(page: Path) -> None:
    for text in blocks(page, "python"):
        source = (
            text if "await" not in text else "async def _():\n" + re.sub("^", " ", text, flags=re.M)
        )
        for node in ast.walk(ast.parse(source)):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module
                and node.module.split(".")[0] in TOP
            ):
                for alias in node.names:
                    assert resolve(f"{node.module}.{alias.name}") is not None, alias.name


# -- commands ------------------------------------------------------------------------------------


@cache
def help_of(*command: str) -> str:
    """What `kvstore COMMAND --help` prints, or "" if there is no such command."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        try:
            main([*command, "--help"])
        except SystemExit as end:
            return out.getvalue() if end.code in (0, None) else ""
    return out.getvalue()


@cache
def flags_of(*command: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z0-9-]*", help_of(*command)))


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words of each `kvstore ...`, without those of the command that `lock` runs."""
    for text in (*blocks(page), *inline(page)):
        for line in COMMAND.findall(text):
            if line.startswith(("=", "is ", "…", "...")):
                continue
            try:
                found = shlex.split(re.split(r"\s#|\)\s*$", line)[0])
            except ValueError:
                found = line.split()
            found = found[: found.index("--")] if "--" in found else found
            if found and re.fullmatch(r"[a-z]+", found[0]):
                yield found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_their_flags_exist(page: Path) -> None:
    for line in command_lines(page):
        assert help_of(line[0]), f"no command: kvstore {' '.join(line)}"
        known = flags_of(line[0])
        if line[0] in WITH_ACTIONS and len(line) > 1:
            assert help_of(*line[:2]), f"no command: kvstore {' '.join(line)}"
            known = flags_of(*line[:2])
        for word in line[1:]:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"{word} in kvstore {' '.join(line)}"


@cache
def standing_alone() -> set[str]:
    """Flags of all commands, of our scripts, and two that are no flag of ours."""
    found = {"--name", "--ignore"}.union(*(flags_of(command) for command in commands()))
    found |= flags_of("incident", "show")
    for top in ("benchmarks", "proof", "tests"):
        for file in (ROOT / top).rglob("*.py"):
            found.update(re.findall(r'"(--[a-z][a-z0-9-]*)"', file.read_text()))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_flags_that_stand_alone_exist(page: Path) -> None:
    """In a sentence or a table: a flag of some command, of a script of ours, or of `--config`."""
    known = standing_alone()
    for text in inline(page):
        for flag in re.findall(r"^--[a-z][a-z0-9-]*", text):
            assert flag in known, flag


@cache
def commands() -> list[str]:
    """Every command of `kvstore`."""
    found = re.findall(r"^ {4}([a-z]+) ", help_of(), re.M)
    assert len(found) > 12 and "serve" in found
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_make_targets_and_variables_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    variables = set(re.findall(r"^([A-Z_]+) \??:?=", makefile, re.M))
    assert {"test", "proof", "demo"} <= targets
    for text in (*blocks(page), *inline(page)):
        for line in re.findall(r"^make ([^#\n]+)", text, re.M):
            for word in line.split():
                variable, assigned, _ = word.partition("=")
                assert variable in (variables if assigned else targets), f"make {line}"


# -- settings ------------------------------------------------------------------------------------


@cache
def settings() -> set[str]:
    return {flag.removeprefix("--") for flag in flags_of("serve")}


@cache
def vocabulary() -> set[str]:
    """Every other hyphenated name: faults, lessons, slugs, packages, names in our sources."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        for line in ("simulate --faults list", "torture --faults list", "simulate --lesson list"):
            with contextlib.suppress(SystemExit):
                main(line.split())
    sources = (f.read_text() for top in TOP[:6] for f in (ROOT / top).rglob("*.py"))
    strings = re.findall(r'["/]([a-z0-9]+(?:-[a-z0-9]+)+)(?=["/])', "".join(sources))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(package for extra in extras for package in extra)]
    packages = {re.split(r"[=<>]", package)[0] for package in wanted}
    return set(re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)+", out.getvalue())) | set(strings) | packages


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_settings_and_other_names_with_hyphens_exist(page: Path) -> None:
    for word in inline(page):
        if re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)+", word):
            assert word in settings() or word in vocabulary(), word


@pytest.mark.parametrize("page", ["docs/operations.md", "docs/architecture.md"])
def test_tables_of_settings_name_settings(page: str) -> None:
    """The first column of the table `setting`, and every name in the table `bound`."""
    column = {"| setting |": 1, "| what | bound |": 2}
    text, found = (ROOT / page).read_text(), set[str]()
    for head, number in column.items():
        for row in text.partition(head)[2].partition("\n\n")[0].splitlines()[2:]:
            cell = row.split("|")[number]
            found |= {w for w in INLINE.findall(cell) if re.fullmatch(r"[a-z0-9-]+", w)}
    assert len(found) > 8
    assert found <= settings()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_variables_exist(page: Path) -> None:
    known = {"KVSTORE_" + s.upper().replace("-", "_") for s in settings()} | {"KVSTORE_NAME"}
    known |= set(re.findall(r"KVSTORE_[A-Z_]+", "".join(map(help_of, commands()))))
    assert set(re.findall(r"KVSTORE_[A-Z_]+", page.read_text())) <= known


# -- metrics -------------------------------------------------------------------------------------


@pytest.mark.integration
def test_metrics_exist(cluster: Any) -> None:
    """Against a node that runs; its first answer is counted in the second."""
    wanted = {
        metric
        for page in PAGES
        for metric in re.findall(r"`(kvstore_[a-z_]+)`", page.read_text())
        if metric != "kvstore_cli"
    }
    assert len(wanted) > 5
    url = f"http://127.0.0.1:{cluster.nodes[1].client_port}/metrics"
    for _ in range(2):
        with urllib.request.urlopen(url) as answer:
            text = answer.read().decode()
    # Some have a value on the leader only; their types are there on every node.
    assert wanted <= set(re.findall(r"^(?:# TYPE )?(kvstore_[a-z_]+)", text, re.M))


# -- where is it ---------------------------------------------------------------------------------


def test_each_question_leads_to_a_file() -> None:
    """Twelve rows, a file in each, and the page is one step from the README."""
    text = (ROOT / "docs" / "where-is-it.md").read_text()
    rows = [row.split("|")[1:3] for row in text.splitlines() if row.startswith("|")][2:]
    assert len(rows) == 12 and all(question.strip().endswith("?") for question, _ in rows)
    for question, answer in rows:
        assert re.search(r"`[\w/]+\.py`", answer), question
    assert "(docs/where-is-it.md)" in (ROOT / "README.md").read_text()


# -- the test itself -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    ["reference.py", "paxos/no.py", "kvstore/none/", "tests/etcd/nothing_*.py", "docs/no.md"],
)
def test_a_path_that_is_not_there_is_seen(word: str) -> None:
    assert missing_paths(iter([word])) == [word]


@pytest.mark.parametrize("word", ["node.py", "paxos/node.py", "tests/etcd/cases_*.py", "users/"])
def test_a_path_that_is_there_is_not(word: str) -> None:
    assert missing_paths(iter([word])) == []
