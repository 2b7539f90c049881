"""A command that runs while something is held: signals reach it, and it is stopped in time."""

import asyncio
import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress

CANNOT_RUN = 126
NOT_FOUND = 127
SIGNALLED = 128
"""The exit codes of shells: that of a command ended by a signal is 128 and its number."""

_FORWARDED = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
_LOOK_S = 0.02


def why_not(words: list[str]) -> tuple[int, str] | None:
    """What a shell would say if there is no such command: its exit code and a sentence."""
    if shutil.which(words[0]) is not None:
        return None
    if os.path.exists(words[0]):
        return CANNOT_RUN, f"cannot run {words[0]}: it is not executable"
    return NOT_FOUND, f"cannot run {words[0]}: there is no such command"


async def run_command(words: list[str], environment: Mapping[str, str], grace_s: float) -> int:
    """Run it to its end; its exit code, 128 + N if signal N ended it.

    Signals that come meanwhile go to it. If this call is cancelled, the command gets SIGTERM, and
    SIGKILL after `grace_s` seconds; only then does the cancellation go on. With its own process
    group, all of the group is signalled. In the foreground of a terminal it shares ours, so that
    job control works as always: then the terminal signals it, and only the command is stopped.
    """
    shares_group = _in_foreground()
    process: asyncio.subprocess.Process | None = None
    early: list[int] = []

    def send(number: int) -> None:
        with suppress(ProcessLookupError):
            if process is not None:
                (os.kill if shares_group else os.killpg)(process.pid, number)

    def forward(number: int) -> None:
        if shares_group and number in _FROM_TERMINAL:
            return
        if process is None:
            early.append(number)
        elif process.returncode is None:
            send(number)

    # They stay until the loop ends: what comes after the command is for nobody any more.
    for number in _FORWARDED:
        asyncio.get_running_loop().add_signal_handler(number, forward, number)
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            env={**os.environ, **environment},
            process_group=None if shares_group else 0,
            # Nobody else would stop the command in time if this process were killed.
            preexec_fn=end_with_parent(),
        )
    except OSError as error:
        print(f"kvstore: cannot run {words[0]}: {error.strerror}", file=sys.stderr)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN
    for received in early:
        forward(received)
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        send(signal.SIGTERM)
        # Not `asyncio.timeout`: before Python 3.11.3 it raises no TimeoutError in a cancelled task.
        end_s = asyncio.get_running_loop().time() + grace_s
        # The group may outlive the command that leads it.
        while process.returncode is None or (not shares_group and _is_there(process.pid)):
            if asyncio.get_running_loop().time() >= end_s:
                break
            await asyncio.sleep(_LOOK_S)
        if process.returncode is None or not shares_group:
            send(signal.SIGKILL)
        await process.wait()
        raise
    return code if code >= 0 else SIGNALLED - code


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def _in_foreground() -> bool:
    """Whether a terminal sends its signals to our process group."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False


def end_with_parent() -> Callable[[], None] | None:
    """What a child must do before it runs its program, so that the kernel kills it if we end.

    None where the kernel cannot (all but Linux). "We" is the thread that starts the child.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(SIGNALLED + signal.SIGKILL)

    return ask
