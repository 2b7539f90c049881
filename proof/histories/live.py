"""A judge of histories while they are made: what `kvstore demo` shows of its own clients.

Keys come in rounds. When a round is over and all its calls have ended, the history of its keys is
judged as a whole and then forgotten, so that a demo may run for days.
"""

from collections import defaultdict
from typing import Any

from proof.histories.history import CallRecord, Get, PutCall, Returned
from proof.histories.linearizability import check

STATES_MAX = 50_000
"""Per key: about two seconds at the worst."""
FAILURES_TOLD = 3


class LiveJudge:
    """Implements `kvstore_cli.demo.load.Judge`. `judge` may run in a thread of its own."""

    def __init__(self) -> None:
        self._open: dict[str, list[CallRecord]] = defaultdict(list)
        self._judged = {"rounds": 0, "operations": 0, "undecided": 0}
        self._failures: list[str] = []

    def put(
        self, client: int, key: str, value: str, called_s: float, returned_s: float | None
    ) -> None:
        """A write; `returned_s` None: nobody knows whether it happened, or will."""
        answer = None if returned_s is None else Returned()
        self._add(CallRecord(client, key, PutCall(value), called_s, returned_s, answer))

    def get(
        self, client: int, key: str, value: str | None, called_s: float, returned_s: float
    ) -> None:
        """A read that was answered; None: the key was absent."""
        self._add(CallRecord(client, key, Get(), called_s, returned_s, Returned(value)))

    def _add(self, record: CallRecord) -> None:
        self._open[record.key].append(record)

    def judge(self, prefix: str) -> None:
        """The round of these keys is over; nothing is recorded of them any more."""
        keys = [key for key in self._open if key.startswith(prefix)]
        operations = [record for key in keys for record in self._open.pop(key)]
        verdict = check(operations, STATES_MAX)
        self._judged["rounds"] += 1
        self._judged["operations"] += verdict.operations
        self._judged["undecided"] += len(verdict.undecided)
        room = FAILURES_TOLD - len(self._failures)
        self._failures += [failure.describe() for failure in verdict.failures[:room]]

    def verdict(self) -> dict[str, Any]:
        """All rounds so far. `linearizable` is False once one was not, and stays so."""
        return {
            **self._judged,
            "linearizable": not self._failures,
            "failures": list(self._failures),
        }
