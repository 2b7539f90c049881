"""The digest's bytes are pinned: nodes of two releases must come to the same one."""

import hashlib
from collections.abc import Callable

import pytest

from kvstore.commands.accounts import AddRole
from kvstore.state.changes import Changes
from paxos.ballot import Ballot

EIGHT = b"\0\0\0\0\0\0\0\x05"


@pytest.mark.parametrize(
    ("change", "covered"),
    [
        (lambda changes: changes.key_put(b"k", b"record"), b"krecord"),
        (lambda changes: changes.keys_deleted((b"a", b"b")), b"ab"),
        (lambda changes: changes.lease_granted(5, b"grant's"), b"grant" + EIGHT + b"grant's"),
        (lambda changes: changes.lease_ended(-1), b"end" + b"\xff" * 8),
        (lambda changes: changes.auth_changed(AddRole("r")), b"auth\x92\xa2r+\xa1r"),
        (lambda changes: changes.compacted(5), b"compact" + EIGHT),
        (lambda changes: changes.answer_kept(b"id"), b"id"),
        (lambda changes: changes.led_by(Ballot(5, 5)), b"ballot" + EIGHT + EIGHT),
        (lambda changes: changes.bundle_refused(), b"refused"),
    ],
)
def test_each_kind_of_entry(change: Callable[[Changes], None], covered: bytes) -> None:
    changes = Changes()
    change(changes)
    change(changes)
    assert changes.take_digest(b"before") == digest(b"before" + covered + covered)
    assert changes.take_digest(b"") == digest(b""), "the next slot starts empty"


def digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
