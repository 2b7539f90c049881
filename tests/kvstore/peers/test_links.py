"""Links on real sockets: given up when silent, dialled again soon, told once, and nobody twice."""

import asyncio
import struct
from collections.abc import Awaitable, Callable

import pytest

from kvstore.peers.frames import (
    HELLO_BYTES_MAX,
    Hello,
    Refusal,
    Relay,
    decode_hello,
    encode_frame,
)
from kvstore.peers.incoming import STRANGERS_PER_ADDRESS
from kvstore.peers.patience import SILENCE_S_MIN, Patience
from kvstore.peers.told import BREAKS_TO_FLAP, PeerTold, StrangersTold
from paxos.ballot import NodeId
from proof.processes.network import HeldPort
from tests.support.town import Events, Town, closed, come, frame, town

Asynchronous = Callable[[], Awaitable[None]]


class Puppet:
    """Listens at a member's place and shows its handshake; `live` says for how long."""

    def __init__(self, town: Town, node: NodeId, silence_ms: int, live: Asynchronous) -> None:
        self.calls = 0
        self.heard = b""
        self._town, self._node, self._silence_ms, self._live = town, node, silence_ms, live

    async def start(self) -> asyncio.Server:
        host, port = self._town.addresses[self._node]
        return await asyncio.start_server(self._serve, host, port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown = decode_hello(await frame(reader))
        assert isinstance(shown, Hello)
        writer.write(encode_frame(self._town.hello(self._node, shown.node, self._silence_ms)))
        self.calls += 1
        hearing = asyncio.ensure_future(self._hear(reader))
        await self._live()
        hearing.cancel()
        writer.close()

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(4096):
            self.heard += data


async def for_ever() -> None:
    await asyncio.sleep(3600)


def test_idle_links_stay() -> None:
    async def run() -> None:
        async with town() as here:
            one, two = await here.member(1), await here.member(2)
            await come(lambda: one.transport.connected(2) and two.transport.connected(1), "met")
            for _ in range(6):
                await asyncio.sleep(SILENCE_S_MIN / 2)
                assert one.transport.connected(2) and two.transport.connected(1)
                assert (one.transport.silent_s(2) or 0) < SILENCE_S_MIN
            assert (2, False) not in one.ups and (1, False) not in two.ups
            assert one.reached == [2] and two.reached == [1]
            one.transport.send(2, Relay(b"x"))
            one.transport.flush()
            await come(lambda: two.heard == [Relay(b"x")], "a message arrives, pings do not")

    asyncio.run(run())


def test_a_link_on_which_nothing_is_heard_is_given_up_and_dialled_anew() -> None:
    async def run() -> None:
        async with town() as here:
            puppet = Puppet(here, 2, 500, for_ever)
            server = await puppet.start()
            one = await here.member(1)
            await come(lambda: one.transport.connected(2), "connected")
            await come(lambda: puppet.calls >= 2, "dialled anew")
            assert "\0\0\0\0" in puppet.heard.decode("latin-1"), "it is told that one is there"
            server.close()
            await come(lambda: not one.transport.connected(2), "given up")
            await come(lambda: "down for" in one.transport.word(2), "said in status")
            assert (one.transport.silent_s(2) or 0) > 0

    asyncio.run(run())


def test_a_caller_that_falls_silent_is_given_up() -> None:
    async def run() -> None:
        async with town() as here:
            one = await here.member(1)
            reader, writer = await here.dial(1)
            writer.write(encode_frame(here.hello(2, 1)))
            await frame(reader)
            assert await frame(reader) == b"", "a ping"
            assert await closed(reader)
            await come(lambda: one.ups == [(2, True), (2, False)], "and its end is told")
            writer.close()

    asyncio.run(run())


def test_an_earlier_release_is_neither_pinged_nor_given_up() -> None:
    async def run() -> None:
        async with town() as here:
            puppet = Puppet(here, 2, 0, for_ever)
            server = await puppet.start()
            one = await here.member(1)
            reader, writer = await here.dial(1)
            writer.write(encode_frame(here.hello(2, 1, silence_ms=0, instance="")))
            await frame(reader)
            await come(lambda: one.transport.connected(2), "connected")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3 * SILENCE_S_MIN):
                    await reader.read(1)
            assert one.transport.connected(2) and puppet.heard == b"" and puppet.calls == 1
            writer.close()
            server.close()

    asyncio.run(run())


# -- one process for each identity ----------------------------------------------------------


def test_the_second_process_with_one_identity_is_refused_and_ends() -> None:
    async def run() -> None:
        async with town() as here:
            members = [await here.member(node) for node in (1, 2, 3)]
            one, two, three = members
            await come(lambda: (2, True) in one.ups and (2, True) in three.ups, "all met")
            elsewhere = HeldPort()
            here.extra.append(elsewhere)
            copy = await here.member(2, "a copy", elsewhere.number)
            await come(lambda: bool(copy.failures), "the copy ends")
            assert "copy" in copy.failures[0] and "[1, 3]" in copy.failures[0]
            assert two.failures == one.failures == []
            for refuser in (one, three):
                assert (2, False) not in refuser.ups, "the first one's link stays"
                refused = refuser.events.named("link refused")
                assert len(refused) == 1 and "two processes run as node 2" in str(refused[0])
            told = copy.events.named("link refused")
            assert len(told) == 2, "by each peer, once"

    asyncio.run(run())


