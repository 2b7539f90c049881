"""What the HTTP API needs of a replica. `Replica` is one; tests bring others."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from kvstore.commands.commands import Command
from kvstore.commands.operations import KeyValue, Select, Selected
from kvstore.commands.results import Result
from kvstore.replica.feed import Feed
from kvstore.replica.leasing import LeaseTime
from kvstore.state.lease_table import LeaseTable
from kvstore.state.mvcc import KeyEvent, KeyHistory, KeyPage
from kvstore.state.rights import Auth


class MemberView(Protocol):
    """One member of the cluster, as this node knows it."""

    @property
    def id(self) -> int: ...
    @property
    def peer_address(self) -> str: ...
    @property
    def client_address(self) -> str | None: ...
    @property
    def role(self) -> str | None: ...
    @property
    def connected(self) -> bool: ...
    @property
    def chosen_through(self) -> int | None: ...
    @property
    def lag(self) -> int | None: ...


class StatusView(Protocol):
    """One node's view of itself and of the cluster."""

    @property
    def id(self) -> int: ...
    @property
    def role(self) -> str: ...
    @property
    def leader(self) -> int | None: ...
    @property
    def ballot(self) -> str: ...
    @property
    def ready(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def chosen_through(self) -> int: ...
    @property
    def applied_through(self) -> int: ...
    @property
    def checkpointed_through(self) -> int: ...
    @property
    def log_first_slot(self) -> int: ...
    @property
    def log_bytes(self) -> int: ...
    @property
    def revision(self) -> int: ...
    @property
    def compacted_revision(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def cluster_id(self) -> str: ...
    @property
    def incarnation(self) -> str: ...
    @property
    def members(self) -> Sequence[MemberView]: ...


class State(Protocol):
    """Local reads. They raise RevisionCompacted or RevisionInFuture for a revision > 0 that this
    node does not have."""

    @property
    def auth(self) -> Auth: ...

    @property
    def leases(self) -> LeaseTable: ...

    @property
    def revision(self) -> int: ...

    @property
    def compacted_revision(self) -> int: ...

    def get(self, key: bytes, revision: int = 0) -> KeyValue | None: ...

    def range(
        self,
        start: bytes,
        end: bytes | None,
        *,
        revision: int = 0,
        limit: int,
        reverse: bool = False,
        keys_only: bool = False,
    ) -> KeyPage: ...

    def select(self, wanted: Select) -> Selected: ...

    def history(self, key: bytes, limit: int, revision: int = 0) -> KeyHistory: ...

    def changes(
        self, first_revision: int, revisions_max: int
    ) -> list[tuple[int, list[KeyEvent]]]: ...


class Leasing(Protocol):
    """What only the leader knows of leases. Both raise Unavailable."""

    async def renew(self, lease: int, timeout_s: float) -> LeaseTime | None:
        """Its full time again; None if it has ended."""
        ...

    async def look(self, lease: int, timeout_s: float) -> LeaseTime | None:
        """How long it has left; None if it has ended."""
        ...


class Store(Protocol):
    """A replica: writes and read barriers of the cluster, reads of this node's state."""

    @property
    def state(self) -> State: ...

    @property
    def leasing(self) -> Leasing: ...

    @property
    def feed(self) -> Feed:
        """What this node applies, as it applies it."""
        ...

    async def execute(self, command: Command, timeout_s: float) -> Result:
        """Raises Unavailable or OutcomeUnknown."""
        ...

    async def read_barrier(self, timeout_s: float) -> None:
        """After it, local reads show every write acknowledged before. Raises Unavailable."""
        ...

    def submit(self, command: Command, timeout_s: float) -> "asyncio.Future[Result]":
        """`execute` without a coroutine."""
        ...

    def barrier(self, timeout_s: float) -> "asyncio.Future[None]":
        """`read_barrier` without a coroutine."""
        ...

    def status(self) -> StatusView: ...

    async def hand_over(self, to: int | None, timeout_s: float) -> int:
        """The new leader. Raises NoQuorum."""
        ...
