"""Frames survive any cut; what is not one is refused."""

import pytest
from hypothesis import given, settings
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
from tests.support.frames_at_random import MESSAGES

DEEP = b"\x91" * 9000 + b"\xc0"
DEEP_RELAY = b"\x94\xa5Relay\xc4\x01x\x01" + DEEP
"""What follows the fields that this release knows is skipped, and it is nested deeply."""


@settings(max_examples=40)
@given(st.lists(MESSAGES, max_size=4), st.integers(1, 9))
def test_every_kind_in_any_cut(messages: list[PeerMessage], step: int) -> None:
    stream = b"".join(map(encode_frame, messages))
    reader = FrameReader(1 << 20)
    cuts = [stream[at : at + step] for at in range(0, len(stream), step)]
    assert [decode_message(p) for cut in cuts for p in reader.feed(cut)] == messages


def test_too_long_and_garbage() -> None:
    with pytest.raises(FrameError, match="limit is 8"):
        list(FrameReader(8).feed(b"\0\0\0\x09"))
    for garbage in (b"", b"\xc1", b"\x90", b"\x91\xa3Foo", b"\x91\xa1\xff", DEEP_RELAY):
        with pytest.raises(FrameError):
            decode_message(garbage)


@settings(max_examples=60)
@given(st.from_type(Hello) | st.from_type(Refusal))
def test_handshakes(hello: Hello | Refusal) -> None:
    (payload,) = FrameReader(1 << 20).feed(encode_frame(hello))
    assert decode_hello(payload) == hello
    with pytest.raises(FrameError):
        decode_message(payload)


def test_what_is_no_handshake() -> None:
    hello = Hello(PROTOCOL_VERSION, 1, 2, "a", "1,2/2/2", {1: "a", 2: "b"}, True, "http://x")
    whole = encode_frame(hello)[4:]
    payloads = [b"", b"\xc1", b"\x80", whole[:-1], whole + b"\0", encode_frame(Relay(b"x"))[4:]]
    payloads.append(whole.replace(b"Hello", b"Hullo"))
    payloads += [whole.replace(b"http", b"htt\xff"), b"\x82\xa4type\xa5Hello\xa1x" + DEEP]
    for payload in payloads:
        with pytest.raises(FrameError, match="not a handshake"):
            decode_hello(payload)
