"""etcd's elections: the queue of a name, in which the holder leads and its value is proclaimed."""

from typing import Any

import msgspec

from http_api.etcd.channel import Channel
from http_api.etcd.encode import document, key_value
from http_api.etcd.errors import UNKNOWN, EtcdError
from http_api.etcd.gateway import Gateway, Unary
from http_api.etcd.kv import write_of
from http_api.etcd.messages import PutRequest
from http_api.etcd.queueing import (
    first,
    if_still,
    in_one_code,
    keys_of,
    new_lease,
    removal,
    take_place,
    wait_for_turn,
    waiting,
)
from http_api.etcd.streams import stream
from kvstore.commands.operations import KeyValue, only
from kvstore.errors import RevisionCompacted
from kvstore.replica.feed import Interest


class CampaignRequest(msgspec.Struct):
    """`lease` 0: one of 60 seconds is granted. `value`: what is proclaimed."""

    name: bytes = b""
    lease: int = 0
    value: bytes = b""


class LeaderKey(msgspec.Struct):
    """Who leads: `key` and the revision that created it, `rev`."""

    name: bytes = b""
    key: bytes = b""
    rev: int = 0
    lease: int = 0


class ProclaimRequest(msgspec.Struct):
    leader: LeaderKey | None = None
    value: bytes = b""


class LeaderRequest(msgspec.Struct):
    """Also of observe."""

    name: bytes = b""


class ResignRequest(msgspec.Struct):
    leader: LeaderKey | None = None


async def campaign(gateway: Gateway, message: CampaignRequest) -> dict[str, Any]:
    """Wait until we lead. A lease that is in the queue already proclaims the value from there."""
    name, value = message.name, message.value
    place = await take_place(gateway, name, message.lease, value)
    if place.value is not None and place.value != value:
        await _proclaim(gateway, place.key, place.revision, place.lease, value)
    await wait_for_turn(gateway, name, place)
    leader = document(name=name, key=place.key, rev=place.revision, lease=place.lease)
    return document(header=gateway.header(place.shown), leader=leader)


async def proclaim(gateway: Gateway, message: ProclaimRequest) -> dict[str, Any]:
    """Change the leader's value, if it still leads."""
    leader = _given(message.leader)
    lease = leader.lease or await new_lease(gateway)
    revision = await _proclaim(gateway, leader.key, leader.rev, lease, message.value)
    return document(header=gateway.header(revision))


async def _proclaim(
    gateway: Gateway, key: bytes, create_revision: int, lease: int, value: bytes
) -> int:
    write = write_of(PutRequest(key=key, value=value, lease=lease))
    done = await if_still(gateway, key, create_revision, write)
    if not done.succeeded:
        raise EtcdError(UNKNOWN, "election: not leader")
    return done.revision


async def resign(gateway: Gateway, message: ResignRequest) -> dict[str, Any]:
    """Leave the queue; nothing happens if that key has left it already."""
    leader = _given(message.leader)
    done = await if_still(gateway, leader.key, leader.rev, removal(leader.key))
    return document(header=gateway.header(done.revision))


def _given(leader: LeaderKey | None) -> LeaderKey:
    if leader is None:
        raise EtcdError(UNKNOWN, '"leader" field must be provided')
    return leader


async def leader(gateway: Gateway, message: LeaderRequest) -> dict[str, Any]:
    """Who leads now."""
    await gateway.barrier()
    found = first(gateway, message.name)
    if found is None:
        raise EtcdError(UNKNOWN, "election: no leader")
    return document(header=gateway.header(), kv=key_value(found))


async def observe(gateway: Gateway, channel: Channel) -> None:
    """Every leader from now on, and every value it proclaims; until the client goes."""
    request = await channel.receive_only(LeaderRequest)
    await gateway.authorize(channel.request, request, "election/observe")
    while True:
        try:
            await _follow(gateway, channel, request.name)
        except RevisionCompacted:
            continue  # too slow: see who leads now


async def _follow(gateway: Gateway, channel: Channel, name: bytes) -> None:
    """Send the next leader and its proclamations, to its end. Raises RevisionCompacted."""
    await gateway.barrier()
    found = first(gateway, name)
    revision = gateway.state.revision
    if found is None:
        found = await _next_leader(gateway, name)
        revision = found.mod_revision
    await channel.send(document(header=gateway.header(revision), kv=key_value(found)))
    watcher = gateway.replica.feed.watch(Interest(found.key, only(found.key)), revision + 1)
    try:
        while True:
            for change in await watcher.next():
                (event,) = change.events
                if event.deleted:
                    return
                header = gateway.header(change.revision)
                await channel.send(document(header=header, kv=key_value(event.item)))
    finally:
        watcher.close()


async def _next_leader(gateway: Gateway, name: bytes) -> KeyValue:
    start, end = keys_of(name)
    watcher = gateway.replica.feed.watch(Interest(start, end, deletes=False))
    try:
        return (await watcher.next(1))[0].events[0].item
    finally:
        watcher.close()


HANDLERS: dict[str, tuple[type[Any], Unary]] = {
    "election/leader": (LeaderRequest, in_one_code(leader)),
    "election/proclaim": (ProclaimRequest, in_one_code(proclaim)),
    "election/resign": (ResignRequest, in_one_code(resign)),
}
STREAMS = {
    "election/campaign": waiting("election/campaign", CampaignRequest, in_one_code(campaign)),
    "election/observe": stream(observe),
}
