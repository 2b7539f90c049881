"""`lease/...`, and `kv/lease/...`, the older name of the same; `lease/keepalive` is a stream."""

import secrets
from typing import Any

import orjson
from aiohttp import web

from http_api.core.calls import Need
from http_api.core.growing import GrowingAnswer
from http_api.etcd.calls import EtcdAsk, SizeRule, download, unary
from http_api.etcd.encode import base64, document, to_json
from http_api.etcd.errors import OUT_OF_RANGE, EtcdError
from http_api.etcd.messages import (
    LeaseGrantRequest,
    LeaseLeasesRequest,
    LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
)
from kvstore.commands.commands import Grant, Revoke
from kvstore.commands.results import Granted, Revoked
from kvstore.errors import LeaseExists
from kvstore.state.lease_table import LEASE_TTL_S_MAX, LEASE_TTL_S_MIN

_ATTEMPTS = 8
"""Ids drawn at random that are all taken mean that the randomness is broken."""


async def grant(ask: EtcdAsk[LeaseGrantRequest]) -> dict[str, Any]:
    """lease/grant; id 0 asks for one."""
    if ask.message.ttl > LEASE_TTL_S_MAX:
        raise EtcdError(OUT_OF_RANGE, "etcdserver: too large lease TTL")
    ttl_s = max(ask.message.ttl, LEASE_TTL_S_MIN)
    granted = await grant_lease(ask, ask.message.id, ttl_s)
    return document(header=ask.header(granted.revision), ID=granted.lease, TTL=granted.ttl_s)


async def grant_lease(ask: EtcdAsk[Any], lease: int, ttl_s: int) -> Granted:
    """Grant `lease`; 0: one with an id drawn at random. Raises LeaseExists."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return await ask.execute(Grant(lease or _new_id(), ttl_s), Granted)
        except LeaseExists:
            if lease:
                raise
    return await ask.execute(Grant(_new_id(), ttl_s), Granted)


def _new_id() -> int:
    return secrets.randbits(63) or 1


async def revoke(ask: EtcdAsk[LeaseRevokeRequest]) -> dict[str, Any]:
    """lease/revoke."""
    revoked = await ask.execute(Revoke(ask.message.id), Revoked)
    return document(header=ask.header(revoked.revision))


async def time_to_live(ask: EtcdAsk[LeaseTimeToLiveRequest]) -> dict[str, Any]:
    """lease/timetolive; an unknown lease has a TTL of -1."""
    id = ask.message.id
    lease = await ask.session.look(id, ask.gateway.timeout_s)
    if lease is None:
        return document(header=ask.header(), ID=id, TTL=-1)
    keys: list[bytes] = []
    if ask.message.keys:
        await ask.barrier()
        keys = await ask.session.lease_keys(id)
    return document(
        header=ask.header(),
        ID=id,
        TTL=int(lease.left_s),
        grantedTTL=lease.ttl_s,
        keys=[base64(key) for key in keys],
    )


async def leases(ask: EtcdAsk[LeaseLeasesRequest], request: web.BaseRequest) -> web.StreamResponse:
    """lease/leases, as this node knows them, so that it works without a quorum; sent as they are
    read."""
    out = GrowingAnswer(request)
    return await out.send(_write_leases(ask, out))


async def _write_leases(ask: EtcdAsk[LeaseLeasesRequest], out: GrowingAnswer) -> None:
    await out.add(b'{"header":' + to_json(ask.header()))
    before = b',"leases":['
    async for piece in ask.session.lease_pieces():
        items = [document(ID=lease) for lease, _ in piece]
        await out.add(before + orjson.dumps(items)[1:-1])
        before = b","
    await out.add(b"]}" if before == b"," else b"}")


_REVOKE = "End a lease, and delete its keys."
_TIME_TO_LIVE = "How long a lease has left, and which keys end with it."
_LEASES = "The ids of all leases."

CALLS = (
    unary(
        "lease/grant", LeaseGrantRequest, grant, Need.CALLER,
        "Grant a lease, with an id that is given or chosen.",
    ),
    unary("lease/revoke", LeaseRevokeRequest, revoke, Need.CALLER, _REVOKE),
    unary("lease/timetolive", LeaseTimeToLiveRequest, time_to_live, Need.NAMED, _TIME_TO_LIVE),
    download(
        "lease/leases", LeaseLeasesRequest, leases, Need.NAMED, _LEASES, size=SizeRule.MESSAGE
    ),
    unary("kv/lease/revoke", LeaseRevokeRequest, revoke, Need.CALLER, _REVOKE),
    unary("kv/lease/timetolive", LeaseTimeToLiveRequest, time_to_live, Need.NAMED, _TIME_TO_LIVE),
    download(
        "kv/lease/leases", LeaseLeasesRequest, leases, Need.NAMED, _LEASES, size=SizeRule.MESSAGE
    ),
)  # fmt: skip
