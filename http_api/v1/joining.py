"""`/v1/cluster/members/join` and `/v1/cluster/tokens`: nodes that come by themselves.

A token is 32 random bytes, told once; the cluster keeps its hash only. Who shows one joins without
any other right.
"""

import asyncio
import hashlib
import secrets
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from http_api.core import params
from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.problems import problem
from http_api.core.responses import Answer, json_answer
from http_api.v1.certificates import BODY_BYTES_MAX as CERTIFICATE_BODY_BYTES_MAX
from http_api.v1.certificates import (
    CERTIFICATE,
    Hosts,
    RequestText,
    member_shown,
    must_sign,
    signed,
)
from http_api.v1.kv import BODY_PROBLEMS
from http_api.v1.members import (
    BODY_BYTES_MAX,
    CHANGE_PROBLEMS,
    NAME_PATTERN,
    AddressText,
    client_address,
    peer_address,
)
from kvstore.certificates.join_tokens import with_fingerprint
from kvstore.certificates.node_names import NodeName
from kvstore.commands.members import (
    MEMBER_NAME_BYTES_MAX,
    TOKEN_HASH_BYTES,
    AddMember,
    NewMember,
    RevokeToken,
)
from kvstore.commands.sound import INCARNATION_BYTES_MAX
from kvstore.errors import (
    JoinDenied,
    MemberLost,
    MembershipConflict,
    OutcomeUnknown,
    TokenNotFound,
)
from kvstore.peers.roster import Roster
from kvstore.state.members_record import JoinToken

TOKEN_BYTES = 32
DAYS_WITHOUT_ID = 1.0
"""A certificate without an id is good for being taken in, also for who was removed meanwhile."""
TOKEN_CHARACTERS_MAX = 256
TTL_S_DEFAULT, TTL_S_MAX = 3600, 366 * 24 * 3600
USES_MAX = 1000
ID_DIGITS = 16
JoiningName = Annotated[str, Meta(pattern=f"^$|{NAME_PATTERN}", max_length=MEMBER_NAME_BYTES_MAX)]


class JoinRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`name`: the cluster finds one if it is empty. `incarnation`: what the node's data
    directory drew. `learner`: it is not to become a voter by itself. `request`: for a certificate,
    in PEM; `hosts`: by which clients reach the node."""

    token: Annotated[str, Meta(min_length=1, max_length=TOKEN_CHARACTERS_MAX)]
    peer_address: AddressText
    client_address: AddressText
    incarnation: Annotated[str, Meta(min_length=1, max_length=INCARNATION_BYTES_MAX)]
    name: JoiningName = ""
    learner: bool = False
    request: RequestText = ""
    hosts: Hosts = ()


class TokenRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`ttl_s`: seconds that it is good for. `uses`: how many nodes may join with it."""

    ttl_s: Annotated[int, Meta(ge=1, le=TTL_S_MAX)] = TTL_S_DEFAULT
    uses: Annotated[int, Meta(ge=1, le=USES_MAX)] = 1


def token_hash(token: str) -> bytes:
    """What the cluster keeps of a token."""
    return hashlib.blake2b(token.encode(), digest_size=TOKEN_HASH_BYTES).digest()


def token_id(token: bytes) -> str:
    """By which a token is named once it has been told: the begin of its hash."""
    return token.hex()[:ID_DIGITS]


# -- handlers -------------------------------------------------------------------------------


async def join(ask: Ask[JoinRequest]) -> Answer:
    """Take a node in that shows a token; it is a learner first."""
    timeout_s = params.timeout(ask.options(), ask.config)
    asked = await ask.read()
    if asked.request:
        must_sign(ask)
    new = NewMember(
        asked.name,
        peer_address(asked.peer_address),
        client_address(asked.client_address),
        asked.incarnation,
        promote=not asked.learner,
    )
    try:
        change = AddMember(new, token_hash(asked.token))
        done = await ask.session.change_members(change, -1, timeout_s)
    except MembershipConflict as conflict:
        roster = ask.session.roster
        if roster is None or conflict.reason not in ("name-taken", "address-taken"):
            raise
        return await _lost(ask, asked, conflict, roster)
    roster = ask.session.roster
    if roster is None or roster.find(done.member) is None:
        raise OutcomeUnknown("the node was taken in, and this one does not know it yet; ask again")
    document = {
        "id": done.member,
        "cluster_id": roster.cluster_id,
        "roster": msgspec.to_builtins(roster),
    }
    if asked.request:
        name = NodeName(done.member, roster.cluster_id, asked.incarnation)
        document |= await signed(ask, asked.request, asked.hosts, name)
    return json_answer(document, 201)


async def _lost(
    ask: Ask[JoinRequest], asked: JoinRequest, conflict: MembershipConflict, roster: Roster
) -> Answer:
    error = MemberLost(
        f"{conflict}: if this node is that member and its disk was lost, it is taken in again in "
        "its place when it asks the members at their peer addresses"
    )
    places = {str(one.id): one.peer_address for one in roster.members if one.peer_address}
    more: dict[str, Any] = {"places": places}
    if asked.request and (_was_it(ask, asked) or _is_good(ask, token_hash(asked.token))):
        # It has no id until it is taken in, and then asks again.
        name = NodeName(0, roster.cluster_id, asked.incarnation)
        more |= await signed(ask, asked.request, asked.hosts, name, DAYS_WITHOUT_ID)
    return problem(error, more=more)


