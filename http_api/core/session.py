"""The door from a handler to the store: what is read or written is so on behalf of one caller.

Rights on reads are checked here, on the very state that is read. Rights on writes are checked
where a command is applied (`kvstore.state.rights`), so that no lagging node lets one through; the
session says whose command it is, and keeps what will be refused out of the log. While
authentication is off everybody is served by one session without a caller, and a read costs one
attribute test more than without a session.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry

from http_api.core import reconfiguration
from http_api.core.account_session import LeadershipMove, SessionCommand
from http_api.core.queue_session import QueueSession
from http_api.core.reconfiguration import MembersChanged
from http_api.limits.slices import SlicedSelection
from kvstore.backup.marks import BackupMark, key_of, marks_in
from kvstore.commands.accounts import Scope
from kvstore.commands.commands import AsUser, Command, Delete, Once, Put
from kvstore.commands.members import AddMember, MemberChange, Reconfigure
from kvstore.commands.operations import KeyValue, Select, Selected, Transaction, only
from kvstore.commands.results import AuthRefused, Outcome, Result
from kvstore.commands.sound import UnsoundCommand, check_sound, is_sound
from kvstore.errors import InvalidArgument, KvError, OutOfSpace, Overloaded, auth_error
from kvstore.peers.roster import Roster
from kvstore.replica.feed import Watcher
from kvstore.replica.handed_out import strip_secret
from kvstore.replica.interest import Interest
from kvstore.replica.leader_absence import LeaderAbsence
from kvstore.replica.leasing import LeaseTime
from kvstore.replica.recorder import Recorder
from kvstore.replica.status import ReplicaStatus
from kvstore.state.lease_table import LeaseTtl
from kvstore.state.members_record import JoinToken
from kvstore.state.mvcc import KeyHistory
from kvstore.state.reading import reads_only
from kvstore.state.rights import ITSELF
from paxos.ballot import Slot

LEASES_PER_SLICE = 1000
GROUP_MAX = 256
GROUP_BYTES_MAX = 256 << 10
"""So many commands make a group, or so many bytes of keys and values; or one command."""
RIGHTS_PER_SLICE = 256
"""So many rights are judged in one go."""


class Session(QueueSession):
    """The store, as `caller` may use it.

    `caller` None is nobody in particular, who may do what needs no right, and everything while
    authentication is off. Reads show this node's state at the time of the call, and raise
    Unauthenticated or PermissionDenied unless the caller may read all that was asked for.
    """

    __slots__ = ()

    def remembering(self) -> "Session":
        """The same for one request whose doings are remembered."""
        made = Session(self._store, self.caller, self._turns)
        made.touched = []
        return made

    # -- writes -----------------------------------------------------------------------------

    def submit(self, command: SessionCommand, timeout_s: float) -> "asyncio.Future[Result]":
        """Replicate `command` in the caller's name; its result, once it is durable and applied
        here, or AuthRefused.

        What the caller may not do takes no slot. The right is judged again where the command is
        applied: it may be lost meanwhile. And one that this node does not know of yet may have
        been given on another, so a refusal is as of a read barrier.

        Raises InvalidArgument, Overloaded or Stopping at once; NoQuorum, Overloaded, Stopping or
        OutcomeUnknown come with the future.
        """
        self._touch(command)
        try:
            check_sound(command)
        except UnsoundCommand as error:
            raise InvalidArgument("request", f"this request has {error}") from None
        caller = self.caller
        named: Command = command
        if caller is not None:
            named = AsUser(caller.user, caller.auth_revision, command)
        auth = self._store.state.auth
        if auth.enabled and auth.refusal(named) is not None:
            return self._submit_later(named, timeout_s)
        return self._store.submit(named, timeout_s)

    def _submit_later(self, command: Command, timeout_s: float) -> "asyncio.Future[Result]":
        """`submit` for what is refused by what this node knows now."""
        store = self._store
        answered: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

        def judge(barrier: "asyncio.Future[None]") -> None:
            if answered.done():  # cancelled
                return
            try:
                barrier.result()
                reason = store.state.auth.refusal(command)
                if reason is not None:
                    self._refuse(reason)
                if reason is None:
                    _pass_on(store.submit(command, timeout_s), answered)
                else:
                    answered.set_result(AuthRefused(reason))
            except Exception as error:
                answered.set_exception(error)

        store.barrier(timeout_s).add_done_callback(judge)
        return answered

    def submit_group(
        self, commands: Sequence[SessionCommand], timeout_s: float
    ) -> "asyncio.Future[list[Outcome]]":
        """`submit` of a group of puts and deletes of single keys, applied in this order and
        answered together.

        An outcome may be the error that struck one command; one that this raises, or the future,
        struck all of them. The errors are those of `submit`.
        """
        self._touch(*commands)
        caller, store = self.caller, self._store
        named: Sequence[Command] = commands
        if caller is not None:
            named = [AsUser(caller.user, caller.auth_revision, command) for command in commands]
        auth = store.state.auth
        if not all(map(is_sound, commands)) or (
            auth.enabled and any(auth.refusal(command) is not None for command in named)
        ):
            return self._begin_each(commands, timeout_s)
        try:
            return store.submit_group(named, timeout_s)
        except OutOfSpace:
            return self._begin_each(commands, timeout_s)  # those that delete are let in

    def _begin_each(
        self, commands: Sequence[SessionCommand], timeout_s: float
    ) -> "asyncio.Future[list[Outcome]]":
        begun = (self._begun(command, timeout_s) for command in commands)
        return asyncio.gather(*begun, return_exceptions=True)

    def _begun(self, command: SessionCommand, timeout_s: float) -> "asyncio.Future[Result]":
        """`submit`; what it raises comes with the future."""
        try:
            return self.submit(command, timeout_s)
        except KvError as error:
            failed: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed

    async def execute(self, command: SessionCommand, timeout_s: float) -> Result:
        """`submit`, waited for. A transaction that writes nothing is no entry of the log: it reads
        this node's state behind a barrier, and what it answers is not kept."""
        inner = command.command if isinstance(command, Once) else command
        if isinstance(inner, Transaction) and reads_only(inner):
            return await self._read(inner, command, timeout_s)
        return await self.submit(command, timeout_s)

    async def _read(
        self, transaction: Transaction, command: SessionCommand, timeout_s: float
    ) -> Result:
        """Raises Unavailable, RevisionCompacted, WorkTooLarge."""
        self._touch(transaction)
        await self._store.barrier(timeout_s)
        state, caller = self._store.state, self.caller
        reason = state.auth.refusal(transaction if caller is None else AsUser(*caller, transaction))
        if reason is not None:
            return AuthRefused(reason)
        if isinstance(command, Once) and (kept := state.kept_answer(command)) is not None:
            return kept
        try:
            async with asyncio.timeout(timeout_s):
                return await self._turns.read(state.reading(transaction))
        except TimeoutError:
            raise Overloaded("what the transaction reads was not read in time") from None

    async def rest(self) -> None:
        """Between two slices of something long: the loop does everything else, and what is long
        takes turns."""
        await self._turns.next()

    # -- keys -------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        return self._store.state.revision

    @property
    def compacted_revision(self) -> int:
        return self._store.state.compacted_revision

    def get(self, key: bytes, revision: int = 0) -> KeyValue | None:
        """Raises RevisionCompacted, RevisionInFuture."""
        state = self._store.state
        if self.touched is not None:
            self._touch(Select(key, only(key)))
        if state.auth.enabled:
            self._check_read(state.auth, key, only(key))
        return state.get(key, revision)

    def selection(self, wanted: Select) -> SlicedSelection:
        """A range that may be long, read in slices. Raises RevisionCompacted, RevisionInFuture."""
        self._touch(wanted)
        state = self._store.state
        if state.auth.enabled:
            self._check_read(state.auth, wanted.start, wanted.end)
        return SlicedSelection(state.selection(wanted), self._turns)

    def select(self, wanted: Select) -> Selected:
        """What is known to be short, at once. Raises RevisionCompacted, RevisionInFuture."""
        self._touch(wanted)
        state = self._store.state
        if state.auth.enabled:
            self._check_read(state.auth, wanted.start, wanted.end)
        return state.select(wanted)

    def history(self, key: bytes, limit: int, revision: int = 0) -> KeyHistory:
        """Raises RevisionCompacted, RevisionInFuture."""
        self._touch(Select(key, only(key)))
        state = self._store.state
        if state.auth.enabled:
            self._check_read(state.auth, key, only(key))
        return state.history(key, limit, revision)

    def watch(self, interest: Interest, first_revision: int = 0) -> Watcher:
        """From `first_revision` on, which may be in the future; 0: from what comes next.

        The right is checked here, and again after every change of rights before anything more is
        shown: what the watcher gives raises AuthError then. Raises NotReady, Overloaded,
        RevisionCompacted, Stopping.
        """
        self.check_joined()
        self._touch(Select(interest.start, interest.end))
        self.check_watch(interest.start, interest.end)
        watcher = self._store.feed.watch(interest, first_revision)
        auth = self._store.state.auth
        checked = auth.enabled, auth.revision

        def check_right() -> None:
            nonlocal checked
            auth = self._store.state.auth
            if checked != (auth.enabled, auth.revision):
                self.check_watch(interest.start, interest.end)
                checked = auth.enabled, auth.revision

        watcher.check_right = check_right
        return watcher

    def check_watch(self, start: bytes, end: bytes | None) -> None:
        """Raise unless all of that range may be watched: read, or by the scope watch."""
        auth = self._store.state.auth
        if auth.enabled and auth.scope_refusal(self.caller, Scope.WATCH) is not None:
            self._check_read(auth, start, end)

    # -- leases -----------------------------------------------------------------------------

    async def renew(self, lease: int, timeout_s: float) -> LeaseTime | None:
        """Its full time again; None if it has ended. Needs no right. Raises Unavailable."""
        return await self._store.leasing.renew(lease, timeout_s)

    async def look(self, lease: int, timeout_s: float) -> LeaseTime | None:
        """How long it has left; None if it has ended. Needs no right. Raises Unavailable."""
        return await self._store.leasing.look(lease, timeout_s)

    def lease_ttl_s(self, lease: int) -> int | None:
        """The seconds that it was granted for; None if there is none. Needs no right."""
        return self._store.state.leases.ttl_s(lease)

    async def lease_pieces(
        self, limit: int | None = None, after: int | None = None
    ) -> AsyncIterator[list[LeaseTtl]]:
        """(id, seconds granted) of the first leases behind `after` (`limit` None: of all), in
        slices, none of them empty. Needs no right."""
        while limit is None or limit > 0:
            most = LEASES_PER_SLICE if limit is None else min(limit, LEASES_PER_SLICE)
            piece = list(islice(self._store.state.leases.all(after), most))
            if piece:
                yield piece
            if len(piece) < most:
                return
            after = piece[-1][0]
            limit = None if limit is None else limit - most
            await self.rest()

    async def lease_keys(self, lease: int) -> list[bytes]:
        """The keys that end with it, for who may read each of them."""
        state = self._store.state
        keys = state.leases.keys(lease)
        if state.auth.enabled:
            for at, key in enumerate(keys, 1):
                self._check_read(state.auth, key, only(key))
                if at % RIGHTS_PER_SLICE == 0:
                    await self.rest()
        return keys

    # -- the node and the cluster -----------------------------------------------------------

    def status(self) -> ReplicaStatus:
        """What this node knows of itself and of the cluster. Needs no right."""
        return self._store.status()

    @property
    def leader_absence(self) -> LeaderAbsence:
        """Whether this node has been without a leader for long. Needs no right."""
        return self._store.leader_absence

    @property
    def recent(self) -> Recorder:
        """What this node's consensus did lately. Needs no right: it holds no keys and no values;
        `slot_value` has those."""
        return self._store.recorder

    def slot_value(self, slot: Slot) -> bytes | None:
        """What the log of this node holds in a slot, None if nothing, or if it does not know yet
        who may see it; for administrators."""
        self._check_root()
        if not self._store.joined:
            return None
        node = self._store.recorder.node
        entry = None if node is None else node.acceptor.log.get(slot)
        return None if entry is None else entry.value

    @property
    def log_lines_dropped(self) -> int:
        """Of this process's log. Needs no right."""
        return int(self._store.metrics.gauges().get("log_lines_dropped", 0))

    @property
    def metrics(self) -> CollectorRegistry:
        """What Prometheus sees of this process. Needs no right."""
        return self._store.metrics.registry

    @property
    def failure(self) -> str:
        """Why this node had to stop by itself; "" while it runs. Needs no right."""
        return self._store.failure

    def check_running(self) -> None:
        """Raises Stopping if this node has failed or is shutting down."""
        self._store.check_running()

    async def hand_over(self, to: int | None, timeout_s: float) -> int:
        """As leader, make `to` (None: the follower that is furthest on) lead; who leads then.
        Takes the scope cluster. Raises NoQuorum."""
        self._check_scope(Scope.CLUSTER)
        self._touch(LeadershipMove(to))
        return await self._store.hand_over(to, timeout_s)

    # -- members ----------------------------------------------------------------------------

    async def change_members(
        self, change: MemberChange, expected: int, timeout_s: float, *, dry_run: bool = False
    ) -> MembersChanged:
        """Make `change` if configuration `expected` (-1: any) is the present one, and wait until
        what it leads to governs, or the time is up. `dry_run`: only say what it would lead over.

        Takes the scope cluster, but for who joins with a token. Raises MemberNotFound,
        MembershipConflict or JoinDenied, NotReady while a member runs a release that cannot follow,
        Unavailable or OutcomeUnknown.
        """
        if not (isinstance(change, AddMember) and change.token):
            self._check_scope(Scope.CLUSTER)
        if dry_run:
            return await reconfiguration.rehearse(self._store, change, expected, timeout_s)
        self._touch(Reconfigure(change, expected))  # it may be refused before it is submitted
        return await reconfiguration.reconfigure(
            self._store, self.submit, change, expected, timeout_s
        )

    async def until_it_votes(self, member: int, timeout_s: float) -> bool:
        """Wait until `member` votes; whether that came in time. Needs no right. Raises Stopping."""
        return await reconfiguration.until_it_votes(self._store, member, timeout_s)

    async def issue_token(self, token: bytes, ttl_s: int, uses: int, timeout_s: float) -> JoinToken:
        """Let whoever shows a token with this hash join, `uses` times in all. Takes the scope
        cluster. Raises like `change_members`."""
        self._check_scope(Scope.CLUSTER)
        return await reconfiguration.issue_token(
            self._store, self.submit, token, ttl_s, uses, timeout_s
        )

    def join_tokens(self) -> tuple[JoinToken, ...]:
        """The tokens for joining, those that ended lately included. Takes the scope cluster."""
        self._check_scope(Scope.CLUSTER)
        return self._store.state.members.record.tokens

    @property
    def roster(self) -> Roster | None:
        """Who the members are, as links know them; None until the cluster has formed."""
        return self._store.roster

    # -- backups ----------------------------------------------------------------------------

    def backup_marks(self) -> dict[str, BackupMark]:
        """What backups have said of themselves, by name. Takes the scope backup."""
        self._check_scope(Scope.BACKUP)
        return self.known_backups()

    def known_backups(self) -> dict[str, BackupMark]:
        """The same, to be told without their places. Needs no right."""
        return marks_in(self._store.state.select)

    async def set_backup_mark(self, name: str, mark: BackupMark | None, timeout_s: float) -> None:
        """Replace what one has said, or forget it: in the cluster's own name, for who makes backups
        may write no keys. Takes the scope backup. Raises like `submit`."""
        self._check_scope(Scope.BACKUP)
        key = key_of(name)
        command = Delete(key) if mark is None else Put(key, msgspec.json.encode(mark))
        self._touch(command)
        named = AsUser(ITSELF, 0, command) if self.auth_enabled else command
        result = await self._store.submit(named, timeout_s)
        if isinstance(result, AuthRefused):
            raise auth_error(result.reason)

    # -- the node's data --------------------------------------------------------------------

    @property
    def digest(self) -> bytes:
        """Of all that was ever applied here. Takes the scope cluster."""
        self._check_scope(Scope.CLUSTER)
        return self._store.state.digest

    async def copy_state(self, path: Path) -> None:
        """Write a consistent copy of the last checkpoint to `path`, without the secret that signs
        tokens. Takes the scope backup.

        Raises OSError, lmdb.Error.
        """
        self._check_scope(Scope.BACKUP)
        await self._store.copy_state(path)
        await asyncio.to_thread(strip_secret, path)


def _pass_on(source: "asyncio.Future[Result]", to: "asyncio.Future[Result]") -> None:
    """What `source` gives is what `to` gives, unless nobody waits for that any more."""

    def done(source: "asyncio.Future[Result]") -> None:
        error = source.exception()
        if to.done():
            return
        if error is None:
            to.set_result(source.result())
        else:
            to.set_exception(error)

    source.add_done_callback(done)
