"""The certificate that a node shows while it takes care of that by itself (`tls auto`): made or
asked for before the node is opened, and renewed before the last third of its life.

The files are watched by those who serve with them, so a renewal drops no connection.
"""

import asyncio
import secrets
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from http_api.core.certificates import own_certificate
from kvstore.certificates.node_names import NodeName
from kvstore.config import Config
from kvstore.errors import InvalidArgument
from kvstore.event_log import EventLog
from kvstore.replica.replica import Replica
from kvstore.storage.data_dir import DataDir, Identity, read_identity
from kvstore_cli.node.settings import DEFAULT_CA_DIR, ServeSettings

if TYPE_CHECKING:
    from kvstore.certificates.own import OwnCertificate
    from kvstore_cli.node.enrolling import Enrolled

T = TypeVar("T")
LOOK_S_MAX, LOOK_S_MIN = 3600.0, 1.0
LOOKS = 100
"""In the life of a certificate."""
DAY_S = 86_400


class CertificateKeeper:
    """Of one node, for as long as it runs. Does nothing if the settings name files."""

    def __init__(self, settings: ServeSettings, events: EventLog) -> None:
        self._settings = settings
        self._config = settings.config
        self._events = events
        self._hosts = own_hosts(self._config)
        self._told = ""
        self._own = own_certificate(self._config)

    async def prepare(self) -> "Enrolled | None":
        """Before the node is opened: have a certificate. What the cluster answered, if this node
        joined by that. Raises InvalidArgument, JoinRefused, StorageError."""
        own, config = self._own, self._config
        if own is None:
            return None
        identity = await asyncio.to_thread(read_identity, config.data_dir)
        if self._settings.join and (identity is None or not identity.formed):
            from kvstore_cli.node.enrolling import enrol

            incarnation = await asyncio.to_thread(self._drawn, identity)
            return await enrol(self._settings, own, incarnation, self._hosts, self._events)
        await asyncio.to_thread(self._prepare_here, own, identity)
        return None

    def _drawn(self, identity: Identity | None) -> str:
        """The incarnation of the data directory, which is made if it is not there."""
        if identity is None:
            made = DataDir(self._config.data_dir, 0, "", f"{secrets.randbits(64):016x}")
            identity = made.identity
            made.close()
        return identity.incarnation

    def _prepare_here(self, own: "OwnCertificate", identity: Identity | None) -> None:
        name = _name_of(self._config, identity)
        if own.fits(name, self._hosts):
            return
        if _is_alone(self._config, identity) and not own.signs and not own.authority_file.exists():
            own.found()
            self._events.event("authority made", directory=self._config.ca_dir)
        if own.signs:
            own.sign_own(name, self._hosts)
            self._say_new(own)
        elif own.held() is None:
            raise InvalidArgument(
                "tls",
                f"tls: {own.cert_file} is missing or has ended, and the authority's key is not in "
                f"{self._config.ca_dir}: start with --ca-dir where it is; nodes that found a "
                "cluster together share that directory, or one founds it and the others join",
            )

    async def keep(self, replica: Replica) -> None:
        """For as long as the node runs."""
        own = self._own
        if own is None:
            return
        pause_s = min(LOOK_S_MAX, max(LOOK_S_MIN, self._config.cert_days * DAY_S / LOOKS))
        while True:
            formed = replica.membership.formed
            if formed:
                try:
                    await self._look(own, replica)
                except InvalidArgument as error:
                    self._say_not(str(error))
            await asyncio.sleep(pause_s if formed else LOOK_S_MIN)

    async def _look(self, own: "OwnCertificate", replica: Replica) -> None:
        membership = replica.membership
        name = NodeName(membership.node, membership.cluster_id, membership.incarnation)
        if await asyncio.to_thread(own.fits, name, self._hosts):
            return
        if own.signs:
            await asyncio.to_thread(own.sign_own, name, self._hosts)
            self._say_new(own)
            return
        from kvstore_cli.node.enrolling import renewed

        if reason := await renewed(own, _urls(replica), self._hosts):
            self._say_not(reason)
        else:
            self._say_new(own)

    def _say_new(self, own: "OwnCertificate") -> None:
        self._told = ""
        facts = own.held()
        if facts is not None:
            ends = f"{facts.ends:%Y-%m-%d %H:%M} UTC"
            self._events.event("certificate made", ends=ends, authority=own.authority_file)

    def _say_not(self, reason: str) -> None:
        if reason != self._told:
            self._told = reason
            self._events.event("certificate not renewed", reason=reason)


def take_up(replica: Replica, enrolled: "Enrolled") -> None:
    """Be the member that the cluster has made of this node, or ask where it says."""
    if enrolled.roster is not None:
        replica.take_in(enrolled.roster)
    else:
        replica.ask_at(enrolled.places)


async def unless(stopping: asyncio.Event, work: "Coroutine[Any, Any, T]") -> "T | None":
    """What `work` gives; None if it had to be ended because the process stops."""
    task, stopped = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        stopped.cancel()


def own_hosts(config: Config) -> list[str]:
    """The names and addresses by which clients may reach this node, as far as it knows."""
    found = {"localhost", "127.0.0.1", "::1", socket.gethostname()}
    places = (config.advertise_client, config.listen_client, config.peer_address)
    wild = False
    for host, _ in filter(None, places):
        wild = wild or host in ("0.0.0.0", "::")
        found |= set() if host in ("0.0.0.0", "::") else {host}
    if wild:
        with suppress(OSError):
            found |= {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    return sorted(host for host in found if "%" not in host)


def _is_alone(config: Config, identity: Identity | None) -> bool:
    """Whether no other node could have made the authority: the only founder; or the settings say
    where all of them have it."""
    if config.ca_dir != config.data_dir / DEFAULT_CA_DIR:
        return True
    if identity is None or not identity.formed:
        return len(config.members) <= 1
    return len(identity.roster[3] if identity.roster else identity.pinned) <= 1


def _name_of(config: Config, identity: Identity | None) -> NodeName:
    if identity is None:
        return NodeName(config.node_id)
    cluster = str(identity.roster[0]) if identity.roster else ""
    return NodeName(identity.node_id, cluster, identity.incarnation)


def _urls(replica: Replica) -> list[str]:
    """Where clients reach the other members."""
    membership = replica.membership
    known = dict(membership.client_addresses)
    for one in membership.roster.members if membership.roster is not None else ():
        if one.client_address:
            known.setdefault(one.id, one.client_address)
    return [url for id, url in sorted(known.items()) if id != membership.node and "://" in url]
