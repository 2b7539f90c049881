"""The links of members, without the nodes: on real sockets."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvstore.config import Address, Config, format_address
from kvstore.event_log import EventLog
from kvstore.peers.frames import Hello, PeerMessage
from kvstore.peers.links import PeerTransport
from kvstore.peers.membership import Membership
from kvstore.replica.open import peer_tls_of
from paxos.ballot import NodeId
from paxos.configuration import Configuration
from paxos.quorum import majority
from proof.processes.network import HeldPort
from proof.processes.waiting import DEADLINE_S, until

INCARNATIONS = {1: "one", 2: "two", 3: "three"}


class Events(EventLog):
    """Kept in a list."""

    def __init__(self) -> None:
        super().__init__(1)
        self.lines: list[tuple[str, dict[str, object]]] = []

    def event(self, name: str, **fields: object) -> None:
        self.lines.append((name, fields))

    def named(self, name: str) -> list[dict[str, object]]:
        return [fields for event, fields in self.lines if event == name]


@dataclass
class Member:
    """One node's links, without the node."""

    transport: PeerTransport
    membership: Membership
    events: Events
    failures: list[str] = field(default_factory=list)
    heard: list[PeerMessage] = field(default_factory=list)
    ups: list[tuple[NodeId, bool]] = field(default_factory=list)
    reached: list[NodeId] = field(default_factory=list)

    def on_message(self, sender: NodeId, message: PeerMessage) -> None:
        self.heard.append(message)

    def on_input(self) -> None:
        """Nobody steps here."""

    def on_link(self, peer: NodeId, up: bool) -> None:
        self.ups.append((peer, up))

    def on_reached(self, peer: NodeId) -> None:
        self.reached.append(peer)


class Town:
    """Ports for members 1 to 3, and the members made so far; all of them have met before."""

    def __init__(self, certificates: Path = Path()) -> None:
        self.certificates = certificates
        self.ports = {node: HeldPort() for node in INCARNATIONS}
        self.extra: list[HeldPort] = []
        self.members: list[Member] = []

    @property
    def addresses(self) -> dict[int, Address]:
        return {node: ("127.0.0.1", port.number) for node, port in self.ports.items()}

    async def member(
        self,
        node: NodeId,
        instance: str = "",
        listen: int | None = None,
        certificate: str = "",
        peer_tls: str | None = None,
        **names: str,
    ) -> Member:
        """Started; with `listen` not at its place. `names` changes hosts: `n2="a.invalid"`. With
        `certificate`, a name of files in `certificates`, by TLS."""
        addresses = self.addresses
        for name, host in names.items():
            addresses[int(name[1:])] = (host, addresses[int(name[1:])][1])
        config = Config(
            node_id=node,
            members=addresses,
            listen_peer=("127.0.0.1", listen or self.ports[node].number),
            tick_s=0.005,
            peer_tls=peer_tls,
            **self._files(certificate),
        )
        membership = Membership(
            node,
            INCARNATIONS[node],
            Configuration(1, majority(INCARNATIONS)),
            "http://x",
            dict(INCARNATIONS),
            True,
            lambda *_: None,
            addresses={node: format_address(address) for node, address in addresses.items()},
        )
        events, failures = Events(), list[str]()
        transport = PeerTransport(
            config,
            membership,
            events,
            instance or f"process of {node}",
            sent=lambda *_: None,
            ended=lambda reason, _how: failures.append(reason),
            tls=peer_tls_of(config),
        )
        made = Member(transport, membership, events, failures)
        await transport.start(made, lambda _task: None)
        self.members.append(made)
        return made

    def _files(self, certificate: str) -> dict[str, Any]:
        place = self.certificates
        return {} if not certificate else {
            "peer_cert_file": place / f"{certificate}.crt",
            "peer_key_file": place / f"{certificate}.key",
            "peer_ca": place / "ca.crt",
        }  # fmt: skip

    def hello(self, node: NodeId, to: NodeId, silence_ms: int = 500, instance: str = "x") -> Hello:
        membership = Membership(
            node, INCARNATIONS[node], Configuration(1, majority(INCARNATIONS)), "",
            dict(INCARNATIONS), True, lambda *_: None,
        )  # fmt: skip
        return membership.hello(to, instance, silence_ms)

    async def dial(self, node: NodeId) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.addresses[node])


@asynccontextmanager
async def town(certificates: Path = Path()) -> AsyncIterator[Town]:
    made = Town(certificates)
    try:
        yield made
    finally:
        for member in made.members:
            await member.transport.stop()
        for port in [*made.ports.values(), *made.extra]:
            port.close()


async def frame(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">I", await reader.readexactly(4))
    return await reader.readexactly(length)


async def come(condition: Callable[[], bool], what: str) -> None:
    assert await until(condition, DEADLINE_S), what


async def closed(reader: asyncio.StreamReader) -> bool:
    """Whether the other end closes; what it still says is skipped."""
    with suppress(OSError):
        async with asyncio.timeout(DEADLINE_S):
            while await reader.read(4096):
                pass
    return True
