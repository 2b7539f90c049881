"""A client that goes on writing while things happen to the nodes."""

import contextlib
import threading

from kvstore.client import BlockingClient, KvError
from proof.processes.waiting import eventually


class SteadyWriter:
    """Writes with one client that is told of these endpoints; `acknowledged` are the keys of which
    it heard that they are written. They begin with `prefix`."""

    def __init__(self, endpoint: str, ca: str | None = None, prefix: str = "k") -> None:
        self._prefix = prefix
        self.acknowledged: list[str] = []
        self.failures: list[KvError] = []
        self._stop = threading.Event()
        self._client = BlockingClient(endpoint, timeout_s=10.0, ca=ca)
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> "SteadyWriter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self._client.close()

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self._client.endpoints

    def _write(self) -> None:
        count = 0
        while not self._stop.wait(0.01):
            count += 1
            try:
                self._client.put(f"{self._prefix}{count}", str(count))
            except KvError as error:
                self.failures.append(error)
            else:
                self.acknowledged.append(f"{self._prefix}{count}")

    def more(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        wanted = len(self.acknowledged) + count
        eventually(lambda: len(self.acknowledged) >= wanted, f"{count} more writes")

    def look(self) -> None:
        """Let the client look where the members are."""
        with contextlib.suppress(KvError):
            self._client.members()
