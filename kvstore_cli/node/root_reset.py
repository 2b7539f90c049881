"""Root's password set anew by whoever owns a node's data directory.

Accounts are replicated, so no node may change its own copy of them. The offline command leaves a
record beside the data: the hash of the new password, and when it was asked for. The node's next
start makes of it one change of a password, which takes the way of all changes
(docs/decisions/0070-root-reset.md).
"""

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from http_api.callers.passwords import HASH_BYTES
from kvstore.audit_log import AuditLog
from kvstore.commands.accounts import ROOT, ChangePassword
from kvstore.commands.commands import Administer, AsUser
from kvstore.commands.results import Administered
from kvstore.errors import OutcomeUnknown, Stopping, StorageError, Unavailable
from kvstore.event_log import EventLog
from kvstore.replica.replica import Replica
from kvstore.state.rights import ITSELF
from kvstore.storage.data_dir import Identity, read_identity
from kvstore.storage.disk import SYSTEM_DISK

NAME = "reset-root.json"
GOOD_S = 3600.0
"""A record counts for so long after it was asked for: one that was forgotten changes nothing."""
AHEAD_S = 60.0
"""By so much a clock may have gone back meanwhile."""
AGAIN_S = 0.5
"""Between two attempts, while there is no quorum."""
ATTEMPT_S = 5.0
STOPPED = "this node stopped before it was known to be done: ask for it again"


class ResetRecord(NamedTuple):
    """What the offline command leaves."""

    password: bytes
    """Its hash."""
    asked_s: float
    """Seconds since 1970."""

    def refusal(self, now_s: float) -> str:
        """Why it does not count at `now_s`; "" if it does."""
        if now_s > self.asked_s + GOOD_S:
            return f"it was asked for more than {GOOD_S / 60:.0f} minutes ago"
        if now_s >= self.asked_s - AHEAD_S:  # never for what is no number
            return ""
        return "it was asked for in the future, by this machine's clock"


def leave_record(data_dir: Path, password: bytes, now_s: float) -> Identity:
    """For the next start of the node at `data_dir`, which must not run; whose directory it is.

    Raises StorageError, OSError.
    """
    if not (data_dir / "identity.json").exists():
        raise StorageError(f"{data_dir} is no data directory: there is no identity.json in it")
    try:
        unlock = SYSTEM_DISK.lock(data_dir / "lock")
    except BlockingIOError:
        raise StorageError(
            f"the data directory {data_dir} is in use by another process; stop it first"
        ) from None
    try:
        identity = read_identity(data_dir)
        if identity is None or not identity.formed:
            raise StorageError(f"{data_dir} belongs to no cluster yet: there is no root to reset")
        document = {"password": password.hex(), "asked_s": now_s}
        _write(data_dir, json.dumps(document).encode())
    finally:
        unlock()
    return identity


def _write(data_dir: Path, data: bytes) -> None:
    """Readable by the directory's owner alone, also where an administrator of the machine runs the
    command: the node refuses what belongs to somebody else."""
    owner = data_dir.stat()
    new = data_dir / f"{NAME}.new"
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if os.geteuid() != owner.st_uid:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    new.replace(data_dir / NAME)
    SYSTEM_DISK.sync_directory(data_dir)


def take_record(data_dir: Path) -> ResetRecord | None:
    """What was left, None if nothing was. Raises StorageError if it cannot be read."""
    path = data_dir / NAME
    try:
        document = json.loads(path.read_bytes())
        found = ResetRecord(bytes.fromhex(document["password"]), float(document["asked_s"]))
        if len(found.password) != HASH_BYTES:
            raise ValueError("there is no password hash in it")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StorageError(f"{path} cannot be read ({error}): remove it, and ask again") from None
    return found


def forget_record(data_dir: Path) -> None:
    """It counts no more, whatever happens. Raises OSError."""
    SYSTEM_DISK.remove(data_dir / NAME)
    SYSTEM_DISK.sync_directory(data_dir)


class RootReset:
    """One start's work on the record in `data_dir`; says in the log, and in the audit log, what
    came of it."""

    def __init__(
        self,
        replica: Replica,
        data_dir: Path,
        events: EventLog,
        audit: AuditLog | None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._replica = replica
        self._data_dir = data_dir
        self._events = events
        self._audit = audit
        self._now_s = now_s
        self._waiting = ""

    async def run(self) -> None:
        """Wait for a quorum while the record counts, then take the record away, and then change the
        password: a crash in between loses the change, and none is ever made twice."""
        try:
            record = await asyncio.to_thread(take_record, self._data_dir)
            if record is None:
                return
            refusal = await self._ready(record)
            await asyncio.to_thread(forget_record, self._data_dir)
            if not refusal:
                refusal = await self._change(record)
        except Stopping:
            return  # before the record was taken away: the next start goes on with it
        except (StorageError, OSError) as error:
            refusal = str(error)
        self._told(refusal)

    async def _ready(self, record: ResetRecord) -> str:
        """Wait until this node shows what the cluster has; why the record does not count, "" if it
        does. Raises Stopping."""
        while not (refusal := record.refusal(self._now_s())):
            try:
                await self._replica.read_barrier(ATTEMPT_S)
                return self._refusal()
            except Stopping:
                raise
            except Unavailable as error:
                await self._wait(str(error))
        return refusal

    def _refusal(self) -> str:
        user = self._replica.state.auth.users.get(ROOT)
        if user is None:
            return "there is no user root: authentication was never enabled"
        if user.password is None:
            return "root has no password: it shows a certificate (kvstore certs client root)"
        return ""

    async def _wait(self, reason: str) -> None:
        if reason != self._waiting:
            self._waiting = reason
            self._events.event("root waits to be reset", reason=reason)
        await asyncio.sleep(AGAIN_S)

    async def _change(self, record: ResetRecord) -> str:
        """Why it was not made, "" if it was. One whose outcome is not known is asked for again
        unless the state shows it: with the same hash it does nothing more."""
        command = AsUser(ITSELF, 0, Administer(ChangePassword(ROOT, record.password)))
        while not (refusal := record.refusal(self._now_s())):
            try:
                done = await self._replica.execute(command, ATTEMPT_S)
                return "" if isinstance(done, Administered) else f"it was refused: {done}"
            except Stopping:
                return STOPPED
            except asyncio.CancelledError:
                self._told(STOPPED)
                raise
            except (Unavailable, OutcomeUnknown) as error:
                await self._wait(str(error))
                if self._is_made(record):
                    return ""
        return refusal

    def _is_made(self, record: ResetRecord) -> bool:
        try:
            user = self._replica.state.auth.users.get(ROOT)
        except Stopping:
            return False
        return user is not None and user.password == record.password

    def _told(self, refusal: str) -> None:
        change = {"change": ChangePassword.__name__, "name": ROOT}
        told = {"event": "root reset", "by": NAME, "changes": [change]}
        if refusal:
            self._events.event("root not reset", reason=refusal)
            told["denied"] = refusal
        else:
            self._events.event("root was reset", by=NAME, next="its tokens have ended; log in")
        if self._audit is not None:
            self._audit.record(told)
