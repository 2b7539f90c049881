"""Keys and values that are neither text nor bytes are refused, in every method of both clients.

`bytes(5)` is five zero bytes, and `bytes([1, 2])` two others: they were stored without a word.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kvstore.client import (
    BlockingClient,
    Client,
    CreateRevision,
    Value,
    Version,
    absent,
    delete,
    exists,
    get,
    put,
)
from kvstore.errors import InvalidArgument
from tests.support.flaky_node import FlakyNode, written

WRONG: list[Any] = [5, 0, True, False, 1.5, [1, 2], (1,), {"a": 1}, object()]
CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "put key": lambda c, x: c.put(x, "v"),
    "put value": lambda c, x: c.put("k", x),
    "put None": lambda c, x: c.put("k", None),
    "get key": lambda c, x: c.get(x),
    "delete key": lambda c, x: c.delete(x),
    "history key": lambda c, x: c.history_page(x),
    "page prefix": lambda c, x: c.page(prefix=x),
    "page start": lambda c, x: c.page(start=x),
    "page end": lambda c, x: c.page(start="a", end=x),
    "watch key": lambda c, x: c.watch(x),
    "watch prefix": lambda c, x: c.watch(prefix=x),
    "lock name": lambda c, x: c.lock(x),
    "elect value": lambda c, x: c.elect("e", x),
    "leader name": lambda c, x: c.leader(x),
    "txn": lambda c, x: c.txn(then=[put("k", x)]),
    "batch": lambda c, x: c.batch([delete(x)]),
}
NAMES = ("key", "value", "prefix", "start", "end", "name")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_in_every_method(call: Callable[[Any, Any], Any]) -> None:
    async def main() -> None:
        async with FlakyNode(written) as node:
            async with Client(node.url) as client:
                for wrong in WRONG:
                    with pytest.raises(TypeError, match=r": expected str or bytes, got \w+$") as e:
                        await call(client, wrong)
                    assert str(e.value).split(":")[0] in NAMES
            with BlockingClient(node.url) as blocking:
                for wrong in WRONG:
                    with pytest.raises(TypeError, match="expected str or bytes"):
                        await asyncio.to_thread(call, blocking, wrong)
            assert not node.seen

    asyncio.run(main())


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: type(wrong).__name__)
@pytest.mark.parametrize("make", [
    lambda x: put(x, "v"), lambda x: put("k", x), lambda x: get(x), lambda x: get(prefix=x),
    lambda x: delete(x), lambda x: delete(start="a", end=x), lambda x: Value("k") == x,
    lambda x: Value(x) == "v", lambda x: Value("k") < x, absent, exists,
])  # fmt: skip
def test_in_operations(make: Callable[[Any], Any], wrong: Any) -> None:
    with pytest.raises(TypeError, match="expected str or bytes"):
        make(wrong)


@pytest.mark.parametrize("wrong", ["1", True, 1.0, None, b"1"], ids=repr)
def test_numbers_are_numbers(wrong: Any) -> None:
    for make in (
        lambda: Version("k") == wrong,
        lambda: CreateRevision("k") >= wrong,
        lambda: get("k", revision=wrong),
        lambda: get("k", limit=wrong),
    ):
        with pytest.raises(TypeError, match="expected int"):
            make()
    client = Client("http://127.0.0.1:1")
    for call in (
        lambda: client.get("k", revision=wrong),
        lambda: client.put("k", "v", lease=wrong),
        lambda: client.keep_alive(wrong),
        lambda: client.revoke(wrong),
        lambda: client.compact(wrong),
    ):
        with pytest.raises(TypeError, match="expected int"):
            asyncio.run(call())


def test_what_is_accepted_arrives() -> None:
    async def main() -> None:
        async with FlakyNode(written) as node, Client(node.url) as client:
            for value in ("é", b"\xc3\xa9", bytearray(b"\xc3\xa9"), memoryview(b"\xc3\xa9")):
                await client.put("k", value)  # type: ignore[arg-type]
            assert [seen.body for seen in node.seen] == [b"\xc3\xa9"] * 4
            for call in (client.put("k", "\udc80"), client.get("\udc80")):
                with pytest.raises(InvalidArgument, match="UTF-8"):
                    await call

    asyncio.run(main())
