"""MVCC over the store with checkpoints, failures and reopening, against a model that keeps all."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kvstore.commands.commands import Compact, Delete, Put
from kvstore.errors import RevisionCompacted, RevisionInFuture
from tests.support.driven_state import Driven

KEYS = st.sampled_from([b"a", b"a\0", b"a\0\0", b"a\0\xff", b"ab", b"b", b"\0", b"\xff\xff"])


class MvccAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.driven = Driven(self.directory / "state.mdb")
        self.past: dict[int, dict[bytes, tuple[bytes, int, int, int]]] = {1: {}}

    @rule(key=KEYS, value=st.binary(max_size=5))
    def put(self, key: bytes, value: bytes) -> None:
        now = max(self.past)
        _, create, _, version = self.past[now].get(key, (b"", now + 1, 0, 0))
        self.past[now + 1] = {**self.past[now], key: (value, create, now + 1, version + 1)}
        self.driven.apply(Put(key, value))

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        now = max(self.past)
        if key in self.past[now]:
            self.past[now + 1] = {k: v for k, v in self.past[now].items() if k != key}
        self.driven.apply(Delete(key))

    @rule(back=st.integers(0, 5))
    def compact(self, back: int) -> None:
        self.driven.apply(Compact(max(self.past) - back))

    @rule(fails=st.booleans())
    def checkpoint(self, fails: bool) -> None:
        self.driven.checkpoint(fails)

    @rule()
    def crash(self) -> None:
        digest = self.driven.state.digest
        self.driven.reopen()
        assert self.driven.state.digest == digest

    @rule(start=KEYS, end=st.none() | KEYS, reverse=st.booleans(), limit=st.integers(1, 4))
    def ranges(self, start: bytes, end: bytes | None, reverse: bool, limit: int) -> None:
        for revision in range(max(self.driven.state.compacted_revision, 1), max(self.past) + 1):
            wanted = sorted(
                (k for k in self.past[revision] if start <= k and (end is None or k < end)),
                reverse=reverse,
            )
            page = self.driven.state.range(
                start, end, revision=revision, limit=limit, reverse=reverse
            )
            assert [item.key for item in page.items] == wanted[:limit]
            assert page.more == (len(wanted) > limit)

    @invariant()
    def gets_agree(self) -> None:
        state, now = self.driven.state, max(self.past)
        assert state.revision == now
        for revision in range(max(state.compacted_revision, 1), now + 1):
            for key in (b"a", b"a\0", b"a\0\xff", b"\xff\xff"):
                found = state.get(key, revision)
                shown = found and (
                    found.value,
                    found.create_revision,
                    found.mod_revision,
                    found.version,
                )
                assert shown == self.past[revision].get(key)
        with pytest.raises(RevisionInFuture):
            state.get(b"a", now + 1)
        if state.compacted_revision > 1:
            with pytest.raises(RevisionCompacted):
                state.get(b"a", state.compacted_revision - 1)

    def teardown(self) -> None:
        self.driven.store.close()
        shutil.rmtree(self.directory)


TestMvcc = MvccAgainstModel.TestCase
TestMvcc.settings = settings(max_examples=25, stateful_step_count=30)
