"""`cluster/member/...`: the members; what would change them is refused in etcd's terms."""

from typing import Any
from urllib.parse import urlsplit

from http_api.core.calls import Need
from http_api.etcd.calls import EtcdAsk, unary
from http_api.etcd.encode import document
from http_api.etcd.errors import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    NOT_FOUND,
    UNIMPLEMENTED,
    EtcdError,
)
from http_api.etcd.gateway import Gateway
from http_api.etcd.messages import (
    MemberAddRequest,
    MemberListRequest,
    MemberRequest,
    MemberUpdateRequest,
)

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


def _peer_url(gateway: Gateway, node: int) -> str:
    host, port = gateway.config.members[node]
    return f"http://{_shown(host)}:{port}"


def _members(ask: EtcdAsk[Any]) -> list[dict[str, Any]]:
    """Every member; one that this node never met has no client URLs."""
    gateway = ask.gateway
    listening = {each.id: each.client_address for each in ask.session.status().members}
    found = []
    for node, (peer_host, _) in sorted(gateway.config.members.items()):
        address = listening.get(node)
        found.append(
            document(
                ID=gateway.member_id(node),
                name=f"node{node}",
                peerURLs=[_peer_url(gateway, node)],
                clientURLs=[client_url(address, peer_host)] if address else [],
            )
        )
    return found


async def member_list(ask: EtcdAsk[MemberListRequest]) -> dict[str, Any]:
    """cluster/member/list. Members are configured, so every node always knows them all."""
    if ask.message.linearizable:
        await ask.barrier()
    return document(header=ask.header(0), members=_members(ask))


def _node_of(gateway: Gateway, member_id: int) -> int:
    node = gateway.node_of(member_id)
    if node is None:
        raise EtcdError(NOT_FOUND, "etcdserver: member not found")
    return node


def _check_urls(urls: list[str]) -> None:
    """As etcd checks them: scheme, host and port, and no path."""
    if not urls or not all(map(_is_peer_url, urls)):
        raise EtcdError(INVALID_ARGUMENT, "etcdserver: given member URLs are invalid")


def _is_peer_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and port is not None and not parts.path


def _unsupported() -> EtcdError:
    return EtcdError(UNIMPLEMENTED, "etcdserver: the members of a running cluster are fixed")


async def member_add(ask: EtcdAsk[MemberAddRequest]) -> dict[str, Any]:
    """cluster/member/add."""
    _check_urls(ask.message.peer_urls)
    taken = {_peer_url(ask.gateway, node) for node in ask.gateway.config.members}
    if taken & set(ask.message.peer_urls):
        raise EtcdError(FAILED_PRECONDITION, "etcdserver: Peer URLs already exists")
    raise _unsupported()


async def member_remove(ask: EtcdAsk[MemberRequest]) -> dict[str, Any]:
    """cluster/member/remove."""
    _node_of(ask.gateway, ask.message.id)
    raise _unsupported()


async def member_update(ask: EtcdAsk[MemberUpdateRequest]) -> dict[str, Any]:
    """cluster/member/update; what changes nothing succeeds."""
    node = _node_of(ask.gateway, ask.message.id)
    _check_urls(ask.message.peer_urls)
    if ask.message.peer_urls != [_peer_url(ask.gateway, node)]:
        raise _unsupported()
    return document(header=ask.header(0), members=_members(ask))


async def member_promote(ask: EtcdAsk[MemberRequest]) -> dict[str, Any]:
    """cluster/member/promote: there are no learners."""
    _node_of(ask.gateway, ask.message.id)
    raise EtcdError(FAILED_PRECONDITION, "etcdserver: can only promote a learner member")


CALLS = (
    unary(
        "cluster/member/list", MemberListRequest, member_list, Need.NAMED,
        "Every member, and where clients and peers reach it.",
    ),
    unary(
        "cluster/member/add", MemberAddRequest, member_add, Need.ROOT,
        "Refused: the members of a running cluster are fixed.",
    ),
    unary(
        "cluster/member/remove", MemberRequest, member_remove, Need.ROOT,
        "Refused: the members of a running cluster are fixed.",
    ),
    unary(
        "cluster/member/update", MemberUpdateRequest, member_update, Need.ROOT,
        "Give a member its own URLs; others are refused.",
    ),
    unary(
        "cluster/member/promote", MemberRequest, member_promote, Need.ROOT,
        "Refused: there are no learners.",
    ),
)  # fmt: skip
