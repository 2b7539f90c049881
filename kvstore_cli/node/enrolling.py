"""How a node gets certificates from others: with a token when it joins, and later by showing the
certificate that it has.

A node that joins asks for the cluster's authority first, and believes it if its fingerprint is that
of the token. Only then, to one that the authority vouches for, it shows the token.
"""

import asyncio
import itertools
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from kvstore.certificates.facts import first_of
from kvstore.certificates.join_tokens import split_token
from kvstore.certificates.own import OwnCertificate
from kvstore.client.attempts import parse_endpoints
from kvstore.event_log import EventLog
from kvstore.peers.roster import Roster
from kvstore_cli.node.joining import AGAIN_S, ATTEMPT_S, PATH, JoinRefused, join_request
from kvstore_cli.node.settings import ServeSettings

AUTHORITY = "/v1/cluster/authority"
CERTIFICATES = "/v1/cluster/certificates"


@dataclass(frozen=True)
class Enrolled:
    """What the cluster answered: `roster` names this node, or it is to ask at `places`."""

    roster: Roster | None
    places: Mapping[int, str] = field(default_factory=dict)


class _NotNow(Exception):
    """This one does not help now; the text says why."""


async def enrol(
    settings: ServeSettings,
    own: OwnCertificate,
    incarnation: str,
    hosts: list[str],
    events: EventLog,
) -> Enrolled:
    """Join, and get a certificate, from the first endpoint that gives one. Raises JoinRefused."""
    _, fingerprint = split_token(settings.token)
    if not fingerprint:
        raise JoinRefused(
            "the token has no fingerprint of the cluster's authority: it is from a node without "
            "--tls auto; make a new one there, or name files of certificates"
        )
    endpoints = parse_endpoints(settings.join, secure=True)
    if plain := next((one for one in endpoints if one.startswith("http://")), None):
        raise JoinRefused(f"the cluster of the token speaks TLS: join at https, not at {plain}")
    document = join_request(settings, incarnation)
    document |= {"request": (await asyncio.to_thread(own.request)).decode(), "hosts": hosts}
    told = ""
    for endpoint in itertools.cycle(endpoints):
        try:
            return await _enrol_at(endpoint, fingerprint, document, own)
        except _NotNow as error:
            reason = str(error)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            reason = str(error) or type(error).__name__
        if reason != told:
            told = reason
            events.event("waiting to join", at=endpoint, reason=reason)
        await asyncio.sleep(AGAIN_S)
    raise AssertionError("there are endpoints")


async def _enrol_at(
    endpoint: str, fingerprint: str, document: dict[str, Any], own: OwnCertificate
) -> Enrolled:
    """Raises JoinRefused, _NotNow, and what aiohttp does."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    status, answer = await _call("GET", endpoint + AUTHORITY, anybody)
    if status != 200:
        raise _NotNow(_detail(status, answer))
    shown, authority = first_of(str(answer["authority"]).encode())
    if shown != fingerprint:
        raise JoinRefused(
            f"{endpoint} belongs to another authority than the one of the token: it was shown "
            "nothing"
        )
    cluster = await asyncio.to_thread(_trusting_and_showing, own, authority.decode())
    status, answer = await _call("POST", endpoint + PATH, cluster, document)
    places = answer.get("places")
    if status not in (200, 201) and not places:
        if 400 <= status < 500 and status != 409:
            reason = _detail(status, answer)
            raise JoinRefused(f"the cluster at {endpoint} refuses this node: {reason}")
        raise _NotNow(_detail(status, answer))
    if "certificate" not in answer:
        raise JoinRefused(
            f"the cluster at {endpoint} knows a node of this name or address, and gives it no "
            "certificate for this token: make a new one (kvstore token create)"
        )
    await asyncio.to_thread(own.install, answer["certificate"].encode(), authority)
    if places:
        return Enrolled(None, {int(node): address for node, address in places.items()})
    return Enrolled(msgspec.convert(answer["roster"], Roster))


async def renewed(own: OwnCertificate, urls: list[str], hosts: list[str]) -> str:
    """Ask these nodes, one after the other, for a certificate in place of the one that is here;
    "" if one gave it, else why the last did not."""
    document = {"request": (await asyncio.to_thread(own.request)).decode(), "hosts": hosts}
    reason = "no other node is known"
    for url in urls:
        try:
            context = await asyncio.to_thread(_showing, own)
            status, answer = await _call("POST", url + CERTIFICATES, context, document)
            if status == 200:
                chain, authority = answer["certificate"].encode(), answer["authority"].encode()
                await asyncio.to_thread(own.install, chain, authority)
                return ""
            reason = f"{url}: {_detail(status, answer)}"
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError) as error:
            reason = f"{url}: {error or type(error).__name__}"
    return reason


def trusting(authority: str) -> ssl.SSLContext:
    """Whoever that authority vouches for: all whose certificates it signs are nodes or users of one
    cluster, and a user's is no server's. Where a node is does not count."""
    context = ssl.create_default_context(cadata=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    return context


def _trusting_and_showing(own: OwnCertificate, authority: str) -> ssl.SSLContext:
    """A node that comes back without its log, but with its certificate, shows who it was."""
    context = trusting(authority)
    if own.held() is not None and own.authority_file.exists():
        if own.authority_file.read_text() != authority:
            return context  # of another cluster
        with suppress(OSError):  # ssl's are some, too: files that do not belong together
            context.load_cert_chain(own.cert_file, own.key_file)
    return context


def _showing(own: OwnCertificate) -> ssl.SSLContext:
    context = trusting(own.authority_file.read_text())
    context.load_cert_chain(own.cert_file, own.key_file)
    return context


async def _call(
    method: str, url: str, context: ssl.SSLContext, document: dict[str, Any] | None = None
) -> tuple[int, dict[str, Any]]:
    timeout = aiohttp.ClientTimeout(ATTEMPT_S)
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
        http.request(method, url, json=document) as response,
    ):
        answer = await response.json(content_type=None)
        if not isinstance(answer, dict):
            raise ValueError(f"status {response.status}, and no JSON object")
        return response.status, answer


def _detail(status: int, answer: dict[str, Any]) -> str:
    return str(answer.get("detail", f"status {status}"))
