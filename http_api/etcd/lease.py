"""`lease/...`, and `kv/lease/...`, the older name of the same; `lease/keepalive` is a stream."""

import secrets
from typing import Any

from http_api.etcd.encode import base64, document
from http_api.etcd.errors import OUT_OF_RANGE, EtcdError
from http_api.etcd.gateway import Gateway, Unary
from http_api.etcd.messages import (
    LeaseGrantRequest,
    LeaseLeasesRequest,
    LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
)
from kvstore.commands.commands import Grant, Revoke
from kvstore.commands.operations import only
from kvstore.commands.results import Granted, Revoked
from kvstore.errors import LeaseExists
from kvstore.replica.ambient import check_read
from kvstore.state.lease_table import LEASE_TTL_S_MAX, LEASE_TTL_S_MIN

_ATTEMPTS = 8
"""Ids drawn at random that are all taken mean that the randomness is broken."""


async def grant(gateway: Gateway, message: LeaseGrantRequest) -> dict[str, Any]:
    """lease/grant; id 0 asks for one."""
    if message.ttl > LEASE_TTL_S_MAX:
        raise EtcdError(OUT_OF_RANGE, "etcdserver: too large lease TTL")
    ttl_s = max(message.ttl, LEASE_TTL_S_MIN)
    granted = await _grant(gateway, message.id, ttl_s)
    return document(header=gateway.header(granted.revision), ID=granted.lease, TTL=granted.ttl_s)


async def _grant(gateway: Gateway, lease: int, ttl_s: int) -> Granted:
    for _ in range(_ATTEMPTS - 1):
        try:
            return await gateway.execute(Grant(lease or _new_id(), ttl_s), Granted)
        except LeaseExists:
            if lease:
                raise
    return await gateway.execute(Grant(_new_id(), ttl_s), Granted)


def _new_id() -> int:
    return secrets.randbits(63) or 1


async def revoke(gateway: Gateway, message: LeaseRevokeRequest) -> dict[str, Any]:
    """lease/revoke."""
    revoked = await gateway.execute(Revoke(message.id), Revoked)
    return document(header=gateway.header(revoked.revision))


async def time_to_live(gateway: Gateway, message: LeaseTimeToLiveRequest) -> dict[str, Any]:
    """lease/timetolive; an unknown lease has a TTL of -1."""
    lease = await gateway.replica.leasing.look(message.id, gateway.timeout_s)
    if lease is None:
        return document(header=gateway.header(), ID=message.id, TTL=-1)
    keys: list[bytes] = []
    if message.keys:
        await gateway.barrier()
        keys = gateway.state.leases.keys(message.id)
        for key in keys:
            check_read(gateway.state.auth, key, only(key))
    return document(
        header=gateway.header(),
        ID=message.id,
        TTL=int(lease.left_s),
        grantedTTL=lease.ttl_s,
        keys=[base64(key) for key in keys],
    )


async def leases(gateway: Gateway, _: LeaseLeasesRequest) -> dict[str, Any]:
    """lease/leases, as this node knows them, so that it works without a quorum."""
    known = [document(ID=lease) for lease, _ in gateway.state.leases.all()]
    return document(header=gateway.header(), leases=known)


HANDLERS: dict[str, tuple[type[Any], Unary]] = {
    "lease/grant": (LeaseGrantRequest, grant),
    "lease/revoke": (LeaseRevokeRequest, revoke),
    "lease/timetolive": (LeaseTimeToLiveRequest, time_to_live),
    "lease/leases": (LeaseLeasesRequest, leases),
    "kv/lease/revoke": (LeaseRevokeRequest, revoke),
    "kv/lease/timetolive": (LeaseTimeToLiveRequest, time_to_live),
    "kv/lease/leases": (LeaseLeasesRequest, leases),
}
