"""A future that can tell who waits in the very turn of the loop in which it is done.

An ordinary one tells in the next turn. In between the loop looks at all sockets once more, and what
this turn sends to the peers leaves before the answer: on a machine with few cores they wake up, and
the client waits for them.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class PromptFuture(asyncio.Future[T]):
    """Whoever awaits it, or adds a callback, is told as by any other future."""

    _at_once: "Callable[[asyncio.Future[T]], None] | None" = None

    def tell(self, listener: "Callable[[asyncio.Future[T]], None]") -> None:
        """`listener(self)` is called as soon as there is a result or an error; not if this future
        is cancelled. It may be in the middle of a step: it must be short, and change nothing of
        the replica but by asking for more."""
        if self.done():
            self.add_done_callback(listener)
        else:
            self._at_once = listener

    def set_result(self, result: T) -> None:
        super().set_result(result)
        self._tell()

    def set_exception(self, exception: type[BaseException] | BaseException) -> None:
        super().set_exception(exception)
        self._tell()

    def _tell(self) -> None:
        listener, self._at_once = self._at_once, None
        if listener is None:
            return
        try:
            listener(self)
        except Exception as fault:
            # As with any callback: what a listener does wrong is no fault of the replica.
            context = {"message": "a listener failed", "exception": fault, "future": self}
            self.get_loop().call_exception_handler(context)
