"""What a watch sends of a change: its events as JSON, and how large they are."""

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson

from http_api.core.encoded import EncodedOnce
from http_api.etcd.encode import key_value
from kvstore.replica.interest import event_identity
from kvstore.state.mvcc import KeyEvent

FRAGMENT_BYTES_MAX = 2 << 20
"""The changes of one revision are cut beyond this, for clients that allow it."""
LARGE_BYTES_MIN = 64 << 10
"""Events of a message for which `EncodedEvents.turn` is taken."""
ENCODED_BYTES_MAX = 16 << 20
"""Of encoded events that are kept for other watches."""


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


class EncodedEvents:
    """The JSON of recent events, made once for all the watches of a node that want them."""

    def __init__(self, bytes_max: int = ENCODED_BYTES_MAX) -> None:
        self.turn = asyncio.Lock()
        """Taken to send a large message: to copy it into hundreds of sockets at once would hold up
        everybody else."""
        self.kept = EncodedOnce(bytes_max)

    def of(self, event: KeyEvent, previous: bool) -> orjson.Fragment:
        """What stands for the event in a message. Who catches up reads events anew from the
        history, so they are known by what they are."""
        key = previous, *event_identity(event)
        return orjson.Fragment(
            self.kept.of(key, lambda: orjson.dumps(event_document(event, previous)))
        )
