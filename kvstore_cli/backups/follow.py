"""`kvstore backup --follow`: runs a continuous backup until it is interrupted."""

import asyncio
import json
import signal
import time

from kvstore.backup.following import Follower, FollowPlan
from kvstore.backup.marking import DRILL_MARK
from kvstore.backup.targets import BackupTarget
from kvstore.errors import BackupError
from kvstore_cli.command import NOT_SOUND
from kvstore_cli.launcher.node_process import PROGRAM
from kvstore_cli.output import OK
from kvstore_cli.progress import tell

FIRST_DRILL_S = 5.0
DRILL_S_MAX = 6 * 3600.0


async def follow(
    plan: FollowPlan, target: BackupTarget, place: str, drill_every_s: float | None, nodes: int
) -> int:
    """Until SIGINT or SIGTERM; then what was heard of is durable. 7 if the last drill failed.

    Raises BackupError, KvError.
    """
    stop = asyncio.Event()
    drills = Drills(target, place, drill_every_s, nodes)
    drilling = asyncio.create_task(drills.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        await Follower(plan, target, tell).run(stop)
    finally:
        drilling.cancel()
        await asyncio.gather(drilling, return_exceptions=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return NOT_SOUND if drills.failed else OK


class Drills:
    """Restores the backup at `place` now and then, in a process of its own, and says how it went:
    in a line, and in DRILL_MARK. `every_s` None: never."""

    def __init__(self, target: BackupTarget, place: str, every_s: float | None, nodes: int) -> None:
        self._target = target
        self._command = [*PROGRAM, "backup", "drill", place, "--json", "--nodes", str(nodes)]
        self._every_s = every_s
        self.failed = False

    async def run(self) -> None:
        """Until it is cancelled."""
        if self._every_s is None:
            return
        while True:
            await asyncio.sleep(await asyncio.to_thread(self._due_in_s, self._every_s))
            try:
                await self._once()
            except (OSError, BackupError) as error:
                self._note(False, str(error))

    def _due_in_s(self, every_s: float) -> float:
        """Counted from the last drill, whoever made it; the first one a moment from now."""
        try:
            last_s = json.loads(self._target.read(DRILL_MARK))["time_ms"] / 1000
        except (OSError, BackupError, ValueError, KeyError, TypeError):
            return FIRST_DRILL_S
        return float(max(FIRST_DRILL_S, last_s + every_s - time.time()))

    async def _once(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(DRILL_S_MAX):
                out, err = await process.communicate()
        except TimeoutError:
            out, err = b"", b"it did not end in time"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        failed = process.returncode != OK
        text = (err if failed else out).decode(errors="replace").strip()
        note = {"time_ms": int(time.time() * 1000), "ok": not failed, "said": text[-4000:]}
        self._note(not failed, text)
        await asyncio.to_thread(self._target.write, DRILL_MARK, json.dumps(note).encode())

    def _note(self, ok: bool, text: str) -> None:
        self.failed = not ok
        last = text.splitlines()[-1] if text else ""
        tell(
            "drill went well" if ok else "DRILL FAILED: this backup may be worth nothing", said=last
        )
