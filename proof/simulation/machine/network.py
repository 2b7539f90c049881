"""The network of the simulation: streams between programs, and everything that can befall them.

The store's own transport runs on it: it listens, dials, writes frames. A stream keeps TCP's promise
of order as long as no fault says otherwise; beyond TCP, single frames may be lost, repeated or
overtake each other, because Paxos must bear it. Only the first frame of each direction, the
handshake, is exempt.

A cut link carries nothing. What is sent meanwhile is lost, or the sender's kernel holds it and
repeats it ever more rarely, as TCP does: after healing nothing passes on that stream until the next
repetition, and then comes a burst of old messages. A stream may also be forgotten by what is on the
way, as a firewall does that was restarted: it looks fine at both ends, and carries nothing.
"""

import asyncio
import random
from collections.abc import Callable, Collection
from typing import Any

from kvstore.config import Address
from kvstore.peers.frames import FrameReader
from paxos.ballot import NodeId
from proof.simulation.machine.paths import CALM, Conditions, Pair, Path
from proof.simulation.machine.scheduler import Process, moment_from
from proof.simulation.tell.trace import Delivered, Lost, Trace

RETRANSMIT_S = 0.2
"""The kernel repeats for the first time after this, and each time waits twice as long."""


class SimulatedNetwork:
    """All hosts and streams. Hosts are node ids; `randomness(name)` gives a stream of its own."""

    def __init__(
        self, conditions: Conditions, randomness: Callable[[str], random.Random], trace: Trace
    ) -> None:
        self.conditions = conditions
        self.moment_s = conditions.moment_s
        self.trace = trace
        self.messages = 0
        self.reached: Callable[[str], None] = lambda name: None
        self.on_frame: Callable[[int, Pair, bytes], None] = lambda number, pair, frame: None
        self._randomness = randomness
        self._paths: dict[Pair, Path] = {}
        self._listening: dict[Address, tuple[Process, Callable[[], asyncio.Protocol]]] = {}
        self._hosts_down: set[NodeId] = set()
        self._streams: list[Endpoint] = []

    def path(self, pair: Pair) -> Path:
        """The direction from `pair[0]` to `pair[1]`."""
        path = self._paths.get(pair)
        if path is None:
            name = f"path/{pair[0]}/{pair[1]}"
            path = self._paths[pair] = Path(self._randomness(name))
        return path

    # -- faults -----------------------------------------------------------------------------

    def cut(self, pair: Pair) -> None:
        """Nothing passes any more; cuts add up."""
        self.path(pair).cuts += 1

    def mend(self, pair: Pair) -> None:
        """Undo one `cut`; what was held leaves now, or with the kernel's next repetition."""
        self.path(pair).mend()

    def forget_streams(self, pairs: Collection[Pair]) -> None:
        """Every stream that uses one of `pairs` carries nothing any more, and nobody is told."""
        for endpoint in self._streams:
            if endpoint.pair in pairs or endpoint.pair[::-1] in pairs:
                endpoint.forgotten = True

    def reset(self, pairs: Collection[Pair]) -> None:
        """Both ends of every stream that uses one of `pairs` see it break at once."""
        for endpoint in list(self._streams):
            if endpoint.pair in pairs or endpoint.pair[::-1] in pairs:
                endpoint.process.post(0, endpoint.lose_peer)

    def slow(self, pair: Pair, delay_s: float) -> None:
        """Add up to `delay_s` to every delay, until `fast`."""
        self.path(pair).slow.append(delay_s)

    def fast(self, pair: Pair, delay_s: float) -> None:
        self.path(pair).slow.remove(delay_s)

    def lossy(self, pair: Pair, loss: float) -> None:
        """Lose this share of the frames, until `lossless`."""
        self.path(pair).lossy.append(loss)

    def lossless(self, pair: Pair, loss: float) -> None:
        self.path(pair).lossy.remove(loss)

    def calm(self, conditions: Conditions = CALM) -> None:
        """From now on the network behaves like this; faults under way stay."""
        self.conditions = conditions

    def host_down(self, host: NodeId) -> None:
        """Power is lost: peers hear nothing, not even a reset."""
        self._hosts_down.add(host)

    def is_down(self, host: NodeId) -> bool:
        return host in self._hosts_down

    def host_up(self, host: NodeId) -> None:
        self._hosts_down.discard(host)

    def process_ended(self, process: Process, silently: bool) -> None:
        """Its listeners are gone, and its streams break: with a reset, or silently."""
        self._listening = {a: held for a, held in self._listening.items() if held[0] != process}
        for endpoint in [e for e in self._streams if e.process is process]:
            self._streams.remove(endpoint)
            endpoint.closed = endpoint._closing = True
            if not silently:
                endpoint.send_close()

    # -- what a program sees ----------------------------------------------------------------

    def listen(
        self, process: Process, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> "Listener":
        """Raises OSError if the address is taken."""
        if (host, port) in self._listening:
            raise OSError(98, f"address {host}:{port} is in use")
        self._listening[host, port] = (process, factory)
        return Listener(lambda: self._listening.pop((host, port), None))

    async def connect(
        self, process: Process, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Takes a round trip; hangs if the way is cut or the host is down."""
        here, there = host_of(process), int(host.removeprefix("node-"))
        arrived: asyncio.Future[None] = process.create_future()

        def arrive() -> None:
            cuts = self.path((here, there)).cuts + self.path((there, here)).cuts
            if cuts == 0 and not arrived.done():
                arrived.set_result(None)

        process.post(self.delay_s((here, there)) + self.delay_s((there, here)), arrive)
        await arrived
        listening = self._listening.get((host, port))
        if self.is_down(there):
            await process.create_future()
        if listening is None:
            raise ConnectionRefusedError(111, f"nobody listens at {host}:{port}")
        server, server_factory = listening
        ours = Endpoint(self, process, (here, there), factory())
        theirs = Endpoint(self, server, (there, here), server.made(server_factory))
        ours.peer, theirs.peer = theirs, ours
        self._streams += [ours, theirs]
        server.post(0, theirs.protocol.connection_made, theirs)
        ours.protocol.connection_made(ours)
        return ours, ours.protocol

    # -- carrying ---------------------------------------------------------------------------

    def delay_s(self, pair: Pair) -> float:
        """Of the next packet in this direction."""
        return self.path(pair).draw_delay_s(self.conditions)

    def lost(self, pair: Pair) -> bool:
        """Whether the next frame in this direction gets lost."""
        return self.path(pair).loses(self.conditions)

    def blocked(self, pair: Pair, later: Callable[[], None]) -> bool:
        """Whether the way is cut; then `later` is called at healing, or never."""
        path = self.path(pair)
        if path.cuts == 0:
            return False
        if self.conditions.hold_when_cut:
            self.reached("messages held while cut")
            path.held.append(later)
        return True

    def forget(self, endpoint: "Endpoint") -> None:
        if endpoint in self._streams:
            self._streams.remove(endpoint)


def host_of(process: Process) -> NodeId:
    """Node processes are called `node-N/life`."""
    return int(process.name.partition("/")[0].removeprefix("node-"))


class Listener:
    """What `create_server` returns."""

    def __init__(self, close: Callable[[], object]) -> None:
        self._close = close

    def close(self) -> None:
        self._close()


class Endpoint(asyncio.Transport):
    """One end of a stream."""

    peer: "Endpoint"

    def __init__(
        self, network: SimulatedNetwork, process: Process, pair: Pair, protocol: asyncio.Protocol
    ) -> None:
        super().__init__()
        self.process = process
        self.protocol = protocol
        self.pair = pair
        self.closed = False
        self._closing = False
        self._network = network
        self._frames = FrameReader(1 << 30)
        self._greeted = False
        self._last_arrival_s = 0.0
        self._in_flight = 0
        self.forgotten = False
        self._stalled_s: float | None = None
        self._stalled: list[tuple[bytes, int, bool]] = []

    # -- the program's side -----------------------------------------------------------------

    def write(self, data: Any) -> None:
        assert not self._closing, "written to a closed transport"
        for payload in self._frames.feed(bytes(data)):
            frame = len(payload).to_bytes(4, "big") + payload
            if not payload:  # a ping: were it to overtake the handshake, that would be no fault
                self._forward(frame, 0, certain=True)
            elif self._greeted:
                self._send(frame)
            else:
                self._greeted = True
                self._forward(frame, 0, certain=True)

    def get_write_buffer_size(self) -> int:
        return self._in_flight

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._network.forget(self)
        self.send_close()
        self.process.post(0, self._lose, None)

    def abort(self) -> None:
        """Like `close`, and all that the kernel holds is dropped; the other end's kernel is told
        once, and not again."""
        if self._network.path(self.pair).cuts:
            self.forgotten = True
        self.close()

    # -- the network's side -----------------------------------------------------------------

    def _send(self, frame: bytes) -> None:
        """One message: lost, delayed, repeated, out of order, as the conditions have it."""
        network = self._network
        network.messages += 1
        number = network.messages
        network.on_frame(number, self.pair, frame)
        conditions, randomness = network.conditions, network.path(self.pair).randomness
        if network.lost(self.pair):
            network.reached("message lost")
            network.trace.add(Lost(self._now_us(), number, "lost on the way"))
            return
        self._forward(frame, number)
        if conditions.repeat and randomness.random() < conditions.repeat:
            network.reached("message repeated")
            self._forward(frame, number)

    def _forward(self, frame: bytes, number: int, certain: bool = False) -> None:
        network = self._network
        if self.forgotten:
            self._lost(number, "the stream is forgotten on the way")
            return
        if self._stalled_s is not None or network.path(self.pair).cuts:
            self._hold(frame, number, certain)
            return
        if not self.peer.process.alive:
            self._reset(number)
            return
        now_s = self.process.scheduler.now_s
        conditions, randomness = network.conditions, network.path(self.pair).randomness
        arrival_s = moment_from(now_s + network.delay_s(self.pair), network.moment_s)
        overtakes = not certain and conditions.overtake > 0
        if overtakes and randomness.random() < conditions.overtake:
            network.reached("message overtakes")
        else:
            arrival_s = self._last_arrival_s = max(arrival_s, self._last_arrival_s)
        self._in_flight += len(frame)
        self.peer.process.post(arrival_s - now_s, self._arrive, frame, number)

    def _hold(self, frame: bytes, number: int, certain: bool) -> None:
        """The way is cut, or was, and what waits before this is not repeated yet."""
        network = self._network
        if not network.conditions.hold_when_cut and self._stalled_s is None:
            self._lost(number, "the link is cut")
            return
        if self._stalled_s is None:
            network.reached("messages held while cut")
            self._stalled_s = self.process.scheduler.now_s
            network.path(self.pair).held.append(self.repeat_soon)
        self._stalled.append((frame, number, certain))

    def repeat_soon(self) -> None:
        """The way is whole again: wait for the kernel's next repetition."""
        assert self._stalled_s is not None
        now_s, next_s, pause_s = self.process.scheduler.now_s, self._stalled_s, RETRANSMIT_S
        while next_s < now_s:
            next_s += pause_s
            pause_s *= 2
        self.peer.process.post(next_s - now_s, self._repeat)

    def _repeat(self) -> None:
        path = self._network.path(self.pair)
        if path.cuts:
            path.held.append(self.repeat_soon)
            return
        held, self._stalled, self._stalled_s = self._stalled, [], None
        for frame, number, certain in held:
            if self._closing:
                self._lost(number, "the connection was given up")
            else:
                self._forward(frame, number, certain)

    def _lost(self, number: int, why: str) -> None:
        if number:
            self._network.trace.add(Lost(self._now_us(), number, why))

    def _reset(self, number: int) -> None:
        """The program at the other end is gone: its host says so, if it is up."""
        self._lost(number, "nobody is there")
        if not self._network.is_down(self.pair[1]):
            self.process.post(2 * self._network.delay_s(self.pair), self.lose_peer)

    def _arrive(self, frame: bytes, number: int) -> None:
        """Runs in the receiving program, if that still runs."""
        self._in_flight -= len(frame)
        peer, network = self.peer, self._network
        if peer.closed or peer._closing:
            self._lost(number, "the connection is closed")
            return
        if number:
            network.trace.add(Delivered(self._now_us(), number))
        peer.protocol.data_received(frame)

    def send_close(self) -> None:
        """The other end learns that this one is closed, unless the way is cut."""
        network = self._network
        if self.forgotten or network.blocked(self.pair, self.send_close):
            return
        arrival_s = max(
            self.process.scheduler.now_s + network.delay_s(self.pair), self._last_arrival_s
        )
        self.peer.process.post(arrival_s - self.process.scheduler.now_s, self.peer.lose_peer)

    def lose_peer(self) -> None:
        """The other end is closed: so is this one."""
        if not self._closing:
            self._closing = True
            self._network.forget(self)
            self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if not self.closed:
            self.closed = True
            self.protocol.connection_lost(error)

    def _now_us(self) -> int:
        return self.process.scheduler.now_us
