"""Elements are counted without being built, outside of strings, across pieces."""

import asyncio

import pytest

from http_api.limits import elements
from http_api.limits.elements import few_elements, few_marks


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (b"", 0),
        (b"17", 0),
        (b"[1,2]", 2),
        (b'{"a":[{},{}],"b":1}', 6),
        (b'["[,{", "\\",{", "\\\\", "{"]', 4),
        (b'["' + b",{[" * 60_000 + b'"]', 1),
        (b'["' + b'\\"' * 60_000 + b'\\\\",1]', 2),
        (b'["' + b"a" * 65_535 + b'\\",",1]', 2),
        (b'["' + b"a" * 65_534 + b'\\",",1]', 2),
        (b'["abc', 1),
        (b'["abc\\', 1),
        (b'["' + b"\\" * 131_073, 1),
    ],
)
def test_elements_are_counted_outside_strings(text: bytes, count: int) -> None:
    async def run() -> None:
        assert await few_elements(text, count)
        if count:
            assert not await few_elements(text + b" " * len(text), count - 1)

    asyncio.run(run())


def test_marks_are_counted_across_pieces() -> None:
    size = 3 * elements._PIECE_BYTES
    assert few_marks(b"," * 100 + b" " * size + b"{" * 100, 200)
    assert not few_marks(b"," * 100 + b" " * size + b"{" * 101, 200)
