"""What one turn of the event loop does, counted: entries of the state's tables that are read or
written in it. A count, unlike a time, is the same on a busy machine."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import pytest

from kvstore.storage.tables import StoredTable


class WorkMeter:
    """Counts from its making on. `most` is the most that one turn has done, `total` all of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = self.total = self._now = 0
        get, scan = StoredTable.get, StoredTable.scan
        put, delete = StoredTable.put, StoredTable.delete
        put_all, delete_all = StoredTable.put_all, StoredTable.delete_all

        def counted_scan(
            table: StoredTable, start: bytes, end: bytes | None, reverse: bool = False
        ) -> Iterator[tuple[bytes, bytes]]:
            for entry in scan(table, start, end, reverse):
                self._count(1)
                yield entry

        def counted_get(table: StoredTable, key: bytes) -> bytes | None:
            self._count(1)
            return get(table, key)

        def counted_put(table: StoredTable, key: bytes, value: bytes) -> None:
            self._count(1)
            put(table, key, value)

        def counted_delete(table: StoredTable, key: bytes) -> None:
            self._count(1)
            delete(table, key)

        def counted_put_all(table: StoredTable, entries: Mapping[bytes, bytes]) -> None:
            self._count(len(entries))
            put_all(table, entries)

        def counted_delete_all(table: StoredTable, keys: Sequence[bytes]) -> None:
            self._count(len(keys))
            delete_all(table, keys)

        monkeypatch.setattr(StoredTable, "get", counted_get)
        monkeypatch.setattr(StoredTable, "scan", counted_scan)
        monkeypatch.setattr(StoredTable, "put", counted_put)
        monkeypatch.setattr(StoredTable, "delete", counted_delete)
        monkeypatch.setattr(StoredTable, "put_all", counted_put_all)
        monkeypatch.setattr(StoredTable, "delete_all", counted_delete_all)

    def _count(self, entries: int) -> None:
        self._now += entries
        self.total += entries
        self.most = max(self.most, self._now)

    def reset(self) -> None:
        """Forget what was."""
        self.most = self.total = self._now = 0

    async def run(self) -> None:
        """Notice each turn of the loop, until it is cancelled."""
        while True:
            self._now = 0
            await asyncio.sleep(0)
