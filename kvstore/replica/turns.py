"""One step for each turn of the event loop in which something came in: that is the batching."""

import asyncio
from collections.abc import Callable


class Turns:
    """Who has an input calls `wake`; the step comes once the turn has delivered all of them."""

    def __init__(self) -> None:
        self._scheduled = False
        self._step: Callable[[], None] = _no_step

    def start(self, step: Callable[[], None]) -> None:
        """From now on `step()` is what is done."""
        self._step = step

    def wake(self) -> None:
        """Step once this turn of the loop has delivered all its inputs."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.step)

    def step(self) -> None:
        """Step now."""
        self._scheduled = False
        self._step()


def _no_step() -> None:
    """Before the start."""
