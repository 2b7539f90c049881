"""Reading a range the long way: filtered, sorted by any field, limited, counted."""

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

from kvstore.commands.operations import Field, KeyValue, Order, Select, Selected
from kvstore.state.mvcc import Mvcc, key_value

_SORT_KEYS: dict[Field, Callable[[KeyValue], Any]] = {
    Field.KEY: attrgetter("key"),
    Field.VERSION: attrgetter("version"),
    Field.CREATE: attrgetter("create_revision"),
    Field.MOD: attrgetter("mod_revision"),
    Field.VALUE: attrgetter("value"),
}


def select(mvcc: Mvcc, wanted: Select, revision_shown: int) -> Selected:
    """What `wanted` finds; the answer shows `revision_shown` as the store's.

    Raises RevisionCompacted or RevisionInFuture.
    """
    # Inside a change that has written, the newest revision is one that mvcc does not show yet.
    revision = max(0, wanted.revision)
    revision = 0 if revision == revision_shown else revision
    if revision:
        mvcc.check_revision(revision)
    records = mvcc.records(wanted.start, wanted.end, revision)
    if wanted.count_only:
        return Selected(revision_shown, (), sum(1 for _ in records), False)
    if _in_key_order(wanted) and not _filters(wanted):
        return _first(records, wanted, revision_shown)
    found = [key_value(key, record) for key, record in records]
    items = [item for item in found if _passes(item, wanted)]
    items.sort(key=_SORT_KEYS[wanted.sort_by], reverse=wanted.order is Order.DESCEND)
    more = 0 < wanted.limit < len(items)
    if more:
        del items[wanted.limit :]
    if wanted.keys_only:
        items = [item._replace(value=b"") for item in items]
    return Selected(revision_shown, tuple(items), len(found), more)


def _first(records: Iterator[tuple[bytes, bytes]], wanted: Select, revision_shown: int) -> Selected:
    """The common case: in key order, without looking into records beyond the limit."""
    items: list[KeyValue] = []
    count = 0
    for key, record in records:
        count += 1
        if wanted.limit <= 0 or count <= wanted.limit:
            items.append(key_value(key, record[:32] if wanted.keys_only else record))
    return Selected(revision_shown, tuple(items), count, count > len(items))


def _in_key_order(wanted: Select) -> bool:
    return wanted.sort_by is Field.KEY and wanted.order is not Order.DESCEND


def _filters(wanted: Select) -> bool:
    return bool(
        wanted.min_mod_revision
        or wanted.max_mod_revision
        or wanted.min_create_revision
        or wanted.max_create_revision
    )


def _passes(item: KeyValue, wanted: Select) -> bool:
    modified, created = item.mod_revision, item.create_revision
    return (
        (not wanted.min_mod_revision or modified >= wanted.min_mod_revision)
        and (not wanted.max_mod_revision or modified <= wanted.max_mod_revision)
        and (not wanted.min_create_revision or created >= wanted.min_create_revision)
        and (not wanted.max_create_revision or created <= wanted.max_create_revision)
    )
