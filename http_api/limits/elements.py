"""How many elements a JSON text has, counted before any of them is built.

A megabyte of `{},{},` is a few milliseconds for the one who sends it and seconds for the loop that
makes objects of it. So what a text may hold is counted first: its brackets and commas, which bound
its fields, its items and its depth.
"""

import asyncio
import re

_MARKS = (b"{", b"[", b",")
_PIECE_BYTES = 1 << 16
_TURN_BYTES = 16 * _PIECE_BYTES
"""So many are counted in one turn of the loop."""
_MARK_COST = 64
"""To find a mark takes about as long as to pass so many bytes of a string."""
_OUTSIDE = re.compile(rb'[{\[,"]')
_INSIDE = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
"""The rest of a string, or of the piece of it that is looked at; a backslash is not parted from
what it escapes."""


def few_marks(body: bytes | bytearray, elements_max: int) -> bool:
    """Whether it has at most so many elements, the marks within strings counted as well.

    Enough where strings are names and base64. It stops early, and costs about 1 ms for a MiB.
    """
    left = elements_max
    size = len(body)
    if size <= left:
        return True
    for start in range(0, size, _PIECE_BYTES):
        left -= _marks_in(body, start)
        if left < 0:
            return False
    return True


def _marks_in(body: bytes | bytearray, start: int) -> int:
    """In the piece that begins there."""
    return sum(body.count(mark, start, start + _PIECE_BYTES) for mark in _MARKS)


async def few_elements(body: bytes, elements_max: int) -> bool:
    """Whether it has at most so many elements; what strings hold does not count. The loop goes on
    meanwhile: a long text full of escapes takes its time."""
    left, size = elements_max, len(body)
    for start in range(0, size, _PIECE_BYTES):
        if start and start % _TURN_BYTES == 0:
            await asyncio.sleep(0)
        left -= _marks_in(body, start)
        if left < 0:
            break
    else:
        return True
    at, left, since = 0, elements_max, 0
    while at < size:
        found = _OUTSIDE.search(body, at)
        if found is None:
            return True
        at = found.end()
        left -= found[0] != b'"'
        since += _MARK_COST
        if left < 0:
            return False
        while found[0] == b'"' and at < size:
            inside = _INSIDE.match(body, at, at + _PIECE_BYTES)
            assert inside is not None
            since += inside.end() - at
            at = inside.end()
            if since >= _PIECE_BYTES:
                since = 0
                await asyncio.sleep(0)
            if body[at : at + 1] == b'"':
                at += 1
                break
            if at + 1 >= size:
                return True  # it ends within a string, which its decoder says
    return True
