"""`/v1/cluster/authority` and `/v1/cluster/certificates`: nodes get what they show from one that
holds the authority's key.

A node's first certificate comes with its joining (`http_api.v1.joining`); a later one it asks for
by showing the one before.
"""

import asyncio
import math
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.responses import Answer, json_answer
from http_api.v1.kv import BODY_PROBLEMS
from kvstore.certificates.node_names import NodeName, names_shown
from kvstore.errors import JoinDenied, NotReady
from kvstore.peers.roster import RosterMember

BODY_BYTES_MAX = 32 << 10
REQUEST_CHARACTERS_MAX = 8192
HOSTS_MAX = 64
RequestText = Annotated[str, Meta(max_length=REQUEST_CHARACTERS_MAX)]
Hosts = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=253)], ...],
                  Meta(max_length=HOSTS_MAX)]  # fmt: skip
NOT_HERE = (
    "the key of the cluster's authority is not at this node: ask the first one, or one with its "
    "ca-dir"
)


class CertificateRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`request`: PKCS #10 in PEM. `hosts`: names and addresses by which clients reach the node."""

    request: RequestText
    hosts: Hosts


async def authority(ask: Ask[None]) -> Answer:
    """Whose certificates this cluster's nodes show. Not a secret."""
    own = ask.facilities.certificates
    if own is None:
        raise NotReady("this node makes no certificates by itself (tls)")
    text = await asyncio.to_thread(own.authority_file.read_text)
    return json_answer({"authority": text})


async def renew(ask: Ask[CertificateRequest]) -> Answer:
    """A certificate for the member that the connection's certificate names."""
    asked = await ask.read()
    found = member_shown(ask)
    if found is None:
        raise JoinDenied("the connection shows no certificate of a member of this cluster")
    member, cluster = found
    name = NodeName(member.id, cluster, member.incarnation)
    return json_answer(await signed(ask, asked.request, asked.hosts, name))


async def signed(
    ask: Ask[Any], request: str, hosts: tuple[str, ...], name: NodeName, days_max: float = math.inf
) -> dict[str, str]:
    """The fields of an answer with a certificate. Raises NotReady, InvalidArgument."""
    own = must_sign(ask)
    chain = await asyncio.to_thread(own.sign, request.encode(), name, list(hosts), days_max)
    text = await asyncio.to_thread(own.authority_file.read_text)
    return {"certificate": chain.decode(), "authority": text}


def must_sign(ask: Ask[Any]) -> Any:
    """What signs here. Raises NotReady."""
    own = ask.facilities.certificates
    if own is None or not own.signs:
        raise NotReady(NOT_HERE)
    return own


def member_shown(ask: Ask[Any]) -> tuple[RosterMember, str] | None:
    """Whom the connection's certificate names, if that is a member now, and the cluster."""
    roster = ask.session.roster
    for name in names_shown(ask.request.transport) or ():
        if roster is None or name.cluster not in ("", roster.cluster_id):
            continue
        by = roster.of_incarnation(name.incarnation) if name.incarnation else roster.find(name.node)
        if by is not None:
            return by, roster.cluster_id
    return None


CERTIFICATE = {
    "certificate": {"type": "string", "description": "PEM, with the authority's own after it"},
    "authority": {"type": "string", "description": "PEM"},
}
CALLS = (
    Call(
        "GET", "/v1/cluster/authority", authority, Need.OPEN,
        Doc(
            "The authority of the cluster's certificates",
            answers={
                200: {
                    "description": "Not a secret; believe it if its fingerprint is known",
                    "properties": {"authority": CERTIFICATE["authority"]},
                }
            },
            problems=(NotReady,),
        ),
    ),
    Call(
        "POST", "/v1/cluster/certificates", renew, Need.OPEN,
        Doc(
            "A later certificate for the member that the connection's names",
            answers={200: {"description": "Signed", "properties": CERTIFICATE}},
            problems=(NotReady, JoinDenied, *BODY_PROBLEMS),
        ),
        BODY_BYTES_MAX, CertificateRequest,
    ),
)  # fmt: skip
