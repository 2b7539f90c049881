"""Tables of blocks, and the seals of single records."""

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.storage import packed
from kvstore.storage.environment import open_environment
from kvstore.storage.sealed import DamagedRecord, is_sound, seal
from kvstore.storage.state import StateStore, WriteTransaction

Pairs = list[tuple[bytes, bytes]]


def place(number: int) -> bytes:
    return number.to_bytes(12, "big")


def checkpoint(store: StateStore, drop: tuple[bytes, int] | None = None) -> Pairs:
    """What it dropped that begins with a byte of 1."""
    dropped: Pairs = []

    def housekeeping(transaction: WriteTransaction) -> None:
        if drop is not None:
            dropped.extend(transaction.drop_before("history", *drop, 1))

    if not store.freeze():
        store.tables["meta"].put(b"something", b"to write")
        assert store.freeze()
    store.write_frozen(housekeeping)
    store.finish()
    return dropped


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(1, 300), st.integers(1, 60)),
            st.tuples(st.just("checkpoint"), st.integers(0, 400), st.integers(1, 100)),
            st.tuples(st.just("scan"), st.integers(0, 400), st.integers(0, 400)),
        ),
        max_size=40,
    ),
    st.integers(),
)
def test_it_is_a_sorted_map(steps: list[tuple[str, int, int]], seed: int) -> None:
    rng = Random(seed)
    model: dict[bytes, bytes] = {}
    last = 0
    with TemporaryDirectory() as directory:
        store = StateStore(Path(directory) / "state.mdb")
        table = store.tables["history"]
        for what, first, second in steps:
            if what == "put":
                for _ in range(second):
                    last += rng.choice((1, 1, 2, 1 << 40))
                    content = rng.randbytes(rng.choice((0, first, 10 * first)))
                    model[place(last)] = rng.choice((b"", b"\0", b"\1")) + content
                    table.put(place(last), model[place(last)])
            elif what == "checkpoint":
                before = place(max(0, last - first))
                shown = checkpoint(store, (before, second))
                left, _ = next(table.scan(b"", None), (place(last + 1), b""))
                gone = {key: model.pop(key) for key in sorted(model) if key < left}
                assert all(key < before for key in gone)
                assert shown == [each for each in gone.items() if each[1][:1] == b"\1"]
            else:
                start, end = place(min(first, last)), place(min(first, last) + second)
                wanted = [(k, model[k]) for k in sorted(model) if start <= k < end]
                assert list(table.scan(start, end)) == wanted
                assert list(table.scan(start, end, reverse=True)) == wanted[::-1]
        assert list(table.scan(b"", None)) == sorted(model.items())
        assert list(table.scan(b"", None, reverse=True)) == sorted(model.items())[::-1]
        for key in (*model, place(last + 1), place(0)):
            assert table.get(key) == model.get(key)
        store.close()


def test_blocks_fill_pages_of_their_own(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.mdb")
    for number in range(1_000):
        store.tables["history"].put(place(number), bytes(300))
    checkpoint(store)
    store.close()
    environment = open_environment(tmp_path / "state.mdb", 16)
    history = environment.open_db(b"history")
    with environment.begin() as reader:
        facts = reader.stat(history)
    assert facts["entries"] == 1 + 1_000 // 12
    assert facts["overflow_pages"] == 1_000 // 12, "one page each, but for the last"
    assert facts["psize"] > packed.BLOCK_BYTES
    environment.close()


def test_a_drop_takes_whole_blocks_and_keeps_to_its_bound(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.mdb")
    for number in range(100):
        store.tables["history"].put(place(number), b"\1" * 400)
    checkpoint(store)
    first = checkpoint(store, (place(50), 1))
    assert 1 < len(first) < 12
    rest = checkpoint(store, (place(50), 1_000))
    assert [key for key, _ in first + rest] == [place(n) for n in range(len(first + rest))]
    assert 50 - 12 < len(first + rest) <= 50
    store.close()


def test_nothing_else_is_deleted(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.mdb")
    with pytest.raises(TypeError, match="front"):
        store.tables["history"].delete(place(1))
    store.close()


@given(st.binary(max_size=40), st.binary(max_size=200), st.data())
def test_a_seal_notices_every_flipped_bit(key: bytes, value: bytes, data: st.DataObject) -> None:
    sealed = seal(key, value)
    assert is_sound(key, sealed)
    assert not is_sound(key + b"\0", sealed) or not key
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    flipped = bytearray(sealed)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not is_sound(key, bytes(flipped))


@pytest.mark.parametrize("table", ["keys", "history"])
def test_a_flipped_bit_is_an_error_that_names_the_file(tmp_path: Path, table: str) -> None:
    path = tmp_path / "state.mdb"
    store = StateStore(path)
    for number in range(40):
        store.tables[table].put(place(number), b"value %02d, which is the content" % number)
    checkpoint(store)
    store.close()
    data = bytearray(path.read_bytes())
    at = data.index(b"value 17")
    while at >= 0:  # pages of earlier commits may hold it too
        data[at + 8] ^= 1
        at = data.find(b"value 17", at + 1)
    path.write_bytes(data)
    store = StateStore(path)
    heard: list[DamagedRecord] = []
    store.watch_damage(heard.append)
    found = store.tables[table]
    assert found.get(place(16)) == b"value 16, which is the content"
    with pytest.raises(DamagedRecord, match=rf"state\.mdb is damaged.*table {table}"):
        found.get(place(17))
    with pytest.raises(DamagedRecord):
        list(found.scan(b"", None))
    assert len(heard) == 2
    store.close()