def _was_it(ask: Ask[JoinRequest], asked: JoinRequest) -> bool:
    """Whether the connection's certificate is that of the member whose place is asked for."""
    found = member_shown(ask)
    return found is not None and (
        found[0].name == asked.name or found[0].peer_address == peer_address(asked.peer_address)
    )


def _is_good(ask: Ask[JoinRequest], token: bytes) -> bool:
    """Whether a node could still join with it."""
    now_ms = ask.session.status().clock_ms
    return any(
        one.token == token and one.uses > 0 and one.expires_ms > now_ms
        for one in ask.session.join_tokens()
    )


async def create(ask: Ask[TokenRequest]) -> Answer:
    """A new token. It is told this once."""
    timeout_s = params.timeout(ask.options(), ask.config)
    wanted = await ask.read()
    token = secrets.token_urlsafe(TOKEN_BYTES)
    issued = await ask.session.issue_token(token_hash(token), wanted.ttl_s, wanted.uses, timeout_s)
    own = ask.facilities.certificates
    if own is not None:
        token = with_fingerprint(token, await asyncio.to_thread(own.fingerprint))
    return json_answer({"token": token, **_document(issued, ask.session.status().clock_ms)}, 201)


async def listed(ask: Ask[None]) -> Answer:
    """All tokens, those that have ended lately included; not what they are."""
    timeout_s = params.timeout(ask.options(), ask.config)
    await ask.session.read_barrier(timeout_s)
    now_ms = ask.session.status().clock_ms
    tokens = [_document(one, now_ms) for one in ask.session.join_tokens()]
    return json_answer({"tokens": tokens})


async def revoke(ask: Ask[None]) -> Answer:
    """End a token at once."""
    timeout_s = params.timeout(ask.options(), ask.config)
    await ask.session.read_barrier(timeout_s)
    wanted = params.percent_decode(ask.parameter, "token").decode("utf-8", "replace")
    found = (one for one in ask.session.join_tokens() if token_id(one.token) == wanted)
    held = next(found, None)
    if held is None:
        raise TokenNotFound(wanted[:80])
    try:
        await ask.session.change_members(RevokeToken(held.token), -1, timeout_s)
    except JoinDenied:
        raise TokenNotFound(wanted) from None  # somebody else was faster
    return json_answer({"id": wanted})


def _document(token: JoinToken, now_ms: int) -> dict[str, Any]:
    left_s = max(token.expires_ms - now_ms, 0) / 1000
    return {"id": token_id(token.token), "left_s": left_s, "uses": token.uses}


# -- rows -----------------------------------------------------------------------------------

_TOKEN = {
    "id": {"type": "string", "description": "The first 16 hexadecimal digits of its BLAKE2b-256"},
    "left_s": {
        "type": "number",
        "description": "Seconds left, by the log's clock",
    },
    "uses": {"type": "integer", "description": "How many nodes may still join with it"},
}
_JOIN = Doc(
    "Join with a token",
    query=("timeout",),
    answers={
        201: {
            "description": "Taken in, as a learner; `roster` is what its links need to know",
            "properties": {
                "id": {"type": "integer", "description": "The new member's"},
                "cluster_id": {"type": "string"},
                "roster": {"type": "array", "description": "Id, number, last id and members"},
                **CERTIFICATE,
            },
        }
    },
    problems=(JoinDenied, MemberLost, *CHANGE_PROBLEMS, *BODY_PROBLEMS),
)
_CREATE = Doc(
    "Make a token with which nodes may join",
    query=("timeout",),
    answers={
        201: {
            "description": "Made; the token is told this once",
            "properties": {"token": {"type": "string"}, **_TOKEN},
        }
    },
    problems=(*CHANGE_PROBLEMS, *BODY_PROBLEMS),
)
_LIST = Doc(
    "The tokens for joining",
    query=("timeout",),
    answers={
        200: {
            "description": "Not what they are",
            "properties": {
                "tokens": {"type": "array", "items": {"type": "object", "properties": _TOKEN}}
            },
        }
    },
    problems=CHANGE_PROBLEMS,
)
_REVOKE = Doc(
    "End a token",
    query=("timeout",),
    answers={200: {"description": "Ended", "properties": {"id": {"type": "string"}}}},
    problems=(TokenNotFound, *CHANGE_PROBLEMS),
)
_TOKENS = "/v1/cluster/tokens"

CALLS = (
    Call(
        "POST", "/v1/cluster/members/join", join, Need.OPEN, _JOIN,
        CERTIFICATE_BODY_BYTES_MAX, JoinRequest,
    ),
    Call(
        "POST", _TOKENS, create, Need.CLUSTER, _CREATE,
        BODY_BYTES_MAX, TokenRequest, empty_body=True,
    ),
    Call("GET", _TOKENS, listed, Need.CLUSTER, _LIST),
    Call("DELETE", "/v1/cluster/tokens/{token}", revoke, Need.CLUSTER, _REVOKE),
)  # fmt: skip
