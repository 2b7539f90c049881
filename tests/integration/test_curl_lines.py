"""Every curl line of the README and of docs/ runs as it stands, and answers what is shown.

Only host and port are replaced, by those of a fresh cluster of three for each page. Blocks marked
`sh` are run whole, of others the curl lines and assignments. Lines that begin with `#` right below
a command are its answer, in which `…` stands for anything. `curl -N` goes on behind the lines that
follow it, as in another terminal.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.real_cluster import DEADLINE_S, HOST, ROOT, Cluster, eventually

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("curl") is None, reason="no curl: install the package `curl`"),
]

PORTS = (2379, 2389, 2399)
"""Of `kvstore demo`, which the pages speak of."""
_REFUSED = 22
"""curl's exit status for an HTTP error with `fail-with-body`."""
_CURLRC = f"silent\nfail-with-body\nmax-time = {DEADLINE_S:g}\n"
_ASSIGNMENT = re.compile(r"[A-Z][A-Z0-9_]*=\S")


class Command(NamedTuple):
    """What a shell runs at once, and the answer shown; None if there is none."""

    line: int
    text: str
    shown: str | None

    @property
    def streams(self) -> bool:
        return self.text.startswith("curl -N")


def blocks(page: str) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """The language and the numbered lines of each fenced block."""
    block: list[tuple[int, str]] | None = None
    language = ""
    for number, line in enumerate(page.splitlines(), 1):
        if line.startswith("```"):
            if block is not None:
                yield language, block
            language, block = line[3:], ([] if block is None else None)
        elif block is not None:
            block.append((number, line))


def complete(text: str) -> bool:
    """Whether the shell would not wait for another line."""
    if text.endswith("\\"):
        return False
    return subprocess.run(["bash", "-n", "-c", text], capture_output=True).returncode == 0


def commands(language: str, block: list[tuple[int, str]]) -> list[Command]:
    if language not in ("", "sh") or not any("curl " in text for _, text in block):
        return []
    found: list[Command] = []
    lines = list(block)
    while lines:
        number, text = lines.pop(0)
        if not text or text.startswith("#"):
            continue
        if language != "sh" and not text.startswith("curl ") and not _ASSIGNMENT.match(text):
            continue
        while not complete(text):
            text += "\n" + lines.pop(0)[1]
        shown: list[str] = []
        while lines and re.match("# |#$", lines[0][1]):
            shown.append(lines.pop(0)[1][2:])
        found.append(Command(number, text, "\n".join(shown) if shown else None))
    return found


def matches(shown: str, answer: str) -> bool:
    pattern = re.escape(shown.strip()).replace("…", ".*?")
    return re.fullmatch(pattern, answer.strip(), re.DOTALL) is not None


