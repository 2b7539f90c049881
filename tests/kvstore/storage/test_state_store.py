"""The state: overlay over LMDB, checkpoints that may fail, snapshots installed whole."""

from pathlib import Path

import pytest

from kvstore.errors import StorageError
from kvstore.storage import environment
from kvstore.storage.state import StateStore, WriteTransaction


def nothing(transaction: WriteTransaction) -> None:
    """No housekeeping."""


def checkpoint(store: StateStore) -> None:
    store.freeze()
    store.write_frozen(nothing)
    store.finish()


def test_layers_merge_in_order(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.mdb")
    keys = store.tables["keys"]
    for key in (b"a", b"c", b"e", b"g"):
        keys.put(key, b"stored")
    checkpoint(store)
    keys.delete(b"c")
    keys.put(b"d", b"frozen")
    store.freeze()
    keys.put(b"c", b"active")
    keys.delete(b"e")
    keys.put(b"z", b"active")
    wanted = [
        (b"a", b"stored"),
        (b"c", b"active"),
        (b"d", b"frozen"),
        (b"g", b"stored"),
        (b"z", b"active"),
    ]
    store.fail(grow=True)
    assert list(keys.scan(b"", None)) == wanted
    assert list(keys.scan(b"b", b"z", reverse=True)) == wanted[3:0:-1]
    store.write_frozen(nothing)
    store.finish()
    checkpoint(store)
    store.close()
    store = StateStore(tmp_path / "state.mdb")
    assert list(store.tables["keys"].scan(b"", None)) == wanted
    store.close()


def test_what_a_checkpoint_wrote_is_found_until_and_after_the_next(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.mdb")
    keys = store.tables["keys"]
    for key in (b"a", b"b", b"c"):
        keys.put(key, b"first")
    checkpoint(store)
    assert [keys.get(key) for key in (b"a", b"b", b"c")] == [b"first"] * 3
    keys.put(b"a", b"second")
    keys.delete(b"b")
    wanted = [b"second", None, b"first"]
    assert [keys.get(key) for key in (b"a", b"b", b"c")] == wanted
    checkpoint(store)
    assert [keys.get(key) for key in (b"a", b"b", b"c")] == wanted
    keys.put(b"d", b"other")
    checkpoint(store)
    assert [keys.get(key) for key in (b"a", b"b", b"c")] == wanted
    store.copy_to(tmp_path / "copy.mdb")
    keys.put(b"c", b"later")
    checkpoint(store)
    store.install(tmp_path / "copy.mdb")
    assert [keys.get(key) for key in (b"a", b"b", b"c")] == wanted
    store.close()


def test_the_map_grows_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "MAP_BYTES_START", 1 << 18)
    store = StateStore(tmp_path / "state.mdb")
    for number in range(100):
        store.tables["keys"].put(b"%03d" % number, bytes(10_000))
    failures = 0
    while store.freeze():
        try:
            store.write_frozen(nothing)
        except environment.lmdb.MapFullError:
            failures += 1
            store.fail(grow=True)
            continue
        store.finish()
    assert failures
    assert len(list(store.tables["keys"].scan(b"", None))) == 100
    store.close()


def test_install_is_all_or_nothing(tmp_path: Path) -> None:
    source, store = StateStore(tmp_path / "a.mdb"), StateStore(tmp_path / "b.mdb")
    source.tables["keys"].put(b"k", b"snapshot")
    checkpoint(source)
    source.copy_to(tmp_path / "copy")
    store.tables["keys"].put(b"old", b"overlay")
    (tmp_path / "bad").write_bytes(b"rubbish" * 9999)
    with pytest.raises(StorageError):
        store.install(tmp_path / "bad")
    assert store.tables["keys"].get(b"old") == b"overlay"
    store.install(tmp_path / "copy")
    assert list(store.tables["keys"].scan(b"", None)) == [(b"k", b"snapshot")]
    source.close()
    store.close()


def test_housekeeping_sees_the_checkpoint_and_is_part_of_it(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.mdb")
    keys = store.tables["keys"]
    for key in (b"a", b"b", b"c"):
        keys.put(key, b"v" + key)
    assert (keys.unfrozen_entries, store.tables["history"].unfrozen_entries) == (3, 0)
    seen: list[bytes] = []

    def housekeeping(transaction: WriteTransaction) -> None:
        cursor = transaction.cursor("keys")
        assert cursor.first()
        seen.append(cursor.key())
        assert cursor.delete() and cursor.key() == b"b"
        assert transaction.delete("keys", b"c") and not transaction.delete("keys", b"c")
        assert transaction.get("keys", b"c") is None and transaction.get("keys", b"b") == b"vb"
        assert list(transaction.drop_before("history", b"\xff" * 12, 9, 0)) == []

    store.freeze()
    keys.put(b"d", b"later")
    assert keys.unfrozen_entries == 1
    store.write_frozen(housekeeping)
    store.finish()
    assert seen == [b"a"]
    assert list(keys.scan(b"", None)) == [(b"b", b"vb"), (b"d", b"later")]
    store.close()


def test_what_is_written_is_freed_by_the_next_checkpoint(tmp_path: Path) -> None:
    """And not where it is finished, on the loop: there it would be freed all at once."""
    store = StateStore(tmp_path / "state.mdb")
    table = store.tables["keys"]
    for at in range(3000):
        table.put(b"%d" % at, b"v")
    store.freeze()
    frozen, order = table.frozen, table.frozen_order
    store.write_frozen(lambda transaction: None)
    store.finish()
    assert (len(frozen), len(list(order)), len(table.frozen)) == (3000, 3000, 0)
    table.put(b"k", b"v")
    store.freeze()
    store.write_frozen(lambda transaction: None)
    assert (len(frozen), list(order)) == (0, [])
    store.finish()
    assert table.get(b"1") == b"v" and len(list(table.scan(b"", None))) == 3001
    store.close()
