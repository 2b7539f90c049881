"""Links between members over TCP. Each node dials every other, and sends on the link it dialled.

Both ends of a connection say something now and then, and give it up if they hear nothing: a link
that is there was heard lately (docs/decisions/0016-links.md).
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvstore.certificates.node_names import NodeName
from kvstore.config import Config, hosts_to_bind, parse_address
from kvstore.errors import InvalidArgument
from kvstore.event_log import EventLog
from kvstore.peers.desk import Desk, Ended
from kvstore.peers.dialling import Dialling
from kvstore.peers.doorstep import Doorstep
from kvstore.peers.frames import PeerMessage, encode_frame
from kvstore.peers.incoming import Door, Incoming, Inputs
from kvstore.peers.membership import Membership
from kvstore.peers.outgoing import OutgoingLink
from kvstore.peers.patience import patience
from kvstore.peers.told import PeerTold, StrangersTold
from paxos.ballot import NodeId

if TYPE_CHECKING:
    from kvstore.certificates.peer_contexts import PeerTls

CERTIFICATES_S = 5.0
"""How often the files of certificates are looked at."""


class PeerTransport:
    """All links of one node. Made on the loop that it lives on.

    `instance` tells this process from all others. `sent(to, message)` is called before each message
    is queued or dropped. `ended(reason, how)` is called if this node must stop: what a handshake
    showed cannot be saved, another process has its identity, or it is no member any more. `tls`:
    what is spoken with peers, as the settings say.
    """

    def __init__(
        self,
        config: Config,
        membership: Membership,
        log: EventLog,
        instance: str,
        *,
        sent: Callable[[NodeId, PeerMessage], None],
        ended: Ended,
        tls: "PeerTls | None" = None,
    ) -> None:
        self._config = config
        self.tls = tls
        self._log = log
        self._sent = sent
        self._patience = patience(config)
        self._dialling = Dialling(
            None if tls is None else lambda: tls.client,
            self._patience.silence_s,
            plain_too=config.peer_tls_spoken != "require",
        )
        self._desk = Desk(
            membership,
            log,
            self._patience,
            instance,
            ended=ended,
            alive=self._alive,
            more_to_show=self._show_more,
        )
        self._loop = asyncio.get_running_loop()
        self._links: dict[NodeId, OutgoingLink] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._watch: Callable[[asyncio.Task[None]], None] | None = None
        self.follow()
        self._door: Door | None = None
        self._server: asyncio.Server | None = None
        self._doorstep: Doorstep | None = None
        self._watching: asyncio.Task[None] | None = None
        self._last: tuple[PeerMessage, bytes] | None = None

    def follow(self) -> None:
        """Have a link to every peer that the membership names now, where it says, and to nobody
        else."""
        peers = self._desk.membership.peers
        for peer, address in sorted(peers.items()):
            try:
                place = parse_address(address, "peer address")
            except InvalidArgument as error:
                self._log.event("peer address unusable", peer=peer, reason=error)
                continue
            if (link := self._links.get(peer)) is not None:
                link.move(place)
                continue
            link = self._links[peer] = OutgoingLink(
                peer,
                place,
                self._desk,
                PeerTold(peer, self._log, self._patience, self._loop.time()),
                self._patience,
                self._config.peer_buffer_bytes_max,
                self._reached,
                self._dialling,
            )
            self._start(link)
        for peer in self._links.keys() - peers.keys():
            leaving = self._loop.create_task(self._links.pop(peer).stop())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
            if self._door is not None:
                self._door.expel(peer)

    def _start(self, link: OutgoingLink) -> None:
        """Once this listens."""
        if self._watch is not None:
            self._watch(link.start())

    async def start(self, inputs: Inputs, watch: Callable[[asyncio.Task[None]], None]) -> None:
        """Listen, and dial every peer for as long as this runs; what comes goes to `inputs`, and
        `watch` is told of each task: they end by `stop` only.

        Raises OSError if the address is taken.
        """
        loop = asyncio.get_running_loop()
        host, port = self._config.listen_peer
        door = self._door = Door(
            self._desk,
            inputs,
            StrangersTold(self._log),
            self._patience,
            self._config.frame_bytes_max,
            self._heard_anew,
        )
        if (tls := self.tls) is None:
            self._server = await loop.create_server(
                lambda: Incoming(door), hosts_to_bind(host), port
            )
        else:
            self._doorstep = Doorstep(
                door, lambda: tls.server, plain_too=self._config.peer_tls_spoken == "prefer"
            )
            await self._doorstep.open((host, port))
            self._check_own_name(tls)
        self._watch = watch
        for link in self._links.values():
            self._start(link)
        self._watching = loop.create_task(self._watch_for_ever(door))
        watch(self._watching)

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        self._watch = None
        await asyncio.gather(*self._leaving)
        for link in list(self._links.values()):  # others may come meanwhile, and are not started
            await link.stop()
        if self._server is not None:
            self._server.close()
        if self._doorstep is not None:
            self._doorstep.close()
            await self._doorstep.closed()
        if self._door is not None:
            self._door.close()

    # -- what is known of the peers ---------------------------------------------------------

    def connected(self, peer: NodeId) -> bool:
        """Whether messages to `peer` leave, on a link on which it was heard lately."""
        link = self._links.get(peer)
        return link is not None and link.transport is not None

    def word(self, peer: NodeId) -> str:
        """ "up", or since when there is no link to `peer`, and why."""
        link = self._links.get(peer)
        return "" if link is None else link.told.word(self._loop.time())

    def silent_s(self, peer: NodeId) -> float | None:
        """For how long nothing was heard of `peer`; None if it never was."""
        link = self._links.get(peer)
        if link is None or self._door is None:
            return None
        times = (link.told.heard_s, self._door.heard_s(peer))
        heard_s = max((time_s for time_s in times if time_s is not None), default=None)
        return None if heard_s is None else self._loop.time() - heard_s

    def absent_s(self, peer: NodeId) -> float:
        """The same, if it never was for how long this node has looked for it."""
        silent_s = self.silent_s(peer)
        if silent_s is not None:
            return silent_s
        link = self._links.get(peer)
        return 0.0 if link is None else self._loop.time() - link.since_s

    def plain(self) -> int:
        """How many links of peers to this node are without TLS."""
        return 0 if self._door is None else self._door.plain

    @property
    def certificate_ends_s(self) -> float:
        """When what is shown to peers ends, in seconds since 1970; 0 without TLS."""
        return 0.0 if self.tls is None else self.tls.facts.ends.timestamp()

    @property
    def warning(self) -> str:
        """A certificate that ends soon, and that nobody has renewed."""
        return "" if self.tls is None else self.tls.warning

    def dropped(self) -> int:
        """How many messages were dropped because a link was full."""
        return sum(link.dropped for link in self._links.values())

    # -- sending ----------------------------------------------------------------------------

    def send(self, to: NodeId, message: PeerMessage) -> None:
        """Queue `message`; it leaves with the next `flush`, or is dropped."""
        self._sent(to, message)
        link = self._links.get(to)
        if link is None or link.transport is None:
            return
        if self._last is None or self._last[0] is not message:
            # A broadcast is the same object again: it is encoded once.
            self._last = (message, encode_frame(message))
        link.queue(self._last[1])

    def flush(self) -> None:
        """Hand what was queued to the sockets: one write for each peer."""
        self._last = None
        for link in self._links.values():
            link.flush()

    # -- watching ---------------------------------------------------------------------------

    async def _watch_for_ever(self, door: Door) -> None:
        loop, period_s = asyncio.get_running_loop(), self._patience.ping_s
        looked_s = files_s = loop.time()
        while True:
            await asyncio.sleep(period_s)
            now_s = loop.time()
            if now_s - looked_s > self._patience.silence_s / 2:
                # This program was stopped, or busy: what came meanwhile is not read yet.
                door.excuse(now_s)
                for link in self._links.values():
                    link.excuse(now_s)
            looked_s = now_s
            if self.tls is not None and now_s - files_s >= CERTIFICATES_S:
                files_s = now_s
                self.tls.look()
            door.watch(now_s)
            for link in self._links.values():
                link.watch(now_s)

    def _check_own_name(self, tls: "PeerTls") -> None:
        """Peers will refuse this node: its operator need not look for it there. Another file may
        come at any time."""
        member = self._desk.membership
        own = NodeName(member.node, member.cluster_id, member.incarnation)
        if own.node and not any(name.covers(own) for name in tls.names):
            named = ", ".join(name.uri for name in tls.names)
            self._log.event("peer certificate of another node", names=named, node=own.node)

    def _heard_anew(self, peer: NodeId) -> None:
        if (link := self._links.get(peer)) is not None:
            link.redial()

    def _reached(self, peer: NodeId) -> None:
        assert self._door is not None
        self._door.inputs.on_reached(peer)

    def _alive(self, peer: NodeId) -> bool:
        now_s = asyncio.get_running_loop().time()
        link = self._links.get(peer)
        incoming = self._door is not None and self._door.alive(peer, now_s)
        return incoming or (link is not None and link.alive(now_s))

    def _show_more(self) -> None:
        """Every peer sees it as it is dialled anew."""
        asyncio.get_running_loop().call_soon(self._drop_links)

    def _drop_links(self) -> None:
        for link in self._links.values():
            if link.transport is not None:
                link.transport.close()
