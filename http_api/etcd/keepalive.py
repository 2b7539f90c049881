"""`lease/keepalive`: lease ids come in, the time that each has left goes out; the stream ends with
its body."""

import msgspec

from http_api.core.calls import Need
from http_api.etcd.calls import EtcdStream, stream
from http_api.etcd.encode import document


class LeaseKeepAliveRequest(msgspec.Struct, rename={"id": "ID"}):
    id: int = 0


async def serve(opened: EtcdStream) -> None:
    """One answer per request, without a TTL if there is no such lease; only the leader knows."""
    while (message := await opened.channel.receive(LeaseKeepAliveRequest)) is not None:
        ask = await opened.ask(message)
        lease = await ask.session.renew(message.id, ask.gateway.timeout_s)
        ttl_s = None if lease is None else lease.ttl_s
        await opened.channel.send(document(header=ask.header(), ID=message.id, TTL=ttl_s))


CALLS = (
    stream(
        "lease/keepalive", LeaseKeepAliveRequest, serve, Need.NAMED,
        "Give leases their full time again.",
    ),
)  # fmt: skip
