"""Leaves marks of a backup in the store it is of: while one follows, and after a single file.

A backup never fails because of its mark. That one cannot be left is said once, and once more when
it works again.
"""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from kvstore.backup.catalogue import Base
from kvstore.backup.marks import PLACE_LENGTH_MAX, SAID_LENGTH_MAX, BackupMark, DrillMark
from kvstore.backup.targets import BackupTarget
from kvstore.client import Client
from kvstore.errors import BackupError, KvError

DRILL_MARK = "drill.json"
"""How the last drill went, in the place of the backup."""
MARK_EVERY_S = 60.0
"""A mark is a write: of a store in which nothing else happens, the only one."""
LOOK_S = 0.5
FRESH_S = 900.0
"""A continuous backup whose mark is older is in trouble."""

Tell = Callable[..., None]


class Naming(NamedTuple):
    """Under which name a backup is known to its store, where it is kept, and how often there is a
    drill (None: never)."""

    name: str
    place: str
    drill_every_s: float | None = None


class Progress(NamedTuple):
    """How far a continuous backup is."""

    kept: int
    base: Base
    base_every_s: float


class BackupMarker:
    """Leaves marks under one name."""

    def __init__(self, client: Client, naming: Naming, tell: Tell) -> None:
        self._client = client
        self._naming = naming
        self._tell = tell
        self._failed = False

    async def leave(self, mark: BackupMark) -> bool:
        """Whether it could be left."""
        try:
            await self._client.report_backup(self._naming.name, msgspec.to_builtins(mark))
        except KvError as error:
            if not self._failed:
                self._tell("no mark in the store", reason=error)
            self._failed = True
            return False
        if self._failed:
            self._tell("marked again", name=self._naming.name)
        self._failed = False
        return True

    async def follow(self, progress: Callable[[], Progress], target: BackupTarget) -> None:
        """Until it is cancelled. What a node has now is kept a moment later: then a mark says so,
        as of now. Where nothing is kept the mark grows old."""
        while True:
            asked_s = time.time()
            try:
                wanted = (await self._client.status()).revision
            except KvError:
                wanted = None
            while wanted is not None and progress().kept < wanted:
                await asyncio.sleep(LOOK_S)
            if wanted is not None:
                drill = await asyncio.to_thread(_last_drill, target, self._naming.drill_every_s)
                await self.leave(self._mark(progress(), asked_s, drill))
            await asyncio.sleep(MARK_EVERY_S)

    def _mark(self, now: Progress, asked_s: float, drill: DrillMark | None) -> BackupMark:
        return BackupMark(
            place=self._naming.place[:PLACE_LENGTH_MAX],
            continuous=True,
            revision=now.kept,
            time_ms=int(asked_s * 1000),
            fresh_s=FRESH_S,
            base_revision=now.base.revision,
            base_ms=now.base.created_ms,
            next_ms=now.base.created_ms + int(now.base_every_s * 1000),
            drill=drill,
        )


def _last_drill(target: BackupTarget, every_s: float | None) -> DrillMark | None:
    """As the place of the backup tells of it."""
    try:
        found: Any = json.loads(target.read(DRILL_MARK))
        time_ms, ok, said = int(found["time_ms"]), bool(found["ok"]), str(found["said"])
    except (OSError, BackupError, ValueError, KeyError, TypeError):
        return None
    next_ms = None if every_s is None else time_ms + int(every_s * 1000)
    last_line = said.strip().rpartition("\n")[2][:SAID_LENGTH_MAX]
    return DrillMark(time_ms=time_ms, ok=ok, said=last_line, next_ms=next_ms)
