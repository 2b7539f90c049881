"""Puts many keys into a store, each exactly once, however often the import is killed and run again.

Each transaction also moves a mark, a key of the store, from where the import was to where it is
then, and holds only if the mark was there. So what a transaction did is never done again, not by a
second run and not by one that runs at the same time; they share the work.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import NamedTuple

import msgspec

from kvstore.backup.lines import KeyLine, LeaseLine, Line
from kvstore.client import Client, LeaseExists, LeaseNotFound, Operation, Value, absent, delete, put
from kvstore.errors import BackupError

MARK_PREFIX = b"kvstore-import/"
KEYS_MAX = 100
BYTES_MAX = 512 << 10
"""Of one transaction."""


class ImportMark(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far an import is: records that are in the store, and whether that is all. `at` is what
    the source needs to go on."""

    records: int = 0
    done: bool = False
    at: str = ""


class Numbered(NamedTuple):
    """Record `number` of a source, from 1; `at` as in the mark once this one is in the store."""

    number: int
    line: Line | None
    at: str = ""


_decode = msgspec.json.Decoder(ImportMark).decode


class Import:
    """One import, known by its `name`: two of the same name are one."""

    def __init__(
        self, client: Client, name: str, advance: Callable[[int], None] = lambda _: None
    ) -> None:
        """`advance` hears how many records are in the store."""
        self._client = client
        self._key = MARK_PREFIX + name.encode()
        self._advance = advance
        self._raw: bytes | None = None
        self._leases: dict[int, int] = {}
        self._granted: set[int] = set()
        self.mark = ImportMark()

    async def begin(self) -> ImportMark:
        """Where an earlier run stopped; nowhere, if there was none. Raises KvError, BackupError."""
        entry = await self._client.get(self._key)
        self._raw = None if entry is None else entry.value
        try:
            self.mark = ImportMark() if entry is None else _decode(entry.value)
        except msgspec.MsgspecError:
            raise BackupError(f"the key {self._key!r} is no mark of an import: delete it") from None
        return self.mark

    async def run(self, records: AsyncIterator[Numbered]) -> int:
        """Import records, in order and numbered without a gap; those that are in the store already
        are passed over. How many there were. Raises KvError, BackupError."""
        number = 0
        batch: list[Numbered] = []
        keys: set[bytes] = set()
        size = 0
        async for record in records:
            number, line = record.number, record.line
            if isinstance(line, LeaseLine):
                self._leases[line.lease] = line.ttl_s
            if number <= self.mark.records:
                continue
            if isinstance(line, KeyLine):
                grown = size + len(line.key) + len(line.value)
                if line.key in keys or len(batch) >= KEYS_MAX or (batch and grown > BYTES_MAX):
                    await self._put(batch)
                    batch, keys, size = [], set(), 0
                keys.add(line.key)
                size += len(line.key) + len(line.value)
            elif len(batch) >= KEYS_MAX:
                await self._put(batch)
                batch, keys, size = [], set(), 0
            batch.append(record)
        await self._put(batch)
        await self._finish(number)
        return number

    async def _put(self, batch: list[Numbered]) -> None:
        """All of them that are not in the store."""
        while batch := [record for record in batch if record.number > self.mark.records]:
            lines = [record.line for record in batch if isinstance(record.line, KeyLine)]
            for lease in {line.lease for line in lines if line.lease}:
                await self._grant(lease)
            operations = [put(line.key, line.value, lease=line.lease) for line in lines]
            last = batch[-1]
            try:
                await self.move(ImportMark(last.number, False, last.at), operations)
            except LeaseNotFound:  # it has ended, with the keys that were on it
                self._granted.clear()

    async def _grant(self, lease: int) -> None:
        """Just before the first keys come: a short one would end before. Raises BackupError."""
        if lease in self._granted:
            return
        if lease not in self._leases:
            raise BackupError(f"keys are on lease {lease}, and no line before says what it is")
        await grant(self._client, lease, self._leases[lease])
        self._granted.add(lease)

    async def _finish(self, records: int) -> None:
        for lease in self._leases.keys() - self._granted:
            await self._grant(lease)
        while not self.mark.done:
            await self.move(ImportMark(records, True, self.mark.at), [])

    async def move(self, mark: ImportMark, operations: list[Operation]) -> bool:
        """Do these operations and move the mark there, if it is where it was left; else look where
        it is. Whether it was done."""
        raw = msgspec.json.encode(mark)
        held = absent(self._key) if self._raw is None else Value(self._key) == self._raw
        if await self._client.txn(held, then=[*operations, put(self._key, raw)]):
            self.mark, self._raw = mark, raw
            self._advance(mark.records)
            return True
        await self.begin()
        self._advance(self.mark.records)
        return False

    async def forget(self) -> None:
        """The next import of this name begins anew."""
        await self._client.txn(then=[delete(self._key)])
        self.mark, self._raw = ImportMark(), None


async def grant(client: Client, lease: int, ttl_s: int) -> None:
    """Unless there is one of that id, of an earlier try. Raises KvError."""
    with suppress(LeaseExists):
        await client.lease(ttl_s, lease_id=lease)
