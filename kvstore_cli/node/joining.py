"""How a node without a cluster joins one that is there: it shows a token to any of its nodes.

What that node answers makes it a member, without a vote at first. If the name that this node gives
is that of a member, its disk may have been lost: then it asks the members themselves, and the
leader takes it in once the one that it was has been silent for a while.
"""

import asyncio
import itertools
import ssl
from typing import Any

import aiohttp
import msgspec

from kvstore.certificates.join_tokens import split_token
from kvstore.certificates.trust import node_trust
from kvstore.client.attempts import parse_endpoints
from kvstore.config import format_address
from kvstore.event_log import EventLog
from kvstore.peers.refusals import RESTORED
from kvstore.peers.roster import Roster
from kvstore.replica.replica import Replica
from kvstore_cli.node.settings import ServeSettings

AGAIN_S = 1.0
"""Between two attempts, while nobody answers, or the members are being changed."""
ATTEMPT_S = 10.0
PATH = "/v1/cluster/members/join"


class JoinRefused(Exception):
    """The cluster does not take this node in; the text says why."""


async def join(replica: Replica, settings: ServeSettings, events: EventLog) -> None:
    """Until the cluster has taken this node in: then the replica ends, to begin again as a member.

    Raises JoinRefused.
    """
    if replica.membership.begins:
        raise JoinRefused(RESTORED)
    told = ""
    timeout = aiohttp.ClientTimeout(ATTEMPT_S)
    config = settings.config
    endpoints = parse_endpoints(settings.join, secure=config.cert_file is not None)
    trust: ssl.SSLContext | bool = True
    if config.client_ca is not None:
        trust = await asyncio.to_thread(node_trust, config.client_ca)
    connector = aiohttp.TCPConnector(ssl=trust)
    asked = join_request(settings, replica.membership.incarnation)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        for endpoint in itertools.cycle(endpoints):
            if replica.membership.formed:
                return
            reason = ""
            try:
                async with http.post(endpoint + PATH, json=asked) as response:
                    answer = await response.json(content_type=None)
                    if _taken_in(replica, response.status, answer):
                        return
                    reason = str(answer.get("detail", response.status))
                    refused = 400 <= response.status < 500 and response.status != 409
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                reason, refused = str(error) or type(error).__name__, False
            if refused:
                raise JoinRefused(f"the cluster at {endpoint} refuses this node: {reason}")
            if reason != told:
                told = reason
                events.event("waiting to join", at=endpoint, reason=reason)
            await asyncio.sleep(AGAIN_S)


def join_request(settings: ServeSettings, incarnation: str) -> dict[str, Any]:
    """What is asked of the cluster."""
    config = settings.config
    return {
        "token": split_token(settings.token)[0],
        "name": config.own_name,
        "peer_address": format_address(config.peer_address),
        "client_address": config.client_url,
        "incarnation": incarnation,
    }


def _taken_in(replica: Replica, status: int, answer: dict[str, Any]) -> bool:
    """Whether nothing more is to be asked here: this node is a member, or asks the members."""
    if status in (200, 201):
        replica.take_in(msgspec.convert(answer["roster"], Roster))
        return True
    if status == 409 and (places := answer.get("places")):
        replica.ask_at({int(node): address for node, address in places.items()})
        return True
    return False
