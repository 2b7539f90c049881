"""etcd's elections: the queue of a name, in which the holder leads and its value is proclaimed."""

from typing import Any

import msgspec

from http_api.core.calls import Need
from http_api.etcd.calls import EtcdAsk, EtcdStream, in_one_code, stream, unary, waiting
from http_api.etcd.channel import Channel
from http_api.etcd.encode import document, key_value
from http_api.etcd.errors import UNKNOWN, EtcdError
from http_api.etcd.kv import write_of
from http_api.etcd.messages import PutRequest
from http_api.etcd.queueing import (
    if_still,
    new_lease,
    removal,
    take_place,
    wait_for_turn,
)
from kvstore.commands.operations import KeyValue, only
from kvstore.errors import RevisionCompacted
from kvstore.replica.interest import Interest
from kvstore.state.queues import place_lease, queue_range

LOST = "election: session is expired"
"""To a candidate whose own key is gone. etcd 3.5 lets it win, or wait for ever."""


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


async def campaign(ask: EtcdAsk[CampaignRequest]) -> dict[str, Any]:
    """Wait until we lead. A lease that is in the queue already proclaims the value from there."""
    name, value = ask.message.name, ask.message.value
    place = await take_place(ask, name, ask.message.lease, value)
    if place.value is not None and place.value != value:
        await _proclaim(ask, place.key, place.revision, place.lease, value)
    await wait_for_turn(ask, name, place, LOST)
    leader = document(name=name, key=place.key, rev=place.revision, lease=place.lease)
    return document(header=ask.header(place.shown), leader=leader)


async def proclaim(ask: EtcdAsk[ProclaimRequest]) -> dict[str, Any]:
    """Change the leader's value, if it still leads."""
    leader = _given(ask.message.leader)
    lease = leader.lease or await new_lease(ask)
    revision = await _proclaim(ask, leader.key, leader.rev, lease, ask.message.value)
    return document(header=ask.header(revision))


async def _proclaim(
    ask: EtcdAsk[Any], key: bytes, create_revision: int, lease: int, value: bytes
) -> int:
    write = write_of(PutRequest(key=key, value=value, lease=lease))
    done = await if_still(ask, key, create_revision, write)
    if not done.succeeded:
        raise EtcdError(UNKNOWN, "election: not leader")
    return done.revision


async def resign(ask: EtcdAsk[ResignRequest]) -> dict[str, Any]:
    """Leave the queue; nothing happens if that key has left it already."""
    leader = _given(ask.message.leader)
    done = await if_still(ask, leader.key, leader.rev, removal(leader.key))
    return document(header=ask.header(done.revision))


def _given(leader: LeaderKey | None) -> LeaderKey:
    if leader is None:
        raise EtcdError(UNKNOWN, '"leader" field must be provided')
    return leader


async def leader(ask: EtcdAsk[LeaderRequest]) -> dict[str, Any]:
    """Who leads now."""
    await ask.barrier()
    found = ask.session.queue_first(ask.message.name)
    if found is None:
        raise EtcdError(UNKNOWN, "election: no leader")
    return document(header=ask.header(), kv=key_value(found))


async def observe(opened: EtcdStream) -> None:
    """Every leader from now on, and every value it proclaims; until the client goes."""
    ask = await opened.ask(await opened.channel.receive_only(LeaderRequest))
    while True:
        try:
            await _follow(ask, opened.channel)
        except RevisionCompacted:
            continue  # too slow: see who leads now


async def _follow(ask: EtcdAsk[LeaderRequest], channel: Channel) -> None:
    """Send the next leader and its proclamations, to its end. Raises RevisionCompacted."""
    await ask.barrier()
    found = ask.session.queue_first(ask.message.name)
    revision = ask.session.revision
    if found is None:
        found = await _next_leader(ask)
        revision = found.mod_revision
    await channel.send(document(header=ask.header(revision), kv=key_value(found)))
    watcher = ask.session.watch(Interest(found.key, only(found.key)), revision + 1)
    try:
        while True:
            for change in await watcher.next():
                (event,) = change.events
                if event.deleted:
                    return
                header = ask.header(change.revision)
                await channel.send(document(header=header, kv=key_value(event.item)))
    finally:
        watcher.close()


async def _next_leader(ask: EtcdAsk[LeaderRequest]) -> KeyValue:
    name = ask.message.name
    watcher = ask.session.watch(Interest(*queue_range(name), deletes=False))
    try:
        while True:
            for event in (await watcher.next(1))[0].events:
                if event.item.lease and place_lease(name, event.item.key) is not None:
                    return event.item
    finally:
        watcher.close()


CALLS = (
    waiting(
        "election/campaign", CampaignRequest, campaign, Need.CALLER,
        "Wait until one leads, and lead as long as a lease lasts.",
        told=in_one_code,
    ),
    unary(
        "election/leader", LeaderRequest, leader, Need.CALLER,
        "Who leads, and what it proclaims.",
        told=in_one_code,
    ),
    stream(
        "election/observe", LeaderRequest, observe, Need.CALLER,
        "Every leader from now on, and everything that it proclaims.",
        told=in_one_code,
    ),
    unary(
        "election/proclaim", ProclaimRequest, proclaim, Need.CALLER,
        "As leader, proclaim another value.",
        told=in_one_code,
    ),
    unary(
        "election/resign", ResignRequest, resign, Need.CALLER,
        "Stop leading, or stop waiting for it.",
        told=in_one_code,
    ),
)  # fmt: skip