def test_a_restart_is_taken_at_once_and_so_is_one_whose_first_life_fell_silent() -> None:
    async def run() -> None:
        async with town() as here:
            one, two = await here.member(1), await here.member(2)
            await come(lambda: one.transport.connected(2) and (2, True) in one.ups, "met")
            await two.transport.stop()
            two = await here.member(2, "its second life")
            await come(lambda: two.transport.connected(1), "taken again")
            assert not two.events.named("link refused")
            await two.transport.stop()
            reader, writer = await here.dial(1)
            writer.write(encode_frame(here.hello(2, 1, instance="one that falls silent")))
            await frame(reader)
            three = await here.member(2, "its fourth life")
            await come(lambda: three.transport.connected(1), "taken once the third is silent")
            assert not three.failures
            writer.close()

    asyncio.run(run())


# -- strangers ------------------------------------------------------------------------------


def test_strangers_may_send_little_for_a_short_time_and_are_few() -> None:
    async def run() -> None:
        async with town() as here:
            one = await here.member(1)
            reader, writer = await here.dial(1)
            writer.write(struct.pack(">I", HELLO_BYTES_MAX + 1))
            assert await closed(reader)
            writer.close()
            await come(lambda: len(one.events.named("link dropped")) == 1, "said")
            silent = [await here.dial(1) for _ in range(2 * STRANGERS_PER_ADDRESS + 10)]
            for reader, writer in silent:
                assert await closed(reader)
                writer.close()
            reasons = [str(fields["reason"]) for fields in one.events.named("link refused")]
            assert sorted(reasons) == [
                "no handshake in time", "too many connections that have shown no handshake",
            ]  # fmt: skip

    asyncio.run(run())


def test_a_refusal_says_what_is_wrong() -> None:
    async def run() -> None:
        async with town() as here:
            await here.member(1)
            for _ in range(3):
                reader, writer = await here.dial(1)
                writer.write(encode_frame(here.hello(2, 3)))
                answer = decode_hello(await frame(reader))
                assert isinstance(answer, Refusal) and "meant for node 3" in answer.reason
                writer.close()

    asyncio.run(run())


# -- what is told ---------------------------------------------------------------------------


def test_a_dead_peer_is_one_line_and_its_return_another() -> None:
    async def run() -> None:
        async with town() as here:
            one = await here.member(1, n3="no-such-host.invalid")
            down = one.events.named
            await come(lambda: len(down("peer down")) == 2, "both are told")
            causes = {str(f["peer"]): str(f["cause"]) for f in down("peer down")}
            assert "refused" in causes["2"] or "Connect call failed" in causes["2"]
            assert "does not resolve" in causes["3"]
            assert one.transport.word(3).startswith("never reached: no-such-host.invalid:")
            await here.member(2)
            await come(lambda: len(down("peer up")) == 1, "it is back")
            assert int(str(down("peer up")[0]["attempts"])) > 3
            assert one.transport.word(2) == "up"
            assert len(down("peer down")) == 2

    asyncio.run(run())


def test_a_link_that_flaps_is_one_line() -> None:
    async def run() -> None:
        async with town() as here:
            puppet = Puppet(here, 2, 500, lambda: asyncio.sleep(0.02))
            server = await puppet.start()
            one = await here.member(1)
            await come(lambda: puppet.calls > 5 * BREAKS_TO_FLAP, "it breaks again and again")
            told = [fields for fields in one.events.named("peer down") if fields["peer"] == 2]
            assert len(told) == 1 and "breaks" in told[0]
            assert not one.events.named("peer up")
            server.close()

    asyncio.run(run())


def test_what_strangers_say_fills_no_log() -> None:
    events = Events()
    told = StrangersTold(events)
    for number in range(1000):
        told.told(number / 100, "link refused", f"reason {number}" + "x" * 10_000)
        told.told(number / 100, "link refused", "the same")
    assert len(events.lines) <= 33
    assert max(len(str(fields)) for _, fields in events.lines) < 400
    told.look(61.0)
    again = events.named("link refused again")
    assert {"times": 999, "reason": "the same"} in again and len(again) == 2
    told.told(62.0, "link refused", "the same")
    assert events.lines[-1] == ("link refused", {"reason": "the same"})


def test_a_short_break_is_not_told_and_each_new_cause_of_a_refusal_is() -> None:
    events = Events()
    told = PeerTold(2, events, Patience(1.0, 0.5, (0.02, 0.25)), 0.0)
    for now_s in (0.5, 0.9):
        told.look(now_s)
    told.ready(0.9)
    told.look(5.0)
    told.broke(6.0, "closed")
    told.ready(6.5)
    for now_s in (7.0, 8.0, 9.0):
        told.look(now_s)
    assert events.lines == []
    told.broke(10.0, "closed")
    for cause in ("a", "a", "b", "a", "b"):
        told.refused(cause)
    told.look(12.0)
    assert [name for name, _ in events.lines] == ["link refused", "link refused", "peer down"]
    assert "down for 2.0 s: b" in told.word(12.0)
