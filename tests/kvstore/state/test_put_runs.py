"""Plain puts that follow each other in a bundle are applied together: nobody can tell."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kvstore.commands.commands import (
    ABSENT,
    Command,
    Compact,
    Condition,
    Delete,
    Grant,
    Put,
    Revoke,
)
from kvstore.state.mvcc import KeyEvent
from tests.support.driven_state import Driven

KEYS = st.sampled_from([b"a", b"ab", b"b"])
VALUES = st.sampled_from([b"", b"v", b"w" * 1100])
LEASE = 7
PLAIN = st.builds(Put, KEYS, VALUES)
COMMANDS = st.one_of(
    PLAIN,
    PLAIN,
    PLAIN,
    st.builds(Put, KEYS, VALUES, st.none(), st.sampled_from([LEASE, 8])),
    st.builds(Put, KEYS, VALUES, st.sampled_from([ABSENT, Condition(3)])),
    st.builds(Delete, KEYS),
    st.builds(Compact, st.integers(2, 40)),
    st.just(Grant(LEASE, 60)),
    st.just(Revoke(LEASE)),
)
BUNDLES = st.lists(st.lists(COMMANDS, min_size=1, max_size=12), max_size=8)


def nobody(revision: int, events: list[KeyEvent]) -> None:
    """Who listens has every put applied by itself."""


def contents(driven: Driven) -> dict[str, list[tuple[bytes, bytes]]]:
    return {name: list(table.scan(b"", None)) for name, table in driven.store.tables.items()}


@given(BUNDLES)
def test_together_or_one_by_one(bundles: list[list[Command]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        together = Driven(Path(directory) / "together.mdb")
        one_by_one = Driven(Path(directory) / "one_by_one.mdb")
        try:
            one_by_one.state.watch(nobody)
            for at, commands in enumerate(bundles):
                assert together.apply(*commands) == one_by_one.apply(*commands)
                if at % 3 == 2:
                    together.checkpoint()
                    one_by_one.checkpoint()
            assert together.state.digest == one_by_one.state.digest
            assert together.state.revision == one_by_one.state.revision
            one_by_one.checkpoint()
            together.checkpoint()
            assert contents(together) == contents(one_by_one)
        finally:
            together.store.close()
            one_by_one.store.close()
