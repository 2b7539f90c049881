"""Puts keys of a backup back into a live cluster: what differs, and then a transaction at a time.

Each transaction holds only if its keys are still what the comparison saw, so a write that comes in
between is never undone unseen: it is compared anew.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from kvstore.backup.building import keys_of
from kvstore.backup.sources import RestorePoint, StartingPoint, choose
from kvstore.backup.state_files import opened
from kvstore.backup.unpacking import Advance, nobody_watches
from kvstore.client import Client, Entry, ModRevision, absent, delete, put
from kvstore.commands.operations import KeyValue, prefix_end
from kvstore.errors import BackupError
from kvstore.state.state_machine import StateMachine

KEYS_MAX = 60
BYTES_MAX = 512 << 10
"""Of one transaction."""
TRIES = 5


class Difference(NamedTuple):
    """One key that is not as it was. `live` None: it is not there; `wanted` None: it was not."""

    key: bytes
    wanted: KeyValue | None
    live: Entry | None

    @property
    def sign(self) -> str:
        """+ to be added, ~ to be changed, - there now and not then."""
        return "-" if self.wanted is None else "+" if self.live is None else "~"


class PutBack(NamedTuple):
    """How many keys were added, changed, deleted; are there only now and were left; and were on a
    lease then and were left out, although they differ."""

    added: int
    changed: int
    deleted: int
    left: int
    leased: int


def items_at(chosen: StartingPoint, state: StateMachine, prefix: bytes) -> Iterator[KeyValue]:
    """Keys that begin with `prefix` as of the chosen moment, in order. Raises BackupError."""
    changed: dict[bytes, KeyValue | None] = {}
    for change in chosen.changes():
        for each in change.key_changes():
            if each.key.startswith(prefix):
                changed[each.key] = each.item
    end = prefix_end(prefix)
    newer = iter(sorted(changed))
    key = next(newer, None)
    for item in keys_of(state, chosen.base_revision, prefix):
        if end is not None and item.key >= end:
            break
        while key is not None and key < item.key:
            if (found := changed[key]) is not None:
                yield found
            key = next(newer, None)
        if key == item.key:
            if (found := changed[key]) is not None:
                yield found
            key = next(newer, None)
        else:
            yield item
    while key is not None:
        if (found := changed[key]) is not None:
            yield found
        key = next(newer, None)


async def differences(
    wanted: Iterator[KeyValue], live: AsyncIterator[Entry]
) -> AsyncIterator[Difference]:
    """Both in the order of keys. Equal is what has the same value."""
    left = next(wanted, None)
    async for entry in live:
        while left is not None and left.key < entry.key:
            yield Difference(left.key, left, None)
            left = next(wanted, None)
        if left is not None and left.key == entry.key:
            if left.value != entry.value:
                yield Difference(entry.key, left, entry)
            left = next(wanted, None)
        else:
            yield Difference(entry.key, None, entry)
    while left is not None:
        yield Difference(left.key, left, None)
        left = next(wanted, None)


async def put_back(
    source: str,
    wanted: RestorePoint,
    client: Client,
    prefix: bytes,
    *,
    delete_others: bool,
    leased: bool,
    dry_run: bool,
    show: Callable[[Difference], None],
    advance: Advance = nobody_watches,
) -> PutBack:
    """Make the keys with `prefix` what they were; `show` hears of each that differs.

    `delete_others`: also delete what was not there then. `leased`: put keys back that were on a
    lease, on none; else they are left out. Raises BackupError, KvError, OSError.
    """
    with TemporaryDirectory(prefix="kvstore-restore-") as work:
        state_file = Path(work) / "state.mdb"
        chosen = choose(source, wanted, state_file, advance)
        with opened(state_file) as (_, state):
            items = items_at(chosen, state, prefix)
            done = dict.fromkeys(("+", "~", "-", "left", "leased"), 0)
            batch: list[Difference] = []
            async for found in differences(items, client.list(prefix=prefix)):
                if found.wanted is not None and found.wanted.lease and not leased:
                    done["leased"] += 1
                    continue
                show(found)
                if found.wanted is None and not delete_others:
                    done["left"] += 1
                    continue
                done[found.sign] += 1
                batch.append(found)
                if len(batch) >= KEYS_MAX or _bytes(batch) >= BYTES_MAX:
                    await _apply(client, batch, dry_run, show)
                    batch = []
            await _apply(client, batch, dry_run, show)
    return PutBack(*done.values())


def _bytes(batch: list[Difference]) -> int:
    return sum(len(each.key) + len(each.wanted.value if each.wanted else b"") for each in batch)


async def _apply(
    client: Client, batch: list[Difference], dry_run: bool, show: Callable[[Difference], None]
) -> None:
    """All of them, or nothing. Raises BackupError if others keep changing them."""
    if dry_run or not batch:
        return
    for _ in range(TRIES):
        compares = [
            absent(each.key)
            if each.live is None
            else ModRevision(each.key) == each.live.mod_revision
            for each in batch
        ]
        then = [
            delete(each.key) if each.wanted is None else put(each.key, each.wanted.value)
            for each in batch
        ]
        if await client.txn(*compares, then=then):
            return
        batch = [found async for found in _seen_anew(client, batch, show)]
        if not batch:
            return
    raise BackupError(
        f"keys from {batch[0].key!r} to {batch[-1].key!r} keep being changed by others: they were "
        "not put back"
    )


async def _seen_anew(
    client: Client, batch: list[Difference], show: Callable[[Difference], None]
) -> AsyncIterator[Difference]:
    """Those that still differ; what somebody has written meanwhile is shown, too."""
    for key, wanted, before in batch:
        now = await client.get(key)
        if (now and now.value) == (wanted and wanted.value):
            continue
        found = Difference(key, wanted, now)
        if (now and now.mod_revision) != (before and before.mod_revision):
            show(found)
        yield found
