"""A continuous backup: a base, and from there on every change, as the cluster tells of it.

What is kept is told by the target alone, by the names of its files: after a restart, of this
process or of the cluster, it goes on after the last revision that is there. Revisions follow each
other without a gap, so a change that is missing is noticed by its number. Where the cluster has
compacted what would come next, that is said, and a new base begins after the hole.
"""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from kvstore.backup.catalogue import Base, Catalogue
from kvstore.backup.downloads import download
from kvstore.backup.log_writing import ChangeLogWriter
from kvstore.backup.marking import BackupMarker, Naming, Progress
from kvstore.backup.policies import KeepPolicy
from kvstore.backup.targets import BackupTarget
from kvstore.client import Change, Client, Watch
from kvstore.client.credentials import Login
from kvstore.errors import BackupError, KvError, OutcomeUnknown, RevisionCompacted, Unavailable

MARK = "continuous.json"
"""Says of which cluster the backup is."""
RETRY_S = 1.0
RETRY_S_MAX = 30.0
LOOK_S = 1.0
"""How often it is looked whether a base is due."""

Tell = Callable[..., None]
"""Hears of what happens: a phrase, and facts."""


@dataclass(frozen=True, kw_only=True)
class FollowPlan:
    """How a continuous backup is kept. `flush_s`: a change is durable in the target at most so long
    after it was heard of; `base_every_s`: how often there is a new base, if anything changed;
    `login`: who follows, and which nodes are trusted; `naming`: how it is known to its store, None
    if it is not to be."""

    endpoints: str
    policy: KeepPolicy
    flush_s: float
    base_every_s: float
    rate_mib_s: int | None = None
    login: Login = field(default_factory=Login)
    naming: Naming | None = None


