"""The calls of `/v1/cluster` that show and change the members."""

import asyncio
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import msgspec

from kvstore.client.answers import decode
from kvstore.client.attempts import Attempts, Request
from kvstore.client.requests import Pairs, whole
from kvstore.client.results import ClusterMembers, JoiningToken, MembersResult
from kvstore.client.verdict import HttpReply
from kvstore.errors import InvalidArgument, KvError, NoQuorum, OutcomeUnknown, Unavailable

MEMBERS = "/v1/cluster/members"
CONFIGURATION = "/v1/cluster/configuration"
TOKENS = "/v1/cluster/tokens"
SERVER_S_MAX = 60.0
"""The longest that a node waits for a change."""
SERVER_SHARE = 0.9
ATTEMPT_S_MIN = 0.1
_JSON = (("Content-Type", "application/json"),)


class _Tokens(msgspec.Struct):
    tokens: tuple[JoiningToken, ...]


class MemberCalls:
    """Changes are not sent again after an attempt whose outcome is unknown: they have no
    idempotency key, and to remove a member twice is an error."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts

    async def members(self) -> ClusterMembers:
        """As a node knows them."""
        answer = await self._attempts.send(Request("GET", MEMBERS))
        return decode(answer.body, ClusterMembers, Unavailable)

    async def add(
        self, document: dict[str, Any], expected: int | None, dry_run: bool
    ) -> MembersResult:
        """POST."""
        query = change_query(expected, dry_run)
        return _changed(await self._send("POST", MEMBERS, query, document))

    async def remove(self, member: int | str, expected: int | None, dry_run: bool) -> MembersResult:
        """DELETE."""
        query = change_query(expected, dry_run)
        return _changed(await self._send("DELETE", member_target(member), query))

    async def update(
        self, member: int | str, document: dict[str, Any], expected: int | None, dry_run: bool
    ) -> MembersResult:
        """PATCH."""
        query = change_query(expected, dry_run)
        return _changed(await self._send("PATCH", member_target(member), query, document))

    async def configure(
        self, document: dict[str, Any], expected: int | None, dry_run: bool
    ) -> MembersResult:
        """PUT."""
        query = change_query(expected, dry_run)
        return _changed(await self._send("PUT", CONFIGURATION, query, document))

    async def create_token(self, ttl_s: int, uses: int) -> JoiningToken:
        """A token, which is told this once."""
        document = {"ttl_s": whole(ttl_s, "ttl_s"), "uses": whole(uses, "uses")}
        return decode((await self._send("POST", TOKENS, (), document)).body, JoiningToken)

    async def tokens(self) -> tuple[JoiningToken, ...]:
        """All of them."""
        answer = await self._attempts.send(Request("GET", TOKENS))
        return decode(answer.body, _Tokens, Unavailable).tokens

    async def revoke_token(self, token: str) -> None:
        """By its id. Raises TokenNotFound."""
        await self._send("DELETE", f"{TOKENS}/{quote(token, safe='')}", ())

    async def _send(
        self, method: str, target: str, query: Pairs, document: dict[str, Any] | None = None
    ) -> HttpReply:
        """To one endpoint after the other, until one does not refuse: a refusal is certain.

        Raises OutcomeUnknown at once.
        """
        attempts = self._attempts
        now_s = asyncio.get_running_loop().time
        deadline_s = now_s() + attempts.timeout_s
        body = None if document is None else msgspec.json.encode(document)
        last: KvError = NoQuorum("the deadline was over before anything was sent")
        failures = 0
        while (left_s := deadline_s - now_s()) > ATTEMPT_S_MIN:
            endpoints = attempts.endpoints
            endpoint = endpoints[(attempts.preferred + failures) % len(endpoints)]
            limit = ("timeout", f"{min(left_s * SERVER_SHARE, SERVER_S_MAX):.3f}")
            request = Request(method, target, (*query, limit), _JSON, body)
            try:
                async with attempts.connections.wanted():
                    answer = await attempts.send_once(endpoint, request, left_s)
            except Unavailable as error:
                failures, last = failures + 1, error
                pause_s = attempts.pause_s(failures, error)
                await asyncio.sleep(min(pause_s, max(deadline_s - now_s(), 0.0)))
                continue
            attempts.heard(endpoint, failures > 0)
            return answer
        raise last


def change_query(expected: int | None, dry_run: bool) -> Pairs:
    """What all changes take."""
    query: Pairs = () if expected is None else (("expected", str(whole(expected, "expected"))),)
    return (*query, ("dry_run", "true")) if dry_run else query


def member_target(member: int | str) -> str:
    """The path of a member. Raises InvalidArgument for the empty name."""
    if isinstance(member, str):
        if not member:
            raise InvalidArgument("member", "member: must not be empty")
        return f"{MEMBERS}/{quote(member, safe='')}"
    return f"{MEMBERS}/{whole(member, 'member')}"


def ids(members: Iterable[int], name: str) -> list[int]:
    """Ids as they are sent."""
    return [whole(member, name) for member in members]


def _changed(answer: HttpReply) -> MembersResult:
    return decode(answer.body, MembersResult, OutcomeUnknown)
