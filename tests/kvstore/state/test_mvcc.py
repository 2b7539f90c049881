"""MVCC over the store with checkpoints, failures and reopening, against a model that keeps all."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kvstore.commands.batches import Batch, Bundle
from kvstore.commands.binary import encode
from kvstore.commands.commands import Compact, Delete, Put
from kvstore.errors import RevisionCompacted, RevisionInFuture
from kvstore.state.state_machine import StateMachine
from kvstore.storage.state import StateStore

KEYS = st.sampled_from([b"a", b"a\0", b"a\0\0", b"a\0\xff", b"ab", b"b", b"\0", b"\xff\xff"])


class MvccAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.open()
        self.slots: list[bytes] = []
        self.past: dict[int, dict[bytes, tuple[bytes, int, int, int]]] = {1: {}}

    def open(self) -> None:
        self.store = StateStore(self.directory / "state.mdb")
        self.machine = StateMachine(self.store)

    def apply(self, command: Put | Delete | Compact) -> None:
        slot = len(self.slots) + 1
        bundle = encode(Bundle(1, 1, slot, slot, (command,)))
        self.slots.append(encode(Batch(slot, (bundle,))))
        self.machine.apply(slot, self.slots[-1])

    @rule(key=KEYS, value=st.binary(max_size=5))
    def put(self, key: bytes, value: bytes) -> None:
        now = max(self.past)
        _, create, _, version = self.past[now].get(key, (b"", now + 1, 0, 0))
        self.past[now + 1] = {**self.past[now], key: (value, create, now + 1, version + 1)}
        self.apply(Put(key, value))

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        now = max(self.past)
        if key in self.past[now]:
            self.past[now + 1] = {k: v for k, v in self.past[now].items() if k != key}
        self.apply(Delete(key))

    @rule(back=st.integers(0, 5))
    def compact(self, back: int) -> None:
        self.apply(Compact(max(self.past) - back))

    @rule(fails=st.booleans())
    def checkpoint(self, fails: bool) -> None:
        frozen = self.machine.freeze()
        if frozen is None:
            return
        if fails:
            self.store.fail(grow=True)
            return
        self.store.write_frozen(frozen[1])
        self.machine.checkpointed(frozen[0])

    @rule()
    def crash(self) -> None:
        digest = self.machine.digest
        self.store.close()
        self.open()
        for slot in range(self.machine.applied_through + 1, len(self.slots) + 1):
            self.machine.apply(slot, self.slots[slot - 1])
        assert self.machine.digest == digest

    @rule(start=KEYS, end=st.none() | KEYS, reverse=st.booleans(), limit=st.integers(1, 4))
    def ranges(self, start: bytes, end: bytes | None, reverse: bool, limit: int) -> None:
        for revision in range(max(self.machine.compacted_revision, 1), max(self.past) + 1):
            wanted = sorted(
                (k for k in self.past[revision] if start <= k and (end is None or k < end)),
                reverse=reverse,
            )
            page = self.machine.range(start, end, revision=revision, limit=limit, reverse=reverse)
            assert [item.key for item in page.items] == wanted[:limit]
            assert page.more == (len(wanted) > limit)

    @invariant()
    def gets_agree(self) -> None:
        machine, now = self.machine, max(self.past)
        assert machine.revision == now
        for revision in range(max(machine.compacted_revision, 1), now + 1):
            for key in (b"a", b"a\0", b"a\0\xff", b"\xff\xff"):
                found = machine.get(key, revision)
                shown = found and (
                    found.value,
                    found.create_revision,
                    found.mod_revision,
                    found.version,
                )
                assert shown == self.past[revision].get(key)
        with pytest.raises(RevisionInFuture):
            machine.get(b"a", now + 1)
        if machine.compacted_revision > 1:
            with pytest.raises(RevisionCompacted):
                machine.get(b"a", machine.compacted_revision - 1)

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)


TestMvcc = MvccAgainstModel.TestCase
TestMvcc.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
