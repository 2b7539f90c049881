"""The floor plan as tests: which room may import which, what must stay pure, what a name means.

`docs/decisions/0014-rooms.md` gives the reasons.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PRODUCT = ("paxos", "kvstore", "http_api", "kvstore_cli")
PACKAGES = (*PRODUCT, "proof", "benchmarks")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
FOLDERS = {
    folder: [file for file in FILES if file.parent == folder]
    for folder in sorted({f.parent for f in FILES})
}
"""A test for each folder, not for each file: pytest takes longer for a test than that takes."""

MAY_IMPORT: dict[str, set[str]] = {
    "paxos": set(),
    "kvstore": {"paxos"},
    "http_api": {"kvstore", "paxos"},
    "kvstore_cli": {"http_api", "kvstore", "paxos"},
    "proof": {"kvstore_cli", "http_api", "kvstore", "paxos"},
    "benchmarks": {"proof", "kvstore_cli", "http_api", "kvstore", "paxos"},
}
"""Top-level packages, and those that each may import besides itself."""

KVSTORE: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "event_log": set(),
    "audit_log": set(),
    "certificates": {"errors"},
    "commands": {"errors"},
    "state": {"commands", "errors"},
    "storage": {"commands", "errors"},
    "peers": {"certificates", "commands", "config", "errors", "event_log"},
    "replica": {
        "peers",
        "storage",
        "state",
        "commands",
        "certificates",
        "config",
        "errors",
        "event_log",
    },
    "client": {"errors"},
    "backup": {"client", "replica", "peers", "storage", "state", "commands", "config", "errors"},
}
"""Rooms of `kvstore/`, and those that each may import besides itself and `paxos`."""

HTTP_API: dict[str, set[str]] = {
    "limits": set(),
    "incidents": set(),
    "core": {"incidents", "limits"},
    "callers": {"core", "limits"},
    "fast_lane": {"core", "limits"},
    "v1": {"callers", "core", "incidents"},
    "etcd": {"callers", "core", "limits"},
    "server": {"callers", "core", "incidents", "limits", "fast_lane", "v1", "etcd"},
}
"""Rooms of `http_api/`: the two APIs know nothing of each other."""

FRAME = {"command", "client_command", "credentials", "output", "progress", "process", "descriptors"}
"""What the commands share stands at the top of `kvstore_cli/`."""
KVSTORE_CLI: dict[str, set[str]] = {
    "command": set(),
    "credentials": set(),
    "output": set(),
    "progress": set(),
    "process": set(),
    "descriptors": set(),
    "parsing": {"command"},
    "client_command": {"command", "credentials"},
    "launcher": {"process"},
    "keys": FRAME,
    "cluster": FRAME,
    "access": FRAME,
    "node": FRAME,
    "backups": FRAME | {"launcher"},
    "demo": FRAME | {"launcher"},
    "help": FRAME,
    "learn": FRAME,
    "nodes": FRAME | {"demo", "node"},
    "main": FRAME
    | {"parsing", "help", "learn", "nodes", "access", "backups", "cluster", "keys", "node"},
}
"""Rooms of `kvstore_cli/`: those of commands know nothing of each other."""

PROOF: dict[str, set[str]] = {
    "histories": set(),
    "processes": set(),
    "simulation": {"histories"},
    "torture": {"histories", "processes"},
    "incidents": {"simulation"},
    "museum": {"simulation"},
}
MEASUREMENTS = {file.stem for file in (ROOT / "benchmarks").glob("*.py")} | {"parts"}
"""They may use one another; circles are found by a test of their own."""
BENCHMARKS: dict[str, set[str]] = {
    "shared": set(),
    "clients": {"shared"},
    "systems": {"clients", "shared"},
    **{each: MEASUREMENTS | {"clients", "shared", "systems"} for each in MEASUREMENTS},
}
ROOMS = {
    "kvstore": KVSTORE,
    "http_api": HTTP_API,
    "kvstore_cli": KVSTORE_CLI,
    "proof": PROOF,
    "benchmarks": BENCHMARKS,
}

PURE = {
    "collections", "collections.abc", "dataclasses", "enum", "itertools", "math", "msgspec",
    "typing",
}  # fmt: skip
PURE_STATE = PURE | {"bisect", "functools", "hashlib", "heapq", "itertools", "operator", "struct"}
"""No clock, randomness, I/O, threads or logging: what these rooms compute depends on input only."""

ROLES = {"acceptor", "proposer", "learner", "election", "reads"}
LINES_MAX, FUNCTION_LINES_MAX = 500, 60


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


@cache
def imports(file: Path) -> frozenset[str]:
    """Every module named in an import statement, also those inside functions and conditions."""
    return frozenset(imported(file))


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""
            # `from package import module` names a module too.
            for alias in node.names:
                module = ROOT / (node.module or "").replace(".", "/") / alias.name
                if module.is_dir() or module.with_suffix(".py").exists():
                    yield f"{node.module}.{alias.name}"


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def room(parts: tuple[str, ...]) -> str:
    """The room of a file or module inside its package; "" for the package itself."""
    return parts[1].removesuffix(".py") if len(parts) > 1 and parts[1] != "__init__.py" else ""


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_imports_go_one_way_between_packages(folder: Path) -> None:
    package = folder.relative_to(ROOT).parts[0]
    for file in FOLDERS[folder]:
        used = {module.split(".")[0] for module in imports(file)} & set(PACKAGES)
        assert used <= MAY_IMPORT[package] | {package}, file


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_imports_go_one_way_between_rooms(folder: Path) -> None:
    for file in FOLDERS[folder]:
        check_rooms(file)


def check_rooms(file: Path) -> None:
    parts = file.relative_to(ROOT).parts
    rooms = ROOMS.get(parts[0])
    own = room(parts)
    if rooms is None or own not in rooms:
        assert rooms is None or own == "", f"{own} is no room of {parts[0]}: name it in this test"
        return
    used = {room(tuple(module.split("."))) for module in imports(file) if
            module.split(".")[0] == parts[0]}  # fmt: skip
    assert used - {""} <= rooms[own] | {own}, file


def test_no_circles_between_files() -> None:
    """Not even under TYPE_CHECKING: two files that need each other are one subject, or want a
    port between them."""
    modules = {name(file)[: -len(".py")].replace("/", "."): file for file in FILES}
    graph = {
        module: {used for used in imports(file) if used in modules and used != module}
        for module, file in modules.items()
    }
    assert circles(graph) == []


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The circles that a depth-first walk meets, each as the modules on it."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            found.append(path[path.index(module) :])
        elif module not in done:
            for used in sorted(graph[module]):
                walk(used, [*path, module])
            done.add(module)

    for module in sorted(graph):
        walk(module, [])
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def foreign(file: Path, allowed: set[str], rooms: Iterable[str]) -> set[str]:
    return {
        module
        for module in imports(file)
        if module not in allowed and not module.startswith(tuple(rooms))
    }


@pytest.mark.parametrize("file", sorted((ROOT / "paxos").glob("*.py")), ids=name)
def test_the_core_is_pure(file: Path) -> None:
    assert foreign(file, PURE, ("paxos",)) == set()


@pytest.mark.parametrize("file", sorted((ROOT / "kvstore/state").glob("*.py")), ids=name)
def test_the_state_is_pure(file: Path) -> None:
    rooms = ("paxos", "kvstore.state", "kvstore.commands", "kvstore.errors")
    assert foreign(file, PURE_STATE, rooms) == set()


@pytest.mark.parametrize("file", sorted((ROOT / "kvstore/commands").glob("*.py")), ids=name)
def test_the_commands_are_pure(file: Path) -> None:
    assert foreign(file, PURE_STATE, ("paxos", "kvstore.commands", "kvstore.errors")) == set()


@pytest.mark.parametrize("file", sorted((ROOT / "paxos").glob("*.py")), ids=name)
def test_only_the_node_composes_roles(file: Path) -> None:
    used = {m.removeprefix("paxos.") for m in imports(file)} & ROLES
    composes = {"node": ROLES, "node_roles": ROLES, "synod": {"acceptor", "proposer"}}
    allowed = composes.get(file.stem, set())
    assert used <= allowed


def test_a_class_name_has_one_meaning() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for file in FILES:
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name(file))
    assert len(places) > 300, "the walk found too little"
    assert {each: files for each, files in places.items() if len(files) > 1} == {}


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_files_and_functions_are_short(folder: Path) -> None:
    for file in FOLDERS[folder]:
        source = file.read_text()
        if source.startswith('"""Generated by '):
            continue
        assert len(source.splitlines()) <= LINES_MAX, file
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                assert lines <= FUNCTION_LINES_MAX, (file, node.name)


