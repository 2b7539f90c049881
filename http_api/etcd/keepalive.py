"""`lease/keepalive`: a stream of lease ids in, of their time to live out; it ends with the body."""

import msgspec

from http_api.etcd.channel import Channel
from http_api.etcd.encode import document
from http_api.etcd.gateway import Gateway
from http_api.etcd.streams import stream


class LeaseKeepAliveRequest(msgspec.Struct, rename={"id": "ID"}):
    id: int = 0


async def serve(gateway: Gateway, channel: Channel) -> None:
    """One answer per request, without a TTL if there is no such lease; only the leader knows."""
    while (request := await channel.receive(LeaseKeepAliveRequest)) is not None:
        await gateway.authorize(channel.request, request, "lease/keepalive")
        lease = await gateway.replica.leasing.renew(request.id, gateway.timeout_s)
        ttl_s = None if lease is None else lease.ttl_s
        await channel.send(document(header=gateway.header(), ID=request.id, TTL=ttl_s))


STREAMS = {"lease/keepalive": stream(serve)}
