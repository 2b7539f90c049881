"""What `kvstore lock` does with the command that it runs."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvstore_cli.process import run_command
from tests.support.real_cluster import ROOT, eventually

_RUNNER = """
import asyncio, sys
from kvstore_cli.process import run_command
sys.exit(asyncio.run(run_command(sys.argv[1:], {"HELD": "yes"}, 1.0)))
"""


def runner(*words: str) -> subprocess.Popen[bytes]:
    """A process that runs the command."""
    return subprocess.Popen(
        [sys.executable, "-c", _RUNNER, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def running(pid: int) -> bool:
    """Whether the process is there, and not only its entry in the table."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_exit_code_and_the_environment_are_passed_on() -> None:
    process = runner("sh", "-c", 'test "$HELD" = yes && exit 7')
    assert process.wait(20) == 7
    assert runner("sh", "-c", "kill -9 $$").wait(20) == 128 + 9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_signals_go_to_the_command(number: signal.Signals) -> None:
    script = f"trap 'exit 40' {number.name[3:]}; echo on; while :; do sleep 0.02; done"
    process = runner("sh", "-c", script)
    assert process.stdout is not None and process.stdout.readline() == b"on\n"
    process.send_signal(number)
    assert process.wait(20) == 40


def test_the_command_does_not_outlive_the_one_who_watches_over_it() -> None:
    process = runner("sh", "-c", "echo $$; while :; do sleep 0.02; done")
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.wait(20)
    eventually(lambda: not running(pid), "the command is gone")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("trap 'echo stopping; exit' TERM; echo on; while :; do sleep 0.02; done", "stopping"),
        ("trap '' TERM; echo on; while :; do sleep 0.02; done", ""),
        # The command goes at once, and leaves somebody behind who does not.
        ("(trap '' TERM; sleep 0.1; echo on; while :; do sleep 0.02; done) & wait", ""),
    ],
)
def test_it_is_stopped_when_the_call_is_cancelled(script: str, says: str, tmp_path: Path) -> None:
    out = tmp_path / "out"

    async def main() -> None:
        words = ["sh", "-c", f"echo $$ > {out}.pid; ({script}) >> {out}"]
        task = asyncio.create_task(run_command(words, {}, 0.5))
        async with asyncio.timeout(20):
            while not (out.exists() and "on" in out.read_text()):
                await asyncio.sleep(0.02)
        task.cancel()
        async with asyncio.timeout(60):
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    group = int(Path(f"{out}.pid").read_text())
    assert says in out.read_text()
    eventually(lambda: not group_runs(group), "all of its group is gone")


def group_runs(group: int) -> bool:
    """Whether a process of the group is there."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[2]) == group:
            return True
    return False