def narrows_a_type(test: ast.expr) -> bool:
    """`isinstance(...)`, `... is not None`, or several of these."""
    match test:
        case ast.BoolOp(ast.And(), values):
            return all(map(narrows_a_type, values))
        case ast.Call(ast.Name("isinstance")):
            return True
        case ast.Compare(_, [ast.IsNot()], [ast.Constant(None)]):
            return True
    return False


@pytest.mark.parametrize("package", PRODUCT)
def test_what_guards_safety_does_not_vanish_with_a_flag(package: str) -> None:
    """`python -O` removes assertions. So they tell the type checker what it cannot see, and
    nothing more; what must hold is checked, and raises an error of its own."""
    found = [
        f"{name(file)}:{node.lineno}"
        for file in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Assert) and (node.msg is not None or not narrows_a_type(node.test))
    ]
    assert found == []


def _narrows(test: ast.expr) -> bool:
    """Whether it only tells the type checker what is known: `x is not None`, `isinstance`."""
    match test:
        case ast.Compare(ops=[ast.IsNot()], comparators=[ast.Constant(value=None)]):
            return True
        case ast.Call(func=ast.Name(id="isinstance")):
            return True
        case ast.BoolOp(values=values):
            return all(map(_narrows, values))
    return False


@pytest.mark.parametrize("package", PRODUCT)
def test_no_assertion_guards_safety(package: str) -> None:
    """`python -O` drops assertions: what must not happen raises an error of its own."""
    found = [
        f"{name(file)}:{node.lineno}"
        for file in (ROOT / package).rglob("*.py")
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Assert) and not _narrows(node.test)
    ]
    assert not found
