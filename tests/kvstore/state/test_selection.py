"""Reading a range the long way: etcd's rules one by one; the random ones are in test_keyspace."""

from typing import Any

import pytest

from kvstore.commands.commands import Compact, Delete, Grant, Put
from kvstore.commands.operations import Field, KeyValue, Order, Select, only, prefix_end
from kvstore.errors import RevisionCompacted, RevisionInFuture
from kvstore.state.budget import OverBudget
from kvstore.state.selection import ITEM_BYTES
from tests.support.driven_state import Driven


@pytest.fixture
def driven(driven: Driven) -> Driven:
    """Keys a, b, c with create revisions 2, 3, 6, mod 7, 5, 6, versions 3, 2, 1."""
    driven.apply(Grant(7, 60), Put(b"a", b"x"), Put(b"b", b"x"), Put(b"a", b"y"), Put(b"b", b"z"))
    driven.checkpoint()
    driven.apply(Put(b"c", b"yy", None, 7), Put(b"a", b"yyy"))
    return driven


def keys(driven: Driven, start: bytes = b"", end: bytes | None = None, **more: Any) -> bytes:
    return b"".join(item.key for item in driven.state.select(Select(start, end, **more)).items)


def test_bounds(driven: Driven) -> None:
    assert keys(driven) == keys(driven, b"\0") == b"abc"
    assert keys(driven, b"b") == b"bc"
    assert keys(driven, b"a", b"c") == b"ab"
    assert keys(driven, b"a", only(b"a")) == b"a"
    assert keys(driven, b"b", b"b") == keys(driven, b"c", b"a") == keys(driven, b"d") == b""
    assert driven.state.select(Select(b"c", b"a")).count == 0


def test_the_ends_of_prefixes() -> None:
    assert prefix_end(b"a") == b"b"
    assert prefix_end(b"a\xff\xff") == b"b"
    assert prefix_end(b"\xff") is None and prefix_end(b"") is None


@pytest.mark.parametrize(
    ("field", "ascending"),
    [
        (Field.KEY, b"abc"),
        (Field.VERSION, b"cba"),
        (Field.CREATE, b"abc"),
        (Field.MOD, b"bca"),
        (Field.VALUE, b"cab"),
    ],
)
def test_every_order(driven: Driven, field: Field, ascending: bytes) -> None:
    assert keys(driven, sort_by=field) == ascending
    assert keys(driven, sort_by=field, order=Order.ASCEND) == ascending
    assert keys(driven, sort_by=field, order=Order.DESCEND) == ascending[::-1]
    # Sorted first, limited afterwards.
    assert keys(driven, sort_by=field, order=Order.DESCEND, limit=2) == ascending[::-1][:2]


def test_limit_count_and_more(driven: Driven) -> None:
    for order in (Order.NONE, Order.DESCEND):
        for limit, more in ((0, False), (-1, False), (1, True), (2, True), (3, False), (4, False)):
            found = driven.state.select(Select(b"", None, limit=limit, order=order))
            size = limit if limit > 0 else 3
            assert (len(found.items), found.count, found.more) == (min(3, size), 3, more)
    found = driven.state.select(Select(b"", None, limit=1, count_only=True))
    assert (found.items, found.count, found.more) == ((), 3, False)


def test_filters_come_before_limit_and_do_not_change_the_count(driven: Driven) -> None:
    assert keys(driven, min_mod_revision=6) == b"ac"
    assert keys(driven, max_mod_revision=6) == b"bc"
    assert keys(driven, min_create_revision=3) == b"bc"
    assert keys(driven, max_create_revision=3) == b"ab"
    found = driven.state.select(Select(b"", None, min_mod_revision=6, limit=1))
    assert ([i.key for i in found.items], found.count, found.more) == ([b"a"], 3, True)
    found = driven.state.select(Select(b"", None, min_mod_revision=7, limit=1))
    assert ([i.key for i in found.items], found.count, found.more) == ([b"a"], 3, False)


def test_keys_only_keeps_the_rest(driven: Driven) -> None:
    for order in (Order.NONE, Order.DESCEND):
        found = driven.state.select(Select(b"c", None, keys_only=True, order=order))
        assert found.items == (KeyValue(b"c", b"", 6, 6, 1, 7),)
    assert keys(driven, keys_only=True, sort_by=Field.VALUE) == b"cab"


def test_revisions(driven: Driven) -> None:
    assert keys(driven, revision=1) == b""
    assert keys(driven, revision=2) == b"a"
    assert keys(driven, revision=5, sort_by=Field.MOD) == b"ab"
    found = driven.state.select(Select(b"a", only(b"a"), revision=4))
    assert (found.items[0].value, found.revision) == (b"y", 7)
    assert keys(driven, revision=-3) == keys(driven, revision=7) == b"abc"
    with pytest.raises(RevisionInFuture):
        keys(driven, revision=8)
    driven.apply(Delete(b"b"), Compact(5))
    driven.checkpoint()
    assert keys(driven, revision=5) == keys(driven, revision=6)[:2] == b"ab"
    assert keys(driven, revision=5, count_only=True) == b""
    with pytest.raises(RevisionCompacted):
        keys(driven, revision=4)


def test_what_was_too_much_to_sort_is_freed_a_few_at_a_time(
    driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        driven.apply(Put(b"k%02d" % number, b"v"))
    monkeypatch.setattr("kvstore.state.selection.SORTED_BYTES_MAX", 40 * ITEM_BYTES)
    selection = driven.state.selection(Select(b"k", b"l", sort_by=Field.VALUE))
    for _ in range(9):
        selection.step(4, 1 << 20)
    with pytest.raises(OverBudget):
        selection.step(4, 1 << 20)
    freed = 1
    while selection.drop(8):
        freed += 1
    assert 4 <= freed <= 6
