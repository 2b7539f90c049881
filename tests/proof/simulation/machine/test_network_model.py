"""The simulated network: order, loss, cuts, resets and silence."""

import asyncio
import random
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from proof.simulation.machine.network import SimulatedNetwork
from proof.simulation.machine.paths import CALM, Conditions
from proof.simulation.machine.scheduler import Process, Scheduler
from proof.simulation.tell.trace import Lost, Trace


def frame(number: int) -> bytes:
    return (4).to_bytes(4, "big") + number.to_bytes(4, "big")


class Peer(asyncio.Protocol):
    """Keeps the numbers it was sent; the first frame of a stream is the handshake."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.lost_at: list[bool] = []
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got.append(int.from_bytes(data[4:], "big"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost_at.append(True)


class Pair:
    """Node 1 dials node 2, and greets it."""

    def __init__(self, conditions: Conditions = CALM) -> None:
        self.scheduler = Scheduler()
        self.trace = Trace()
        self.network = SimulatedNetwork(conditions, lambda name: random.Random(name), self.trace)
        self.one = Process(self.scheduler, "node-1/1", sockets=self.network)
        self.two = Process(self.scheduler, "node-2/1", sockets=self.network)
        self.dialler, self.listener = Peer(), Peer()
        self.errors: list[BaseException] = []
        self.network.listen(self.two, lambda: self.listener, "node-2", 2380)
        self.dial()
        self.run(1)

    def dial(self) -> None:
        async def dial() -> None:
            try:
                await self.one.create_connection(lambda: self.dialler, "node-2", 2380)
            except OSError as error:
                self.errors.append(error)

        self.one.post(0, lambda: self.one.create_task(dial()))

    def run(self, for_s: float, done: Callable[[], bool] = lambda: False) -> None:
        self.scheduler.run(self.scheduler.now_s + for_s, done)

    def send(self, *numbers: int) -> None:
        transport = self.dialler.transport
        assert transport is not None
        transport.write(b"".join(map(frame, numbers)))


def test_a_stream_keeps_its_order() -> None:
    pair = Pair(replace(CALM, tail_probability=0.5, tail_factor=50.0))
    pair.send(0)
    for n in range(1, 100):
        pair.send(n)
    pair.run(5)
    assert pair.listener.got == list(range(100))


def test_frames_get_lost_repeated_and_overtaken_where_conditions_say_so() -> None:
    pair = Pair(replace(CALM, loss=0.2, repeat=0.2, overtake=0.5, delay_s=(0.001, 0.01)))
    pair.send(0)
    pair.run(1)
    pair.send(*range(1, 1000))
    pair.run(5)
    got = pair.listener.got
    assert got[0] == 0, "the handshake is exempt"
    assert 700 < len(set(got)) < 900
    assert len(got) > len(set(got))
    assert got != sorted(got)
    assert sum(isinstance(event, Lost) for event in pair.trace.events) == 1000 - len(set(got))


@pytest.mark.parametrize("hold", [True, False])
def test_a_cut_link_holds_or_loses(hold: bool) -> None:
    pair = Pair(replace(CALM, hold_when_cut=hold))
    pair.send(0, 1)
    pair.run(1)
    pair.network.cut((1, 2))
    pair.network.cut((1, 2))
    pair.send(2)
    pair.run(1)
    pair.network.mend((1, 2))
    pair.send(3)
    pair.run(1)
    assert pair.listener.got == [0, 1], "two cuts need two mends"
    pair.network.mend((1, 2))
    pair.send(4)
    pair.run(0.9)
    assert pair.listener.got == ([0, 1] if hold else [0, 1, 4]), "repeated 0.2, 0.6, 1.4, 3 s later"
    pair.run(0.2)
    assert pair.listener.got == ([0, 1, 2, 3, 4] if hold else [0, 1, 4])


def test_what_is_repeated_into_another_cut_waits_on_and_what_is_given_up_never_comes() -> None:
    for given_up in (False, True):
        pair = Pair(replace(CALM, hold_when_cut=True))
        pair.send(0)
        pair.run(1)
        pair.network.cut((1, 2))
        pair.send(1)
        pair.run(0.5)
        pair.network.mend((1, 2))
        pair.network.cut((1, 2))
        pair.run(1)
        if given_up:
            assert pair.dialler.transport is not None
            pair.dialler.transport.abort()
        pair.network.mend((1, 2))
        pair.run(2)
        assert pair.listener.got == ([0] if given_up else [0, 1])
        assert pair.listener.lost_at == [], "the other end is not told"


def test_a_forgotten_stream_carries_nothing_and_says_nothing() -> None:
    pair = Pair()
    pair.send(0)
    pair.run(1)
    pair.network.forget_streams([(2, 1)])
    pair.send(1)
    pair.run(5)
    assert pair.listener.got == [0] and not pair.dialler.lost_at
    pair.dial()
    pair.run(1)
    pair.send(2)
    pair.run(1)
    assert pair.listener.got == [0, 2], "a new one works"


def test_a_killed_program_resets_its_streams_and_a_dead_machine_does_not() -> None:
    for silently in (False, True):
        pair = Pair()
        pair.send(0, 1)
        pair.run(1)
        if silently:
            pair.network.host_down(2)
        pair.two.kill()
        pair.network.process_ended(pair.two, silently)
        pair.run(1)
        assert pair.dialler.lost_at == ([] if silently else [True])


def test_a_machine_that_is_back_resets_what_it_does_not_know() -> None:
    pair = Pair()
    pair.send(0)
    pair.network.host_down(2)
    pair.two.kill()
    pair.network.process_ended(pair.two, silently=True)
    pair.send(1)
    pair.run(1)
    assert pair.dialler.lost_at == [], "nobody answers"
    pair.network.host_up(2)
    pair.send(2)
    pair.run(1)
    assert pair.dialler.lost_at == [True]


def test_dialling_is_refused_where_nobody_listens_and_hangs_where_nothing_answers() -> None:
    pair = Pair()
    pair.two.kill()
    pair.network.process_ended(pair.two, silently=False)
    pair.dial()
    pair.run(1)
    assert [type(error) for error in pair.errors] == [ConnectionRefusedError]
    pair.network.cut((2, 1))
    pair.dial()
    pair.run(100)
    assert len(pair.errors) == 1


def test_closing_tells_the_other_end_after_what_was_written() -> None:
    pair = Pair()
    pair.send(0, 1, 2)
    assert pair.dialler.transport is not None
    pair.dialler.transport.close()
    pair.run(1)
    assert pair.listener.got == [0, 1, 2]
    assert pair.listener.lost_at == [True] and pair.dialler.lost_at == [True]
