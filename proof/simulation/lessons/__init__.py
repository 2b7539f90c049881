"""Lessons: Paxos in a few dozen messages at a time, played by the real classes.

`LESSONS[name]()` plays one and returns its recording, which `proof.simulation.tell.page` draws and
`proof.simulation.lessons.telling.tell` prints. `docs/lessons.md` says what each is about.
"""

from collections.abc import Callable
from dataclasses import dataclass

from proof.simulation.lessons.dueling_proposers import dueling_proposers
from proof.simulation.lessons.flexible_quorum import flexible_quorum
from proof.simulation.lessons.gap_fill import gap_fill
from proof.simulation.lessons.happy_path import happy_path
from proof.simulation.lessons.leader_crash import leader_crash
from proof.simulation.lessons.single_decree import single_decree
from proof.simulation.lessons.stage import LessonError
from proof.simulation.lessons.telling import tell
from proof.simulation.tell.trace import Recording


@dataclass(frozen=True)
class Lesson:
    """A script, and what it is about in one line."""

    about: str
    script: Callable[[], Recording]

    def __call__(self) -> Recording:
        """Play it. Raises LessonError if something that it says does not hold."""
        return self.script()


LESSONS: dict[str, Lesson] = {
    "single-decree": Lesson(
        "how one value is chosen, and why a proposer may have to propose another's", single_decree
    ),
    "dueling-proposers": Lesson(
        "two proposers preempt each other for ever, until they back off", dueling_proposers
    ),
    "happy-path": Lesson(
        "a stable leader: phase 1 once for all slots, one round trip for each write", happy_path
    ),
    "leader-crash": Lesson(
        "the leader dies with a write half done; the next one finishes it, once", leader_crash
    ),
    "gap-fill": Lesson("a lost slot before an accepted one is filled with a no-op", gap_fill),
    "flexible-quorum": Lesson(
        "quorums that are no majorities: cheap writes, dear elections", flexible_quorum
    ),
}
"""By name, in the order to read them."""

__all__ = ["LESSONS", "Lesson", "LessonError", "tell"]