class Follower:
    """Keeps a continuous backup in `target`."""

    def __init__(self, plan: FollowPlan, target: BackupTarget, tell: Tell) -> None:
        self._plan = plan
        self._target = target
        self._tell = tell
        self._cluster_id = ""
        self._base: Base | None = None
        self._making: asyncio.Task[None] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then what was heard of is durable.

        Raises BackupError if the target is of another cluster, or cannot be written or read.
        """
        async with Client(self._plan.endpoints, timeout_s=10.0, **self._plan.login) as client:
            writer = await self._begin(client, stop)
            if writer is None:
                return
            pause_s = RETRY_S
            marking = self._start_marking(client, writer)
            try:
                while not stop.is_set():
                    try:
                        await self._watch(client, writer, stop)
                        pause_s = RETRY_S
                    except RevisionCompacted as error:
                        await self._new_base_after_hole(writer, error, stop)
                    except (Unavailable, OutcomeUnknown) as error:
                        self._tell("cluster not reached", reason=error, again_in_s=pause_s)
                        await _wait(stop, pause_s)
                        pause_s = min(2 * pause_s, RETRY_S_MAX)
            finally:
                marking.cancel()
                await asyncio.gather(marking, return_exceptions=True)
                await self._end(writer)

    def _start_marking(self, client: Client, writer: ChangeLogWriter) -> asyncio.Task[None]:
        """Tell the store how far this is, for as long as this runs."""
        naming = self._plan.naming

        def progress() -> Progress:
            assert self._base is not None
            return Progress(writer.kept, self._base, self._plan.base_every_s)

        async def mark() -> None:
            if naming is not None:
                await BackupMarker(client, naming, self._tell).follow(progress, self._target)

        return asyncio.create_task(mark())

    async def _end(self, writer: ChangeLogWriter) -> None:
        if self._making is not None:
            self._making.cancel()
            await asyncio.gather(self._making, return_exceptions=True)
        await asyncio.to_thread(writer.write)
        self._tell("stopped", kept_through=writer.kept)

    # -- beginning --------------------------------------------------------------------------

    async def _begin(self, client: Client, stop: asyncio.Event) -> ChangeLogWriter | None:
        """Find out what is there, and where to go on; None if it was stopped before."""
        self._cluster_id = await self._known_cluster(client, stop)
        if not self._cluster_id:
            return None
        await asyncio.to_thread(self._check_mark)
        catalogue = Catalogue(await asyncio.to_thread(self._target.names))
        while not catalogue.bases:
            if stop.is_set():
                return None
            await self._try_base(stop)
            catalogue = Catalogue(await asyncio.to_thread(self._target.names))
        self._base = base = catalogue.newest
        last = _end_of_log(catalogue)
        self._tell("following", base=base.revision, after=last)
        return ChangeLogWriter(self._target, self._cluster_id, last)

    async def _known_cluster(self, client: Client, stop: asyncio.Event) -> str:
        told = False
        while not stop.is_set():
            try:
                if cluster_id := (await client.status()).cluster_id:
                    return cluster_id
                reason: object = "the cluster has not formed yet"
            except (Unavailable, OutcomeUnknown) as error:
                reason = error
            if not told:
                self._tell("cluster not reached", reason=reason, again_in_s=RETRY_S)
            told = True
            await _wait(stop, RETRY_S)
        return ""

    def _check_mark(self) -> None:
        """Whose backup it is. Raises BackupError."""
        if MARK not in self._target.names():
            self._target.write(MARK, json.dumps({"cluster_id": self._cluster_id}).encode())
            return
        try:
            held = json.loads(self._target.read(MARK))["cluster_id"]
        except (ValueError, KeyError, TypeError) as error:
            raise BackupError(f"{MARK} of the backup cannot be read: {error!r}") from None
        if held != self._cluster_id:
            raise BackupError(
                f"this is the backup of cluster {held}, and the endpoints are of cluster "
                f"{self._cluster_id}: give each cluster a place of its own"
            )

    # -- following --------------------------------------------------------------------------

    async def _watch(self, client: Client, writer: ChangeLogWriter, stop: asyncio.Event) -> None:
        """Take changes until `stop`. Raises RevisionCompacted, Unavailable, BackupError."""
        writer_due_s = 0.0
        loop = asyncio.get_running_loop()
        watch = client.watch(prefix=b"", from_revision=writer.heard + 1)
        stopping = loop.create_task(stop.wait())
        coming = loop.create_task(_next(watch))
        try:
            while not stop.is_set():
                self._base_if_due(writer)
                wait_s = LOOK_S if not writer.waiting else max(0.0, writer_due_s - loop.time())
                await asyncio.wait(
                    (coming, stopping), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
                )
                if coming.done():
                    change = coming.result()
                    coming = loop.create_task(_next(watch))
                    if not writer.waiting:
                        writer_due_s = loop.time() + self._plan.flush_s
                    writer.add(change)
                if writer.waiting and (writer.full or loop.time() >= writer_due_s):
                    await self._write(writer, stop)
        finally:
            stopping.cancel()
            coming.cancel()
            await asyncio.gather(coming, stopping, return_exceptions=True)
            await watch.aclose()

    async def _write(self, writer: ChangeLogWriter, stop: asyncio.Event) -> None:
        """Try it until it works, or until `stop`: what is not durable is not forgotten. Nothing
        else is read from the cluster meanwhile."""
        pause_s, failed = RETRY_S, False
        while True:
            try:
                await asyncio.to_thread(writer.write)
            except (OSError, BackupError) as error:
                self._tell("not written", reason=error, again_in_s=pause_s)
                failed = True
                await _wait(stop, pause_s)
                if stop.is_set():
                    return  # the end tries once more, and says why it fails
                pause_s = min(2 * pause_s, RETRY_S_MAX)
            else:
                if failed:
                    self._tell("written again", kept_through=writer.kept)
                return

    # -- bases ------------------------------------------------------------------------------

    def _base_if_due(self, writer: ChangeLogWriter) -> None:
        making = self._making
        if making is not None:
            if not making.done():
                return
            self._making = None
            making.result()
        base = self._base
        if base is None or writer.heard <= base.revision:
            return
        if time.time() * 1000 - base.created_ms >= self._plan.base_every_s * 1000:
            self._making = asyncio.get_running_loop().create_task(self._next_base())

    async def _next_base(self) -> None:
        try:
            await self._make_base()
        except (KvError, OSError, BackupError) as error:
            self._tell("no new base", reason=error, again_in_s=RETRY_S_MAX)
            await asyncio.sleep(RETRY_S_MAX)

    async def _try_base(self, stop: asyncio.Event) -> None:
        try:
            await self._make_base()
        except (Unavailable, OutcomeUnknown) as error:
            self._tell("no base", reason=error, again_in_s=RETRY_S)
            await _wait(stop, RETRY_S)

    async def _new_base_after_hole(
        self, writer: ChangeLogWriter, error: RevisionCompacted, stop: asyncio.Event
    ) -> None:
        await asyncio.to_thread(writer.write)
        self._tell(
            "hole: the cluster has compacted what comes next; a new base begins after it",
            kept_through=writer.kept,
            compacted_before=error.compacted_revision,
        )
        if self._base is None or self._base.revision <= writer.heard:
            await self._try_base(stop)
        if self._base is not None and self._base.revision > writer.heard:
            writer.skip_to(self._base.revision)

    async def _make_base(self) -> None:
        """A new base in the target, and no more of the old ones than the policy keeps."""
        with TemporaryDirectory(prefix="kvstore-base-") as work:
            file = Path(work) / "base.kvb"
            plan = self._plan
            header = await download(
                plan.endpoints, file, rate_mib_s=plan.rate_mib_s, login=plan.login
            )
            if header.cluster_id != self._cluster_id:
                raise BackupError(f"a backup of cluster {header.cluster_id} came")
            base = Base(header.revision, header.created_ms)
            await asyncio.to_thread(self._target.store, base.name, file)
        self._base = base
        self._tell("base", revision=base.revision, keys=header.records["keys"])
        await asyncio.to_thread(self._thin)

    def _thin(self) -> None:
        catalogue = Catalogue(self._target.names())
        kept = self._plan.policy.kept(catalogue.bases, int(time.time() * 1000))
        for base in set(catalogue.bases) - kept:
            self._target.remove(base.name)
        oldest = min(kept).revision
        for piece in catalogue.pieces:
            if piece.last <= oldest:
                self._target.remove(piece.name)


def _end_of_log(catalogue: Catalogue) -> int:
    """After which revision to go on: where the log ends, also if the newest base is further."""
    *older, newest = catalogue.bases
    reached = catalogue.reaches(newest)
    if reached > newest.revision or not older:
        return reached
    return max(map(catalogue.reaches, older))


async def _next(watch: Watch) -> Change:
    """The next change of a watch that nobody closes meanwhile."""
    change = await watch.next_change()
    if change is None:
        raise Unavailable("the watch was closed")
    return change


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
