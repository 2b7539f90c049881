"""A replica of one, in memory: the real state machine, without consensus and without a log.

It lets the HTTP tests run alone. Its switches bring about what is rare in a real cluster.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from kvstore.commands.batches import Batch, Bundle
from kvstore.commands.binary import encode
from kvstore.commands.commands import Command
from kvstore.commands.members import Founding, MemberChange, MemberRecord, Reconfigure
from kvstore.commands.results import MembershipRefused, Outcome, Result
from kvstore.event_log import EventLog
from kvstore.peers.roster import Roster
from kvstore.replica.feed import Feed
from kvstore.replica.leader_absence import LeaderAbsence
from kvstore.replica.lease_timers import LeaseTimers
from kvstore.replica.leasing import LeaseTime
from kvstore.replica.machine import SystemClock
from kvstore.replica.metrics import Counters, Metrics
from kvstore.replica.recorder import Recorder
from kvstore.replica.status import ConfigurationStatus, MemberStatus, ReplicaStatus
from kvstore.state.members_record import Governs
from kvstore.state.state_machine import StateMachine
from kvstore.storage.state import StateStore

MEMBERS = (
    MemberStatus(1, "127.0.0.1:1", "127.0.0.1:2", "leader", True, 7, 0),
    MemberStatus(2, "127.0.0.1:3", None, "follower", False, None, None),
)
CONFIGURATION = ConfigurationStatus(0, (1, 2), (), 2, 2, 16, "")
FOUNDING = Founding(
    "0123456789abcdef",
    (
        MemberRecord(1, "1", "node1", "127.0.0.1:1", "http://127.0.0.1:2"),
        MemberRecord(2, "2", "node2", "127.0.0.1:3", ""),
    ),
    2,
    2,
    16,
)


class MemoryLeasing:
    """The leader's clocks, on a clock that the test sets: `now_s`."""

    def __init__(self, replica: MemoryReplica) -> None:
        self._replica = replica
        self.timers = LeaseTimers()
        self.timers.start((), 0.0)
        self.now_s = 0.0

    async def renew(self, lease: int, timeout_s: float) -> LeaseTime | None:
        self._replica.maybe_fail(timeout_s)
        self.timers.renew(lease, self.now_s)
        return await self.look(lease, timeout_s)

    async def look(self, lease: int, timeout_s: float) -> LeaseTime | None:
        self._replica.maybe_fail(timeout_s)
        found = self.timers.look(lease, self.now_s)
        return None if found is None else LeaseTime(*found)

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due ends."""
        self.now_s += seconds
        while due := self.timers.due(self.now_s, 1000):
            self._replica.apply(expired=due)

    def applied(self) -> None:
        changed = self._replica.state.leases.changed
        for lease, ttl_s in changed:
            if ttl_s:
                self.timers.granted(lease, ttl_s, self.now_s)
            else:
                self.timers.ended(lease)
        changed.clear()


class LeaderOf:
    """Who leads, as `LeaderAbsence` asks."""

    def __init__(self, replica: MemoryReplica) -> None:
        self._replica = replica

    @property
    def leader(self) -> int | None:
        return self._replica.leads


class MemoryReplica:
    """Set `fails_with` to make writes and barriers raise it, `reason` to be not ready, `stalled` to
    be no longer at work, `out_of_space` to say so, `joined` to False to be a node that has not
    caught up yet, `leads` to None to have no leader; `leader_absence.tick()` lets time go by for
    that."""

    def __init__(self) -> None:
        self._directory = TemporaryDirectory(prefix="kvstore-memory-")
        self._store = StateStore(Path(self._directory.name) / "state.mdb")
        self.state = StateMachine(self._store)
        self.feed = Feed(self.state)
        self.leasing = MemoryLeasing(self)
        self.leads: int | None = 1
        self.leader_absence = LeaderAbsence(
            LeaderOf(self), EventLog(1, out=io.StringIO()), election_ticks=4, tick_s=0.01
        )
        self.metrics = Metrics(Counters(), tuple, dict, dict)
        self.recorder = Recorder(1, SystemClock())
        self.failure = ""
        self.clock_ms = 0
        self.fails_with: Exception | None = None
        self.reason = ""
        self.stalled = ""
        self.out_of_space = ""
        self.joined = True
        self.timeouts: list[float] = []

    def close(self) -> None:
        self._store.close()
        self._directory.cleanup()

    def apply(self, *commands: Command, expired: tuple[int, ...] = ()) -> Result | None:
        """Apply the commands as one batch of the log; the last one's result."""
        slot = self.state.applied_through + 1
        bundles = (encode(Bundle(1, 1, slot, slot, commands)),) if commands else ()
        applied = self.state.apply(slot, encode(Batch(self.clock_ms, bundles, expired)))
        self.leasing.applied()
        return applied[0][1][-1] if applied else None

    @property
    def keys(self) -> list[bytes]:
        """All keys now, in order."""
        return [item.key for item in self.state.range(b"", None, limit=10_000).items]

    def submit(self, command: Command, timeout_s: float) -> asyncio.Future[Result]:
        return asyncio.ensure_future(self.execute(command, timeout_s))

    async def execute(self, command: Command, timeout_s: float) -> Result:
        self.maybe_fail(timeout_s)
        result = self.apply(command)
        assert result is not None
        return result

    def submit_group(
        self, commands: Sequence[Command], timeout_s: float
    ) -> asyncio.Future[list[Outcome]]:
        return asyncio.ensure_future(self._execute_group(commands, timeout_s))

    async def _execute_group(self, commands: Sequence[Command], timeout_s: float) -> list[Outcome]:
        return [await self.execute(command, timeout_s) for command in commands]

    def barrier(self, timeout_s: float, reads: int = 1) -> asyncio.Future[None]:
        return asyncio.ensure_future(self._barrier(timeout_s))

    async def _barrier(self, timeout_s: float) -> None:
        self.maybe_fail(timeout_s)

    async def copy_state(self, path: Path) -> int:
        self._store.copy_to(path)
        return self.state.checkpointed_through

    def maybe_fail(self, timeout_s: float) -> None:
        self.timeouts.append(timeout_s)
        if self.fails_with is not None:
            raise self.fails_with

    def check_running(self) -> None:
        """It always runs."""

    def status(self) -> ReplicaStatus:
        return ReplicaStatus(
            id=1,
            role="leader",
            leader=self.leads,
            ballot="1.1",
            ready=not self.reason,
            reason=self.reason,
            chosen_through=7,
            applied_through=7,
            checkpointed_through=5,
            log_first_slot=1,
            log_bytes=4096,
            state_bytes=self._store.live_bytes + self._store.unwritten_bytes,
            out_of_space=self.out_of_space,
            revision=self.state.revision,
            compacted_revision=self.state.compacted_revision,
            digest="00",
            cluster_id="0123456789abcdef",
            incarnation="1",
            members=MEMBERS,
            name="node1",
            configuration=CONFIGURATION,
            stalled=self.stalled,
        )

    async def hand_over(self, to: int | None, timeout_s: float) -> int:
        self.maybe_fail(timeout_s)
        return to or 2

    # -- members ----------------------------------------------------------------------------

    roster: Roster | None = None

    def reconfiguration(self, change: MemberChange, expected: int = -1) -> Reconfigure:
        return Reconfigure(change, expected, FOUNDING)

    def rehearse(self, command: Reconfigure) -> list[Governs] | MembershipRefused:
        return self.state.members.rehearse(command, self.state.applied_through + 1)

    async def make_way(self, command: Reconfigure, timeout_s: float) -> None:
        self.maybe_fail(timeout_s)

    async def members_settled(self, timeout_s: float) -> bool:
        self.maybe_fail(timeout_s)
        return not self.state.members.pending
