"""What a watch sends of a change: its events as JSON, and how large they are."""

from collections.abc import Iterator
from typing import Any

from http_api.etcd.encode import key_value
from kvstore.state.mvcc import KeyEvent

FRAGMENT_BYTES_MAX = 2 << 20
"""The changes of one revision are cut beyond this, for clients that allow it."""


def event_bytes(event: KeyEvent) -> int:
    """About what it takes in memory and, in base64, a third more on the wire."""
    size = len(event.item.key) + len(event.item.value) + 100
    return size if event.previous is None else size + len(event.previous.value)


def fragments(events: list[KeyEvent]) -> Iterator[tuple[list[KeyEvent], bool]]:
    """Pieces of one message, and whether more follow."""
    piece: list[KeyEvent] = []
    size = 0
    for event in events:
        if piece and size + event_bytes(event) > FRAGMENT_BYTES_MAX:
            yield piece, True
            piece, size = [], 0
        piece.append(event)
        size += event_bytes(event)
    yield piece, False


def event_document(event: KeyEvent, previous: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"type": "DELETE"} if event.deleted else {}
    message["kv"] = key_value(event.item)
    if previous and event.previous is not None:
        message["prev_kv"] = key_value(event.previous)
    return message
