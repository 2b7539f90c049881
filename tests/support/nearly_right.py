"""Bytes that are nearly right, for what listens on a socket, and what a loop was told meanwhile.

A visit is one connection: what is sent on it, in which pieces, and whether its sender falls silent
then, or closes its side.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

DEADLINE_S = 20.0
POLL_S = 0.002


@dataclass(frozen=True)
class Visit:
    """`known`: its sender is let in first, if there is a door."""

    stream: bytes
    cuts: tuple[int, ...] = ()
    known: bool = False

    @property
    def pieces(self) -> list[bytes]:
        """The stream, cut at about those places."""
        ends = sorted({cut % (len(self.stream) + 1) for cut in self.cuts} | {len(self.stream)})
        return [self.stream[a:b] for a, b in zip([0, *ends], ends, strict=False) if a < b]


def damage(data: bytes, edits: Sequence[tuple[int, int, bytes, bool]]) -> bytes:
    """Each edit puts `piece` in the place of `dropped` bytes at about `at`, or repeats those."""
    for at, dropped, piece, again in edits:
        start = at % (len(data) + 1)
        end = start + dropped
        middle = data[start:end] * 3 if again else piece
        data = data[:start] + middle + data[end:]
    return data


def visits(
    whole: st.SearchStrategy[bytes], pieces: Sequence[bytes], known: bool = False
) -> st.SearchStrategy[Visit]:
    """Of streams of what `whole` draws, damaged at a few places; `pieces` are worth to be put in.
    Some streams are sound, and some are nothing of the kind."""
    piece = st.sampled_from(pieces) | st.binary(max_size=8)
    edit = st.tuples(st.integers(0, 4095), st.integers(0, 40), piece, st.booleans())
    stream = st.builds(
        damage, st.lists(whole, max_size=4).map(b"".join), st.lists(edit, max_size=4)
    )
    return st.builds(
        Visit,
        stream | st.binary(max_size=200),
        st.lists(st.integers(0, 4095), max_size=5).map(tuple),
        st.booleans() if known else st.just(False),
    )


async def send(writer: asyncio.StreamWriter, visit: Visit, *, silent: bool) -> None:
    """All of it, as far as the other end takes it; then this side is closed, unless it is to be
    silent."""
    for piece in visit.pieces:
        if writer.is_closing():
            return
        writer.write(piece)
        await asyncio.sleep(0)
    if not silent and not writer.is_closing():
        with suppress(OSError):  # it was closed just now
            writer.write_eof()


async def soon(condition: Callable[[], bool], what: str) -> None:
    """Raises TimeoutError, which says `what` did not come."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + DEADLINE_S
    while not condition():
        if loop.time() > end_s:
            raise TimeoutError(f"not within {DEADLINE_S:g} s: {what}")
        await asyncio.sleep(POLL_S)


class _Errors(logging.Handler):
    def __init__(self, told: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        self._told.append(self.format(record))


@contextmanager
def told_to(loop: asyncio.AbstractEventLoop) -> Iterator[list[str]]:
    """Exceptions that nobody caught, and errors that were logged, while the block lasts."""
    told: list[str] = []

    def caught(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        told.append(repr(context))

    errors = _Errors(told)
    loop.set_exception_handler(caught)
    logging.getLogger().addHandler(errors)
    try:
        yield told
    finally:
        logging.getLogger().removeHandler(errors)
        loop.set_exception_handler(None)
