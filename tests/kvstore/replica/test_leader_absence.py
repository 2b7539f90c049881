"""When streams and waiters are told that their node has no leader, and how many at a time."""

import asyncio
import io
from contextlib import ExitStack

from kvstore.event_log import EventLog
from kvstore.replica.leader_absence import ELECTION_TIMEOUTS, TOLD_PER_TICK, LeaderAbsence

ELECTION_TICKS = 4


class Knows:
    leader: int | None = 1


def made() -> tuple[Knows, LeaderAbsence, io.StringIO]:
    node, out = Knows(), io.StringIO()
    absence = LeaderAbsence(node, EventLog(1, out=out), election_ticks=ELECTION_TICKS, tick_s=0.025)
    return node, absence, out


def tick(absence: LeaderAbsence, count: int) -> None:
    for _ in range(count):
        absence.tick()


def test_a_short_absence_is_for_nobody_to_know() -> None:
    async def run() -> None:
        node, absence, out = made()
        with absence.noticed() as no_leader:
            for _ in range(10):
                node.leader = None
                tick(absence, ELECTION_TIMEOUTS * ELECTION_TICKS - 1)
                node.leader = 2
                absence.tick()
            assert not no_leader.done() and not absence.lasts
            node.leader = None
            assert absence.leaderless
            tick(absence, ELECTION_TIMEOUTS * ELECTION_TICKS)
            assert no_leader.done() and absence.lasts
            assert "0.3 s" in str(absence.error())
            node.leader = 3
            absence.tick()
            assert not absence.lasts
        begun, ended = out.getvalue().splitlines()
        assert "no leader for long" in begun and "waiting=1" in begun
        assert "leader known again" in ended and "ended=1" in ended

    asyncio.run(run())


def test_many_are_told_in_turn_and_a_leader_saves_the_rest() -> None:
    async def run() -> None:
        node, absence, _ = made()
        node.leader = None
        with ExitStack() as stack:
            waiting = [stack.enter_context(absence.noticed()) for _ in range(3 * TOLD_PER_TICK)]
            tick(absence, ELECTION_TIMEOUTS * ELECTION_TICKS)
            assert sum(each.done() for each in waiting) == TOLD_PER_TICK
            absence.tick()
            assert sum(each.done() for each in waiting) == 2 * TOLD_PER_TICK
            node.leader = 1
            tick(absence, 10)
            assert sum(each.done() for each in waiting) == 2 * TOLD_PER_TICK

    asyncio.run(run())
