"""The hot calls of the native API: plain PUT and GET of one key."""

from collections.abc import Callable

from http_api.core import params
from http_api.core.hot import HotCall, HotPlace, HotRead, HotWrite, WantedKey
from http_api.core.responses import Answer
from http_api.v1.kv import absent, value_answer, written_answer
from kvstore.commands.commands import Put
from kvstore.commands.operations import KeyValue
from kvstore.commands.results import Result
from kvstore.errors import KeyNotFound


class PlainPut(HotWrite):
    """PUT of a value."""

    def what(self, key: str, body: bytes) -> Put:
        return Put(params.decode_key(key), body)

    def answer(self, result: Result) -> Answer:
        return written_answer(result)


class PlainGet(HotRead):
    """GET of a value."""

    def what(self, key: str, body: bytes) -> WantedKey:
        return WantedKey(params.decode_key(key))

    def answer(self, found: KeyValue | None, revision: int) -> Answer:
        if found is None:
            raise KeyNotFound(absent(0))
        return value_answer(found)


def hot_calls(place: Callable[[str], HotPlace]) -> list[HotCall]:
    """`place(method)`: of the row at `kv.PATH` with that method."""
    return [PlainPut(place("PUT")), PlainGet(place("GET"))]