class Shell:
    """One bash for a page: what a line defines, later lines know."""

    def __init__(self, cluster: Cluster, home: Path) -> None:
        nodes = cluster.nodes.values()
        self._ports = dict(zip(PORTS, (node.client_port for node in nodes), strict=True))
        self._home = home
        (home / ".curlrc").write_text(_CURLRC)
        self._bash = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            text=True,
            env={**os.environ, "CURL_HOME": str(home), "HOME": str(home)},
            cwd=home,
        )
        self._streams: list[int] = []

    def run(self, command: Command) -> tuple[int, str]:
        """Exit status and output."""
        output, status = self._home / f"{command.line}.out", self._home / f"{command.line}.status"
        self._tell(f"{{ {self._localized(command.text)}\n}} >{output} </dev/null")
        self._tell(f"echo $? >{status}")
        what = f"line {command.line} ends: {command.text}"
        code = eventually(lambda: status.exists() and status.read_text(), what, 2 * DEADLINE_S)
        return int(code), output.read_text()

    def start(self, command: Command) -> Path:
        """The file that the output of a stream goes to; it has said something."""
        output, pid = self._home / f"{command.line}.out", self._home / f"{command.line}.pid"
        self._tell(f"{self._localized(command.text)} >{output} </dev/null &")
        self._tell(f"echo $! >{pid}")
        number = eventually(lambda: pid.exists() and pid.read_text().strip(), "a stream starts")
        self._streams.append(int(number))
        eventually(lambda: output.exists() and output.read_text(), f"line {command.line} begins")
        return output

    def end_streams(self) -> None:
        while self._streams:
            os.kill(self._streams.pop(), signal.SIGTERM)  # bash has not waited for it: it is there
        if self._bash.poll() is None:
            self._tell("wait")

    def close(self) -> None:
        self.end_streams()
        self._bash.communicate(timeout=DEADLINE_S)

    def _tell(self, text: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(text + "\n")
        self._bash.stdin.flush()

    def _localized(self, text: str) -> str:
        for shown, port in self._ports.items():
            text = re.sub(rf"\b(127\.0\.0\.1|localhost):{shown}\b", f"{HOST}:{port}", text)
        return text


def run_block(shell: Shell, found: list[Command]) -> None:
    streams = []
    for command in found:
        if command.streams:
            output = shell.start(command)
            streams += [] if command.shown is None else [(command.shown, output)]
        else:
            run(shell, command)
    for shown, output in streams:
        try:
            eventually(lambda o=output, s=shown: matches(s, o.read_text()), "the stream says it")
        except AssertionError:
            pytest.fail(f"the stream said\n{output.read_text()}\ninstead of\n{shown}")
    shell.end_streams()


def run(shell: Shell, command: Command) -> None:
    code, answer = shell.run(command)
    told = f"line {command.line}: {command.text}\nended with {code} and answered\n{answer}"
    if command.shown is None:
        assert code == 0, told
        return
    assert matches(command.shown, answer), f"{told}\ninstead of\n{command.shown}"
    assert code == 0 or (code == _REFUSED and '"outcome":' in command.shown), told


PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if any(commands(*block) for block in blocks(page.read_text()))
]


def test_there_are_lines_to_run() -> None:
    assert {"README.md", "http.md"} <= {page.name for page in PAGES}


def pages() -> Iterator[Any]:
    """Each; a cluster is started for it."""
    for page in PAGES:
        marks = () if page.name in ("README.md", "http.md") else pytest.mark.proof
        yield pytest.param(page, id=page.name, marks=marks)


@pytest.mark.parametrize("page", list(pages()))
def test_curl_lines(page: Path, new_cluster, tmp_path: Path) -> None:
    shell = Shell(new_cluster(3), tmp_path)
    try:
        for block in blocks(page.read_text()):
            run_block(shell, commands(*block))
    finally:
        shell.close()


@pytest.mark.parametrize(
    ("shown", "answer", "same"),
    [
        ('{"a":1}', '{"a":1}\n', True),
        ('{"a":1}', '{"a":2}\n', False),
        ('{"a":…,"b":2}', '{"a":17,"b":2}', True),
        ('{"a":…,"b":2}', '{"a":17,"b":3}', False),
        ("a", "ab", False),
        ("[…\n…]", "[1,\n2]", True),
    ],
)
def test_shown_answers_are_compared(shown: str, answer: str, same: bool) -> None:
    assert matches(shown, answer) is same


def test_lines_are_found() -> None:
    page = "```{}\nN=1 M=2\ncurl a \\\n  b\ncurl '{{\n}}'\n# x\n#\n# y\nls\n# z\n```\ncurl no\n"
    (block,) = blocks(page.format(""))
    found = [
        Command(2, "N=1 M=2", None),
        Command(3, "curl a \\\n  b", None),
        Command(5, "curl '{\n}'", "x\n\ny"),
    ]
    assert commands(*block) == found
    (block,) = blocks(page.format("sh"))
    assert commands(*block) == [*found, Command(10, "ls", "z")]
    (block,) = blocks(page.format("python"))
    assert commands(*block) == []
