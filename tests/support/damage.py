"""Random damage to files, and who looks at it in a process of its own, which must not die of it."""

import random
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

Look = Callable[[Path], str]
"""Looks at a directory with a damaged file; what it has to say against it, "" if nothing."""


def damage(data: bytes, chosen: random.Random) -> bytes:
    """A flipped bit, a zeroed sector, a cut, or bytes of another place."""
    kind, at = chosen.randrange(4), chosen.randrange(len(data))
    if kind == 0:
        changed = bytearray(data)
        changed[at] ^= 1 << chosen.randrange(8)
        return bytes(changed)
    if kind == 1:
        at -= at % 512
        return data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :]
    if kind == 2:
        return data[:at]
    size, source = chosen.randrange(1, 5000), chosen.randrange(len(data))
    piece = data[source : source + size]
    return (data[:at] + piece + data[at + len(piece) :])[: len(data)]


def trials(directory: Path, name: str, look: Look, first: int, count: int) -> list[str]:
    """Damage the file `name` in a copy of the directory, again and again; what went wrong.

    `look` raises AssertionError if something was wrong and not noticed.
    """
    wrong = []
    work = directory.with_name(f"{directory.name}-{name}-{first}".replace("/", "-"))
    data = (directory / name).read_bytes()
    for number in range(first, first + count):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(directory, work)
        broken = damage(data, random.Random(number))
        if broken == data:
            continue
        (work / name).write_bytes(broken)
        try:
            look(work)
        except Exception as error:
            wrong.append(f"{name}, trial {number}: {error!r}"[:500])
    shutil.rmtree(work, ignore_errors=True)
    return wrong


def in_processes(directory: Path, name: str, look: Look, count: int, workers: int = 2) -> list[str]:
    """`trials` in processes of their own. Raises BrokenProcessPool if one ends by a signal."""
    each = -(-count // workers)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        starts = range(0, count, each)
        found = [
            pool.submit(trials, directory, name, look, first, min(each, count - first))
            for first in starts
        ]
        return [text for future in found for text in future.result()]
