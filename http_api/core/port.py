"""What the HTTP API needs of a replica. `kvstore.replica.replica.Replica` is one; tests that need
what is rare in a real one bring their own."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from kvstore.commands.commands import Command
from kvstore.commands.members import MemberChange, Reconfigure
from kvstore.commands.results import MembershipRefused, Outcome, Result
from kvstore.peers.roster import Roster
from kvstore.replica.feed import Feed
from kvstore.replica.leader_absence import LeaderAbsence
from kvstore.replica.leasing import LeaseTime
from kvstore.replica.metrics import Metrics
from kvstore.replica.recorder import Recorder
from kvstore.replica.status import ReplicaStatus
from kvstore.state.members_record import Governs
from kvstore.state.state_machine import StateMachine


class LeasePort(Protocol):
    """What only the leader knows of leases. Both raise NoQuorum, Overloaded or Stopping."""

    async def renew(self, lease: int, timeout_s: float) -> LeaseTime | None:
        """Its full time again; None if it has ended."""
        ...

    async def look(self, lease: int, timeout_s: float) -> LeaseTime | None:
        """How long it has left; None if it has ended."""
        ...


class ReplicaPort(Protocol):
    """Writes and read barriers of the cluster, reads of this node's state. Only `Session`, which
    checks rights, and the authentication of callers hold one."""

    @property
    def state(self) -> StateMachine:
        """What is applied here now. Look it up again after every `await`."""
        ...

    @property
    def joined(self) -> bool:
        """Whether what is applied here has led this node to where it is a member. Before, its state
        is empty or older than this node itself: read it behind a barrier only."""
        ...

    @property
    def feed(self) -> Feed:
        """What this node applies, as it applies it."""
        ...

    @property
    def leader_absence(self) -> LeaderAbsence:
        """Whether this node has been without a leader for long."""
        ...

    @property
    def leasing(self) -> LeasePort: ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def recorder(self) -> Recorder:
        """What this node's consensus did lately."""
        ...

    @property
    def failure(self) -> str:
        """Why this node had to stop by itself; "" while it runs."""
        ...

    def check_running(self) -> None:
        """Raises Stopping if this node has failed or is shutting down."""
        ...

    def submit(self, command: Command, timeout_s: float) -> "asyncio.Future[Result]":
        """Replicate. Raises Overloaded or Stopping at once; NoQuorum, Overloaded, Stopping or
        OutcomeUnknown come with the future."""
        ...

    def submit_group(
        self, commands: Sequence[Command], timeout_s: float
    ) -> "asyncio.Future[list[Outcome]]":
        """`submit` of commands that look at one key each: applied in this order, and answered
        together; an error is that of all of them. So they are few enough for one bundle."""
        ...

    def barrier(self, timeout_s: float, reads: int = 1) -> "asyncio.Future[None]":
        """Once it is done, local reads show every write acknowledged before this call; so many
        `reads` wait for it. Errors as of `submit`, without OutcomeUnknown."""
        ...

    def status(self) -> ReplicaStatus: ...

    async def hand_over(self, to: int | None, timeout_s: float) -> int:
        """Who leads now. Raises NoQuorum."""
        ...

    @property
    def roster(self) -> Roster | None:
        """The members as links know them; None until the cluster has formed."""
        ...

    def reconfiguration(self, change: MemberChange, expected: int = -1) -> Reconfigure:
        """`change` as a command. Raises NotReady."""
        ...

    def rehearse(self, command: Reconfigure) -> list[Governs] | MembershipRefused:
        """The configurations that a change would lead over; nothing is done."""
        ...

    async def make_way(self, command: Reconfigure, timeout_s: float) -> None:
        """Let another lead, if this node does and would not vote any more. Raises NoQuorum."""
        ...

    async def members_settled(self, timeout_s: float) -> bool:
        """Wait until no change of the members is under way; whether that came in time. Raises
        Stopping."""
        ...

    async def copy_state(self, path: Path) -> int:
        """Write a consistent copy of the last checkpoint to `path`. Raises OSError, lmdb.Error."""
        ...
