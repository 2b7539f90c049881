"""The async client: the API's calls as methods."""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from kvstore.client import locking
from kvstore.client.answers import decode
from kvstore.client.attempts import Request
from kvstore.client.keys import PAGE_ITEMS
from kvstore.client.leasing import Lease, LeaseCalls
from kvstore.client.locking import LOCK_TTL_S, Leadership, Lock
from kvstore.client.membership import MemberCalls, ids
from kvstore.client.requests import watch_query, whole
from kvstore.client.results import (
    ClusterMembers,
    ClusterStatus,
    CompactResult,
    DeleteResult,
    Entry,
    HandOverResult,
    JoiningToken,
    LeaseStatus,
    MembersResult,
)
from kvstore.client.users import UserCalls
from kvstore.client.watching import Watch
from kvstore.errors import Unavailable

__all__ = ["PAGE_ITEMS", "Client"]


class _Forgotten(msgspec.Struct):
    forgotten: bool


class Client(UserCalls):
    """A client of one cluster. Use it from one event loop; calls may run concurrently. A forgotten
    close() leaves nothing open; after a fork the child makes its own.

    `endpoints`: base addresses of some or all nodes, a sequence or one comma-separated string; any
    node answers any call. `timeout_s`: the total deadline of a call, retries included; keep it well
    below the cluster's `idempotency_ttl_s`. `attempt_timeout_s`: when to give up on one node.
    `user` and `password`, or a `token`: who this is, where authentication is on; with a password it
    logs in when it needs to, and again when a token has ended. `ca`: a file of the authorities that
    the nodes' certificates are trusted by; `cert`: files of this client's certificate and its key,
    which prove a user too. With either, addresses without a scheme are https.

    Every write carries a random idempotency key, the same on all of its attempts, so that a retry
    after a lost answer is applied once. Keys and values are bytes; text is encoded as UTF-8.

    ::

        async with Client(["http://10.0.0.1:2379", "http://10.0.0.2:2379"]) as store:
            await store.put("counter", "1", if_absent=True)
    """

    def watch(
        self,
        key: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        from_revision: int = 0,
        previous: bool = False,
        puts: bool = True,
        deletes: bool = True,
        resume_s: float | None = None,
    ) -> Watch:
        """Changes as they happen, of one key, a prefix, a range, or all; see `Watch`.

        `from_revision`: the first that is wanted, in the past too. `previous`: with each event what
        was there before. `resume_s`: how long to look for a node after a failure.

        ::

            async for event in store.watch(prefix="users/"):
                print("deleted" if event.deleted else event.value, event.key, event.revision)
        """
        query = watch_query(key, prefix, start, end)
        options = (("previous", "true", previous), ("puts", "false", not puts),
                   ("deletes", "false", not deletes))  # fmt: skip
        query += tuple((name, text) for name, text, wanted in options if wanted)
        return Watch(self._attempts, query, from_revision, resume_s)

    def lease(
        self, ttl_s: int, *, lease_id: int | None = None, margin_s: float | None = None
    ) -> Lease:
        """A lease of `ttl_s` seconds: await it to have it, or enter it to have it kept alive.

        ::

            async with store.lease(10) as lease:
                await store.put("workers/7", "up", lease=lease.id)
                await work_until(lease.lost)
        """
        return Lease(LeaseCalls(self._attempts), ttl_s, lease_id, margin_s)

    async def leases(self) -> tuple[LeaseStatus, ...]:
        """Every lease there is; without time left and keys, see `lease_status`."""
        return await LeaseCalls(self._attempts).all()

    async def lease_status(self, lease: int) -> LeaseStatus:
        """A lease's time left and its keys. Raises LeaseNotFound."""
        return await LeaseCalls(self._attempts).status(lease)

    async def keep_alive(self, lease: int) -> LeaseStatus:
        """Give a lease its full time again. Raises LeaseNotFound."""
        return await LeaseCalls(self._attempts).keep_alive(lease)

    async def revoke(self, lease: int) -> DeleteResult:
        """End a lease; its keys are deleted. Raises LeaseNotFound."""
        return await LeaseCalls(self._attempts).revoke(lease)

    def lock(
        self,
        name: str | bytes,
        *,
        ttl_s: int = LOCK_TTL_S,
        wait_s: float | None = None,
        margin_s: float | None = None,
    ) -> Lock:
        """A lock, held for the block; whoever asked first has it first.

        `ttl_s`: how long it stays held if this process dies. `wait_s`: raise NotAcquired if it is
        not free by then; None waits for ever. `margin_s`: how long before the lock can be another's
        it is lost here. See `Turn` for what happens then.

        ::

            async with store.lock("reports") as lock:
                await store.txn(lock.held, then=[put("report", "done")])
        """
        return Lock(self, name, b"", self.lease(ttl_s, margin_s=margin_s), wait_s)

    def elect(
        self,
        name: str | bytes,
        value: str | bytes,
        *,
        ttl_s: int = LOCK_TTL_S,
        wait_s: float | None = None,
        margin_s: float | None = None,
    ) -> Leadership:
        """Stand for election under `name`; the block runs while this one leads. See `lock`.

        ::

            async with store.elect("scheduler", "host-7") as leadership:
                await schedule()
        """
        return Leadership(self, name, value, self.lease(ttl_s, margin_s=margin_s), wait_s)

    async def leader(self, name: str | bytes) -> Entry | None:
        """The key of who leads `name` now, or who holds the lock; its value is what was said."""
        return (await locking.leader(self, name))[0]

    def observe(self, name: str | bytes) -> AsyncIterator[Entry]:
        """Who leads `name`: now, and whenever it is somebody else or says something else."""
        return locking.observe(self, name)

    async def status(self, endpoint: str | None = None) -> ClusterStatus:
        """The cluster as a node sees it: that of `endpoint`, asked once, or any that answers."""
        request = Request("GET", "/v1/cluster")
        if endpoint is None:
            answer = await self._attempts.send(request)
        else:
            answer = await self._attempts.send_once(endpoint, request, self._timeout_s)
        status = decode(answer.body, ClusterStatus, Unavailable)
        asked = self.endpoints[self._attempts.preferred] if endpoint is None else endpoint
        self._learning.told(asked, status)
        return status

    async def fetch(self, path: str, endpoint: str | None = None) -> bytes:
        """The body that a GET of the API answers, for calls that have no method here, such as
        `/v1/overview`: of `endpoint`, asked once, or of any that answers."""
        request = Request("GET", path)
        if endpoint is None:
            return (await self._attempts.send(request)).body
        return (await self._attempts.send_once(endpoint, request, self._timeout_s)).body

    async def report_backup(self, name: str, mark: Mapping[str, Any]) -> None:
        """Say how far the backup of this name is; see `PUT /v1/backups/{name}`."""
        await self._send("PUT", f"/v1/backups/{quote(name, safe='')}", mark)

    async def forget_backup(self, name: str) -> bool:
        """Forget what the backup of this name said; whether there was anything."""
        answer = await self._send("DELETE", f"/v1/backups/{quote(name, safe='')}")
        return decode(answer.body, _Forgotten).forgotten

    async def compact(self, revision: int) -> CompactResult:
        """Give up history below `revision`, on all nodes."""
        answer = await self._post(
            "/v1/compact", {"revision": whole(revision, "revision")}, once=True
        )
        return decode(answer.body, CompactResult)

    async def hand_over(self, to: int | None = None) -> HandOverResult:
        """Make node `to` the leader, or whichever the leader finds fit.

        Only the leader can, so it must be among the endpoints. Nothing happens if `to` leads.
        """
        if to is not None and (leader := (await self.status()).leader) and leader.id == to:
            return HandOverResult(to)
        answer = await self._post(
            "/v1/cluster/handover", {} if to is None else {"to": whole(to, "to")}
        )
        return decode(answer.body, HandOverResult)

    async def members(self) -> ClusterMembers:
        """The members as a node sees them, and who votes."""
        found = await MemberCalls(self._attempts).members()
        self._learning.told(self.endpoints[self._attempts.preferred], None)
        return found

    async def add_member(
        self,
        name: str,
        peer_address: str,
        *,
        client_address: str | None = None,
        learner: bool = False,
        replaces: int | None = None,
        expected: int | None = None,
        dry_run: bool = False,
    ) -> MembersResult:
        """Expect a node of this name at this peer address: a learner first, then a voter, unless
        `learner`. `replaces`: the id of the member that goes when it votes.

        Of all changes: `expected` is the number of the configuration that it is made from, so that
        of two operators one hears the other's; `dry_run` says what it would lead over, and does
        nothing. Raises MemberNotFound, MembershipConflict, OutcomeUnknown. It waits for what it
        leads to, within the client's `timeout_s`; `configuration.under_way` says if that was late.

        ::

            await store.add_member("node4", "10.0.0.4:2380")
        """
        document: dict[str, Any] = {"name": name, "peer_address": peer_address, "learner": learner}
        if client_address is not None:
            document["client_address"] = client_address
        if replaces is not None:
            document["replaces"] = whole(replaces, "replaces")
        return await MemberCalls(self._attempts).add(document, expected, dry_run)

    async def remove_member(
        self, member: int | str, *, expected: int | None = None, dry_run: bool = False
    ) -> MembersResult:
        """Remove a member, by id or name, for good; see `add_member`. If it leads, another leads
        first."""
        return await MemberCalls(self._attempts).remove(member, expected, dry_run)

    async def promote_member(
        self, member: int | str, *, expected: int | None = None, dry_run: bool = False
    ) -> MembersResult:
        """Make a learner a voter, once it is close behind; see `add_member`. It may still be a
        learner when the time is up: `member.kind` says so."""
        document = {"voter": True}
        return await MemberCalls(self._attempts).update(member, document, expected, dry_run)

    async def update_member(
        self,
        member: int | str,
        *,
        name: str | None = None,
        peer_address: str | None = None,
        client_address: str | None = None,
        expected: int | None = None,
        dry_run: bool = False,
    ) -> MembersResult:
        """Give a member another name or address; see `add_member`."""
        given = {"name": name, "peer_address": peer_address, "client_address": client_address}
        document = {field: text for field, text in given.items() if text is not None}
        return await MemberCalls(self._attempts).update(member, document, expected, dry_run)

    async def set_configuration(
        self,
        voters: Iterable[int],
        learners: Iterable[int] | None = None,
        *,
        phase1: int = 0,
        phase2: int = 0,
        force: bool = False,
        expected: int | None = None,
        dry_run: bool = False,
    ) -> MembersResult:
        """From any voters and quorum sizes to any others; see `add_member`. A size of 0 is the
        usual one. Without `learners` nobody goes: all others stay, as learners. `force` replaces a
        change that is under way and cannot be completed.

        ::

            await store.set_configuration([1, 2, 3, 4, 5], phase1=4, phase2=2)
        """
        document: dict[str, Any] = {"voters": ids(voters, "voters"), "force": force}
        document |= {"phase1": whole(phase1, "phase1"), "phase2": whole(phase2, "phase2")}
        if learners is not None:
            document["learners"] = ids(learners, "learners")
        return await MemberCalls(self._attempts).configure(document, expected, dry_run)

    async def create_token(self, *, ttl_s: int = 3600, uses: int = 1) -> JoiningToken:
        """A token with which `uses` nodes may join. It is told this once."""
        return await MemberCalls(self._attempts).create_token(ttl_s, uses)

    async def tokens(self) -> tuple[JoiningToken, ...]:
        """The tokens for joining; not what they are."""
        return await MemberCalls(self._attempts).tokens()

    async def revoke_token(self, token: str) -> None:
        """End a token, by its id. Raises TokenNotFound."""
        await MemberCalls(self._attempts).revoke_token(token)
