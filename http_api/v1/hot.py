"""The hot calls of the native API: plain PUT, GET and DELETE of one key."""

from collections.abc import Callable

from http_api.core import params
from http_api.core.hot import HotCall, HotPlace, HotRead, HotWrite, WantedKey
from http_api.core.responses import Answer
from http_api.core.session import Session
from http_api.v1.kv import absent, deleted_answer, value_answer, written_answer
from kvstore.commands.commands import KEY_BYTES_MAX, Delete, Put
from kvstore.commands.results import Result
from kvstore.errors import KeyNotFound


def _decoded(key: bytes) -> bytes:
    """As `decode_key` has it; most keys are what they look like."""
    if b"%" not in key and len(key) <= KEY_BYTES_MAX:
        return key
    return params.decode_key(key.decode())


class PlainPut(HotWrite):
    """PUT of a value."""

    def what(self, key: bytes, body: bytes) -> Put:
        return Put(_decoded(key), body)

    def answer(self, result: Result) -> Answer:
        return written_answer(result)


class PlainDelete(HotWrite):
    """DELETE of a key."""

    def what(self, key: bytes, body: bytes) -> Delete:
        return Delete(_decoded(key))

    def answer(self, result: Result) -> Answer:
        return deleted_answer(result)


class PlainGet(HotRead):
    """GET of a value."""

    def what(self, key: bytes, body: bytes) -> WantedKey:
        return WantedKey(_decoded(key))

    def answer(self, session: Session, key: bytes) -> Answer:
        found = session.get(key)
        if found is None:
            raise KeyNotFound(absent(0))
        return value_answer(found)


def hot_calls(place: Callable[[str], HotPlace]) -> list[HotCall]:
    """`place(method)`: of the row at `kv.PATH` with that method."""
    return [PlainPut(place("PUT")), PlainDelete(place("DELETE")), PlainGet(place("GET"))]
