"""Commands and results come back from their binary form as they were; what is none is refused."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.commands.batches import Batch, Bundle
from kvstore.commands.binary import decode_batch, decode_bundle, decode_result, encode
from kvstore.commands.commands import KEY_BYTES_MAX, Command, Compact, Condition, Delete, Once, Put
from kvstore.commands.results import (
    BadRevision,
    Compacted,
    Deleted,
    Mismatched,
    NotHeld,
    Result,
    Written,
)

NUMBERS = st.integers(0, (1 << 64) - 1)
KEYS = st.binary(min_size=1, max_size=40) | st.just(b"\xff" * KEY_BYTES_MAX)
CONDITIONS = st.none() | st.builds(Condition, st.integers(-1, (1 << 63) - 1))
WRITES = st.one_of(
    st.builds(Put, KEYS, st.binary(max_size=99), CONDITIONS),
    st.builds(Delete, KEYS, CONDITIONS),
    st.builds(Compact, NUMBERS),
)
COMMANDS = WRITES | st.builds(Once, st.binary(min_size=1, max_size=128), WRITES, NUMBERS)
BUNDLES = st.builds(
    Bundle, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.lists(COMMANDS, max_size=5).map(tuple)
)
RESULTS = st.one_of(
    st.builds(Written, NUMBERS, NUMBERS, NUMBERS),
    st.builds(Deleted, NUMBERS, st.integers(0, 1)),
    st.builds(Compacted, NUMBERS),
    st.builds(NotHeld, NUMBERS),
    st.builds(BadRevision, NUMBERS, NUMBERS, NUMBERS),
    st.just(Mismatched()),
)


@settings(max_examples=100)
@given(NUMBERS, st.lists(BUNDLES, max_size=3))
def test_batches_of_bundles(clock_ms: int, bundles: list[Bundle]) -> None:
    batch = decode_batch(encode(Batch(clock_ms, tuple(map(encode, bundles)))))
    assert batch.clock_ms == clock_ms
    assert [decode_bundle(encoded) for encoded in batch.bundles] == bundles


@settings(max_examples=100)
@given(RESULTS)
def test_results(result: Result) -> None:
    decoded = decode_result(encode(result))
    assert decoded == result and type(decoded) is type(result)


@settings(max_examples=100)
@given(COMMANDS, COMMANDS)
def test_the_form_tells_any_two_commands_apart(one: Command, other: Command) -> None:
    """Idempotency keys are bound to the command's bytes."""
    assert (encode(one) == encode(other)) == (one == other)


def test_the_time_to_live_travels_with_the_command() -> None:
    bundle = Bundle(1, 1, 1, 1, (Once(b"id", Delete(b"k"), 7), Once(b"id", Delete(b"k"))))
    first, second = decode_bundle(encode(bundle)).commands
    assert isinstance(first, Once) and first.ttl_ms == 7
    assert isinstance(second, Once) and second.ttl_ms == 600_000


@pytest.mark.parametrize(
    "command", [Once(b"a", Once(b"b", Delete(b"k"))), Mismatched(), "p", [b"p", b"k", b"v"]]
)
def test_what_is_no_command_is_refused(command: object) -> None:
    encoded = encode(Bundle(1, 1, 1, 1, (command,)))  # type: ignore[arg-type]
    with pytest.raises(msgspec.DecodeError):
        decode_bundle(encoded)


@given(COMMANDS)
def test_a_command_is_no_result(command: Command) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_result(encode(command))
