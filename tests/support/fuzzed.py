"""The frame of a fuzzed port: who comes with anything at all, and what must be so afterwards."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Generic, TypeVar

import uvloop

from tests.support.nearly_right import Visit, soon, told_to

T = TypeVar("T")


class Fuzzed(Generic[T]):
    """What listens, and the loop that it lives on. Each port says how it is visited, what it holds
    for those who came, and how it serves those who come in order."""

    def __init__(self, runner: asyncio.Runner, what: T, told: list[str]) -> None:
        """`told`: what goes wrong on the loop, as `told_to` notes it."""
        self.runner = runner
        self.what = what
        self.told = told
        self.visits = 0

    def take(self, some: list[Visit], *, silent: bool) -> None:
        """All come and go. `silent`: each says nothing more once it has said what it says."""
        self.runner.run(self._take(some, silent))

    async def _take(self, some: list[Visit], silent: bool) -> None:
        self.visits += len(some)
        await self.receive(some, silent)
        await soon(self.nothing_held, "nothing is held for those that came")
        assert not self.told, self.told
        self.check()
        await self.serve()
        await soon(self.nothing_held, "who was served has left")

    async def receive(self, some: list[Visit], silent: bool) -> None:
        """All at once."""
        await asyncio.gather(*(self.visit(visit, silent) for visit in some))

    async def visit(self, visit: Visit, silent: bool) -> None:
        raise NotImplementedError

    def nothing_held(self) -> bool:
        raise NotImplementedError

    def check(self) -> None:
        """Assert what else must be so once they have gone."""

    async def serve(self) -> None:
        """Assert that who comes in order is served."""
        raise NotImplementedError


F = TypeVar("F", bound=Fuzzed[Any])


@contextmanager
def fuzzed(
    name: str,
    opened: AbstractAsyncContextManager[T],
    make: Callable[[asyncio.Runner, T, list[str]], F],
) -> Iterator[F]:
    """`make` gets what `opened` gives, for the length of the block; then it is told how often
    somebody came to `name`."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        what = runner.run(opened.__aenter__())
        with told_to(runner.get_loop()) as told:
            try:
                place = make(runner, what, told)
                yield place
            finally:
                runner.run(opened.__aexit__(None, None, None))
    print(f"{name}: {place.visits} executions")
