"""Is a history linearizable: could every call have taken effect at one instant between call and
return, one after another?

- Each key is judged by itself: a history is linearizable if every object's part of it is (locality;
  Herlihy and Wing, "Linearizability: A Correctness Condition for Concurrent Objects", 1990, §3.3).
- A key's operations are put in order one by one, each among those that no other must precede, going
  back where that leads nowhere (Wing and Gong, "Testing and Verifying Concurrent Objects", 1993).
- A configuration, that is which operations are placed and the value they left, is never entered
  twice (Lowe, "Testing for Linearizability", 2017, §4; so does the checker Porcupine).

One operation precedes another if it returned strictly before the other was called. Writes of
unknown outcome may take effect at any time after the call, or never.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from proof.histories.explanation import Failure, explain
from proof.histories.history import CallRecord
from proof.histories.register import steps_of
from proof.histories.search import OrderSearch

STATES_MAX = 300_000
"""Configurations to visit per key before giving up: about ten seconds and 150 MB."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `check` found. `undecided` are the keys whose search was given up: neither is proved.

    `linearizable` says that all keys were searched and none failed. `states` counts the
    configurations visited.
    """

    linearizable: bool
    operations: int
    keys: int
    failures: tuple[Failure, ...]
    undecided: tuple[str, ...]
    states: int

    def describe(self) -> str:
        """The verdict for people: one line, and the failures below it."""
        name = "linearizable" if self.linearizable else "not proved linearizable"
        if self.failures:
            name = "NOT linearizable"
        lines = [f"{name}: {self.operations} operations on {self.keys} keys"]
        if self.undecided:
            keys = ", ".join(self.undecided)
            lines.append(f"undecided, the search was given up at its bound: {keys}")
        return "\n".join([*lines, *(failure.describe() for failure in self.failures)])


def check(operations: Iterable[CallRecord], states_max: int = STATES_MAX) -> Verdict:
    """Judge a history, visiting at most `states_max` configurations per key.

    Raises ValueError if two operations on a key write the same value, or if times make no sense.
    """
    by_key: dict[str, list[CallRecord]] = defaultdict(list)
    for operation in operations:
        by_key[operation.key].append(operation)
    failures, undecided, states = [], [], 0
    for key, of_key in sorted(by_key.items()):
        search = OrderSearch(steps_of(of_key), states_max)
        if search.run() is None:
            if search.given_up:
                undecided.append(key)
            else:
                failures.append(explain(key, of_key, states_max))
        states += search.states
    return Verdict(
        linearizable=not failures and not undecided,
        operations=sum(map(len, by_key.values())),
        keys=len(by_key),
        failures=tuple(failures),
        undecided=tuple(undecided),
        states=states,
    )
