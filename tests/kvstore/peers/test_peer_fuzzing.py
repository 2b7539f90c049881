"""Anything at all at the peer port, on real sockets: nobody gets in who is no member, nothing
raises on the loop, every connection ends, and a member is served afterwards as before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from typing import get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvstore.peers.frames import (
    PROTOCOL_VERSION,
    FrameError,
    FrameReader,
    Hello,
    PeerMessage,
    Refusal,
    Relay,
    decode_hello,
    decode_message,
    encode_frame,
)
from kvstore.peers.membership import Membership
from kvstore.peers.patience import SILENCE_S_MIN
from paxos.configuration import Configuration
from paxos.quorum import majority
from tests.support.examples import TIMES
from tests.support.frames_at_random import MESSAGES
from tests.support.fuzzed import Fuzzed, fuzzed
from tests.support.nearly_right import DEADLINE_S, Visit, send, soon, visits
from tests.support.town import INCARNATIONS, Member, Town, frame, town

pytestmark = pytest.mark.proof

KINDS = get_args(PeerMessage)
FOUNDERS = Configuration(1, majority(INCARNATIONS))
ROSTERS: list[dict[int, str]] = [{}, INCARNATIONS, {**INCARNATIONS, 9: "nine"}, {1: "one"}]
PIECES = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\1\0\0", b"\xc0", b"\xc1", b"\xdd", b"\0"]


def of_member(node: int) -> Hello:
    """As that member shows itself once the cluster has formed."""
    membership = Membership(
        node, INCARNATIONS[node], FOUNDERS, "", dict(INCARNATIONS), True, lambda *_: None
    )
    return membership.hello(1, "x", 500)


present = st.sampled_from([None, of_member(2).present])
hellos = st.builds(
    Hello,
    protocol=st.sampled_from([PROTOCOL_VERSION] * 8 + [0, 3]),
    node=st.sampled_from([0, 1, 2, 3, 4, 9, 1 << 63]),
    to=st.sampled_from([1, 1, 1, 2]),
    incarnation=st.sampled_from([*INCARNATIONS.values(), "", "nine"]),
    configuration=st.sampled_from([of_member(2).configuration, "", "1/1/1"]),
    roster=st.sampled_from(ROSTERS),
    formed=st.booleans(),
    client_address=st.text(max_size=9),
    instance=st.sampled_from(["", "x", "y"]),
    silence_ms=st.sampled_from([500, 500, 1, 1 << 63]),
    name=st.text(max_size=9),
    peer_address=st.text(max_size=9),
    present=present,
    begins=st.sampled_from([None, "", "another"]),
)
spoken = (hellos | st.just(of_member(2)) | MESSAGES | st.builds(Refusal, st.text())).map(
    encode_frame
) | st.just(b"\0\0\0\0")


class Place(Fuzzed[tuple[Town, Member]]):
    """Member 1, whose peers are fuzzers."""

    _first: dict[int, str]
    """Its roster before they came."""

    @property
    def one(self) -> Member:
        return self.what[1]

    async def receive(self, some: list[Visit], silent: bool) -> None:
        """One after the other, unless they are silent, which takes time."""
        self._first = self.one.membership.roster
        if silent:
            await super().receive(some, silent)
        else:
            for visit in some:
                await self.visit(visit, silent)

    def check(self) -> None:
        """What a node keeps of its peers does not grow by what anybody says."""
        one = self.one
        assert {peer for peer, up in one.ups if up} <= {2, 3}, "a stranger was let in"
        assert all(isinstance(message, KINDS) for message in one.heard)
        assert not one.failures
        membership = one.membership
        assert membership.pinned == INCARNATIONS and membership.complete
        assert membership.client_addresses.keys() <= INCARNATIONS.keys()
        assert membership.names.keys() <= INCARNATIONS.keys()
        assert len(membership.claims) <= 64
        # Who shows a member's incarnation may tell of a change of the members; this one is undone.
        membership.roster = self._first

    async def visit(self, visit: Visit, silent: bool) -> None:
        reader, writer = await self._dial()
        try:
            if visit.known:
                writer.write(encode_frame(of_member(2)))
            await send(writer, visit, silent=silent)
            with suppress(ConnectionError):
                async with asyncio.timeout(DEADLINE_S):
                    while await reader.read(1 << 16):
                        pass
        finally:
            writer.close()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await self.what[0].dial(1)

    def nothing_held(self) -> bool:
        door = self.one.transport._door
        assert door is not None
        return not door._strangers and not door._known

    async def serve(self) -> None:
        """A member is heard, and answered."""
        self.one.heard.clear()
        reader, writer = await self._dial()
        writer.write(encode_frame(of_member(2)) + encode_frame(Relay(b"well")))
        async with asyncio.timeout(DEADLINE_S):
            answer = decode_hello(await frame(reader))
        assert isinstance(answer, Hello), answer
        await soon(lambda: self.one.heard == [Relay(b"well")], "a member is heard")
        writer.close()
        await soon(self.nothing_held, "the member has left")
        self.one.heard.clear()
        self.one.ups.clear()


@asynccontextmanager
async def member_one() -> AsyncIterator[tuple[Town, Member]]:
    async with town() as here:
        yield here, await here.member(1)


def place() -> AbstractContextManager[Place]:
    return fuzzed("peer port", member_one(), Place)


some_visits = visits(spoken, PIECES, known=True)
fourth_founder = msgspec.structs.replace(of_member(2), node=9, incarnation="nine", present=None)

itself = msgspec.structs.replace(of_member(1), to=1, instance="")


def test_who_comes_with_anything_at_all_leaves_no_trace() -> None:
    with place() as here:

        @settings(max_examples=60 * TIMES)
        @given(st.lists(some_visits, min_size=1, max_size=6))
        @example([Visit(encode_frame(fourth_founder))])
        @example([Visit(encode_frame(itself))])
        def come(some: list[Visit]) -> None:
            here.take(some, silent=False)

        come()


def test_who_falls_silent_is_sent_away() -> None:
    """In time, at any point of what it says. A member falls silent, too."""
    with place() as here:

        @settings(max_examples=3 * TIMES)
        @given(st.lists(some_visits, min_size=6, max_size=10))
        def come(some: list[Visit]) -> None:
            here.take(some, silent=True)

        come()
        assert here.one.transport._patience.silence_s == SILENCE_S_MIN


def test_frames_are_read_or_refused() -> None:
    """Nothing but FrameError, and never more is kept than one frame may have."""
    executions = 0

    @settings(max_examples=400 * TIMES)
    @given(some_visits)
    def come(visit: Visit) -> None:
        nonlocal executions
        executions += 1
        reader = FrameReader(1 << 12)
        with suppress(FrameError):
            for piece in visit.pieces:
                for payload in reader.feed(piece):
                    for decode in (decode_hello, decode_message):
                        with suppress(FrameError):
                            decode(payload)
                assert len(reader._buffer) <= 4 + reader.bytes_max

    come()
    print(f"frames: {executions} executions")
