"""Clients that go on with what they do while things happen to the nodes."""

import contextlib
import threading
from collections.abc import Sequence
from typing import Self

from kvstore.client import BlockingClient, KvError
from proof.processes.waiting import eventually


class SteadyClient:
    """One client in a thread of its own that is told of these endpoints, and does the same again
    and again, `pause_s` apart; `failures` are the errors that it got."""

    def __init__(
        self,
        endpoints: str | Sequence[str],
        ca: str | None = None,
        *,
        timeout_s: float = 10.0,
        pause_s: float = 0.01,
    ) -> None:
        self.failures: list[Exception] = []
        self.done = 0
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._client = BlockingClient(endpoints, timeout_s=timeout_s, ca=ca)
        self._patience_s = 3 * timeout_s
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(self._patience_s)
        self._client.close()

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self._client.endpoints

    def more(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        wanted = self.done + count
        eventually(lambda: self.done >= wanted, f"{count} more are acknowledged")

    def look(self) -> None:
        """Let the client look where the members are."""
        with contextlib.suppress(KvError):
            self._client.members()

    def _run(self) -> None:
        count = 0
        while not self._stop.wait(self._pause_s):
            count += 1
            try:
                self._do(count)
            except Exception as error:
                self.failures.append(error)
            else:
                self.done += 1

    def _do(self, count: int) -> None:
        raise NotImplementedError


class SteadyWriter(SteadyClient):
    """`acknowledged` are the keys, with their values, of which it heard that they are written."""

    def __init__(
        self,
        endpoints: str | Sequence[str],
        ca: str | None = None,
        *,
        prefix: str = "k",
        timeout_s: float = 10.0,
        pause_s: float = 0.01,
    ) -> None:
        super().__init__(endpoints, ca, timeout_s=timeout_s, pause_s=pause_s)
        self.acknowledged: dict[str, bytes] = {}
        self._prefix = prefix

    def _do(self, count: int) -> None:
        key, value = f"{self._prefix}{count}", b"%d" % count
        self._client.put(key, value)
        self.acknowledged[key] = value


class SteadyCounter(SteadyClient):
    """Adds one to the key, `done` times."""

    def __init__(
        self, endpoints: Sequence[str], key: str, *, timeout_s: float, pause_s: float
    ) -> None:
        super().__init__(endpoints, timeout_s=timeout_s, pause_s=pause_s)
        self._key = key

    def _do(self, count: int) -> None:
        self._client.increment(self._key)
