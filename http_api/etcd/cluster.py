"""`cluster/member/...`: the members, and changes of them in etcd's terms."""

from typing import Any
from urllib.parse import urlsplit

from http_api.core.calls import Need
from http_api.etcd.calls import EtcdAsk, unary
from http_api.etcd.encode import document
from http_api.etcd.errors import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    NOT_FOUND,
    EtcdError,
)
from http_api.etcd.gateway import Gateway
from http_api.etcd.messages import (
    MemberAddRequest,
    MemberListRequest,
    MemberRequest,
    MemberUpdateRequest,
)
from kvstore.commands.members import (
    AddMember,
    MemberChange,
    NewMember,
    RemoveMember,
    UpdateMember,
)
from kvstore.config import parse_address
from kvstore.errors import InvalidArgument, OutcomeUnknown
from kvstore.replica.status import MemberStatus

CLOSE_SLOTS = 64
"""A learner that lacks no more is in sync."""
LEARNERS_MAX = 1
"""As etcd's default has it; the native API lets there be more."""
_ANY_HOST = frozenset(("0.0.0.0", "::"))


def client_url(listening: str, peer_host: str) -> str:
    """The URL at which clients reach a member that says it listens at `listening`; if that is
    every interface, then they use the host by which its peers know it."""
    scheme, _, address = listening.partition("://")
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if host in _ANY_HOST:
        host = peer_host
    return f"{scheme}://{_shown(host)}:{port}"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _peer_url(member: MemberStatus) -> str:
    return f"http://{member.peer_address}"


def _document(gateway: Gateway, member: MemberStatus) -> dict[str, Any]:
    """A member. One that has not come yet has no name, and neither has one that this node never
    met client URLs."""
    found = member.client_address if member.kind != "expected" else None
    urls = []
    if found:
        peer_host, _ = parse_address(member.peer_address or ":0", "peer address")
        urls = [client_url(found, peer_host)]
    return document(
        ID=gateway.member_id(member.id),
        name="" if member.kind == "expected" else member.name,
        peerURLs=[_peer_url(member)] if member.peer_address else [],
        clientURLs=urls,
        isLearner=member.kind != "voter" and not member.promote,
    )


def _members(ask: EtcdAsk[Any]) -> list[dict[str, Any]]:
    """Every member, by its id here."""
    found = [_document(ask.gateway, each) for each in ask.session.status().members]
    return sorted(found, key=lambda each: int(each.get("ID", 0)))


async def member_list(ask: EtcdAsk[MemberListRequest]) -> dict[str, Any]:
    """cluster/member/list."""
    if ask.message.linearizable:
        await ask.barrier()
    return document(header=ask.header(0), members=_members(ask))


def _member(ask: EtcdAsk[Any], member_id: int) -> MemberStatus:
    node = ask.gateway.node_of(member_id)
    for member in ask.session.status().members:
        if member.id == node:
            return member
    raise EtcdError(NOT_FOUND, "etcdserver: member not found")


def _checked_url(urls: list[str]) -> str:
    """The address of the only one; etcd lets a member have several."""
    if not urls or not all(map(_is_peer_url, urls)):
        raise EtcdError(INVALID_ARGUMENT, "etcdserver: given member URLs are invalid")
    if len(urls) > 1:
        raise EtcdError(INVALID_ARGUMENT, "etcdserver: a member has one peer URL here")
    return urls[0].partition("://")[2]


def _is_peer_url(url: str) -> bool:
    """As etcd checks them: scheme, host and port, and no path."""
    try:
        parts = urlsplit(url)
        address = parse_address(parts.netloc, "peerURLs")
    except (ValueError, InvalidArgument):
        return False
    whole = f"{parts.scheme}://{parts.netloc}" == url
    host = address[0]
    return parts.scheme in ("http", "https") and whole and host.isprintable() and " " not in host


async def _change(ask: EtcdAsk[Any], change: MemberChange) -> int:
    """The member that it was about."""
    return (await ask.session.change_members(change, -1, ask.gateway.timeout_s)).member


async def member_add(ask: EtcdAsk[MemberAddRequest]) -> dict[str, Any]:
    """cluster/member/add. Whoever is to vote is a learner first, too, and does not vote before it
    is close."""
    address = _checked_url(ask.message.peer_urls)
    await ask.barrier()
    members = ask.session.status().members
    taken = any(member.peer_address == address for member in members)
    learners = [each for each in members if each.kind != "voter" and not each.promote]
    if ask.message.is_learner and len(learners) >= LEARNERS_MAX and not taken:
        raise EtcdError(FAILED_PRECONDITION, "etcdserver: too many learner members in cluster")
    new = NewMember("", address, promote=not ask.message.is_learner)
    added = await _change(ask, AddMember(new))
    found = (each for each in ask.session.status().members if each.id == added)
    member = next(found, None)
    if member is None:
        raise OutcomeUnknown("the member was added, and this node does not know it yet")
    told = _document(ask.gateway, member)
    return document(header=ask.header(0), member=told, members=_members(ask))


async def member_remove(ask: EtcdAsk[MemberRequest]) -> dict[str, Any]:
    """cluster/member/remove."""
    await ask.barrier()
    await _change(ask, RemoveMember(_member(ask, ask.message.id).id))
    return document(header=ask.header(0), members=_members(ask))


async def member_update(ask: EtcdAsk[MemberUpdateRequest]) -> dict[str, Any]:
    """cluster/member/update."""
    await ask.barrier()
    member = _member(ask, ask.message.id)
    address = _checked_url(ask.message.peer_urls)
    if address != member.peer_address:
        await _change(ask, UpdateMember(member.id, peer_address=address))
    return document(header=ask.header(0), members=_members(ask))


async def member_promote(ask: EtcdAsk[MemberRequest]) -> dict[str, Any]:
    """cluster/member/promote: once it has a vote. Whether it is close the leader knows; elsewhere
    it is waited for."""
    await ask.barrier()
    member = _member(ask, ask.message.id)
    if member.kind == "voter":
        raise EtcdError(FAILED_PRECONDITION, "etcdserver: can only promote a learner member")
    leads = ask.session.status().role == "leader"
    far = leads and (member.lag is None or member.lag > CLOSE_SLOTS or not member.connected)
    if member.kind == "expected" or far:
        raise EtcdError(
            FAILED_PRECONDITION,
            "etcdserver: can only promote a learner member which is in sync with leader",
        )
    await _change(ask, UpdateMember(member.id, promote=True))
    if not await ask.session.until_it_votes(member.id, ask.gateway.timeout_s):
        raise OutcomeUnknown("the member does not vote yet; it will once it is close")
    return document(header=ask.header(0), members=_members(ask))


CALLS = (
    unary(
        "cluster/member/list", MemberListRequest, member_list, Need.OPEN,
        "Every member, and where clients and peers reach it.",
    ),
    unary(
        "cluster/member/add", MemberAddRequest, member_add, Need.ROOT,
        "Expect a new member at a peer URL.",
    ),
    unary(
        "cluster/member/remove", MemberRequest, member_remove, Need.ROOT,
        "Remove a member for good.",
    ),
    unary(
        "cluster/member/update", MemberUpdateRequest, member_update, Need.ROOT,
        "Give a member another peer URL.",
    ),
    unary(
        "cluster/member/promote", MemberRequest, member_promote, Need.ROOT,
        "Make a learner that is in sync a voter.",
    ),
)  # fmt: skip
