"""How far a joining member is: a bar on a terminal, else a line whenever something has changed."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

from kvstore.client import ClusterStatus, Member
from kvstore.errors import KvError, Unavailable
from kvstore_cli.output import OK

WAIT_S = 600.0
LOOK_S = 0.5
CALLS_S = 30.0
"""For so long in a row nobody need answer."""
NOT_IN_TIME = 4

View = Callable[[], Awaitable[ClusterStatus]]
_ORDER = ("expected", "learner", "voter")


class Shown(Protocol):
    """Where the progress is shown."""

    def tell(self, text: str, done: int, total: int) -> None:
        """`done` of `total` slots are there; 0 of 0 if nobody knows."""

    def end(self) -> None:
        """No more comes."""


class _ProgressLines:
    """One line for each new state, and for lags that have halved."""

    def __init__(self) -> None:
        self._told = ("", 0)

    def tell(self, text: str, done: int, total: int) -> None:
        before, lag = self._told
        left = total - done
        if text.partition(":")[0] != before or 2 * left <= lag:
            self._told = text.partition(":")[0], left
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Nothing is left open."""


class _ProgressBar:
    def __init__(self) -> None:
        # Imported here: it is large, and only for people who look on.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task("", total=None)
        self._progress.start()

    def tell(self, text: str, done: int, total: int) -> None:
        self._progress.update(self._task, description=text, completed=done, total=total or None)

    def end(self) -> None:
        self._progress.stop()


async def wait_until(view: View, member: int, wanted: str, limit_s: float) -> int:
    """Until `member` is of the kind `wanted`, or even a voter; the exit code. A learner is there
    once it is close behind. Raises Unavailable if nobody answers for long."""
    shown: Shown = _ProgressBar() if sys.stderr.isatty() else _ProgressLines()
    try:
        async with asyncio.timeout(limit_s):
            return await _follow(view, member, wanted, shown)
    except TimeoutError:
        text = f"kvstore: member {member} is not there after {limit_s:g} s; it goes on without this"
        print(text, file=sys.stderr)
        return NOT_IN_TIME
    finally:
        shown.end()


async def _follow(view: View, member: int, wanted: str, shown: Shown) -> int:
    loop = asyncio.get_running_loop()
    answered_s = loop.time()
    while True:
        try:
            status = await view()
        except Unavailable:
            if loop.time() - answered_s > CALLS_S:
                raise
        else:
            answered_s = loop.time()
            found = next((one for one in status.members if one.id == member), None)
            if found is None:
                raise KvError(f"member {member} was removed meanwhile")
            done = found.chosen_through or 0
            shown.tell(told(found), done, status.chosen_through if done else 0)
            if is_there(found, wanted):
                return OK
        await asyncio.sleep(LOOK_S)


def is_there(member: Member, wanted: str) -> bool:
    """Whether a member has become what is waited for."""
    if member.kind == "learner" == wanted:
        return member.lag is not None and member.lag <= 64
    return _ORDER.index(member.kind) >= _ORDER.index(wanted) and member.kind == "voter"


def told(member: Member) -> str:
    """How far it is, in a few words."""
    name = f"member {member.id} ({member.name})"
    if member.kind == "expected":
        return f"{name} has not come yet"
    if member.kind == "voter":
        return f"{name} votes"
    lag = "" if member.lag is None else f": {member.lag} slots behind"
    return f"{name} is catching up{lag}"
