"""Whose state is wrong: a peer that differs is named, a node that is outnumbered stops."""

import pytest

from kvstore.errors import DivergedState
from kvstore.replica.digests import SLOTS_KEPT, DigestCheck


def test_equal_digests_are_no_news() -> None:
    check = DigestCheck(1, 3)
    assert [check.add(node, 256, b"same") for node in (2, 1, 3, 2)] == [None] * 4


@pytest.mark.parametrize("own_comes", ["first", "last"])
def test_one_of_three_differs(own_comes: str) -> None:
    check = DigestCheck(1, 3)
    if own_comes == "first":
        assert check.add(1, 256, b"own") is None
        assert check.add(2, 256, b"other") == 2
    else:
        assert check.add(2, 256, b"other") is None, "nothing to compare with"
        assert check.add(1, 256, b"own") == 2
    assert check.add(2, 256, b"other") == 2, "the same peer again is no second one"
    assert check.add(3, 256, b"own") == 2


@pytest.mark.parametrize(("second", "third"), [(b"other", b"other"), (b"other", b"another")])
def test_two_of_three_differ(second: bytes, third: bytes) -> None:
    check = DigestCheck(1, 3)
    check.add(1, 256, b"own")
    check.add(2, 256, second)
    with pytest.raises(DivergedState, match=r"slot 256 .* \[2, 3\]"):
        check.add(3, 256, third)


def test_slots_are_not_mixed_up() -> None:
    check = DigestCheck(1, 3)
    for slot in (256, 512):
        check.add(1, slot, b"own %d" % slot)
    assert check.add(2, 256, b"own 512") == 2
    assert check.add(3, 512, b"own 256") == 3


@pytest.mark.parametrize("nodes", [(1, 2), (2, 1)])
def test_of_two_nobody_is_with_a_majority(nodes: tuple[int, int]) -> None:
    check = DigestCheck(1, 2)
    check.add(nodes[0], 256, b"a")
    with pytest.raises(DivergedState):
        check.add(nodes[1], 256, b"b")


@pytest.mark.parametrize(("members", "borne"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (7, 3)])
def test_as_many_may_differ_as_leave_a_majority(members: int, borne: int) -> None:
    check = DigestCheck(1, members)
    assert check.add(1, 256, b"own") is None
    for peer in range(2, 2 + borne):
        assert check.add(peer, 256, b"other") == 2
    if members > 1:
        with pytest.raises(DivergedState):
            check.add(2 + borne, 256, b"other")


def test_only_the_last_slots_are_remembered() -> None:
    check = DigestCheck(1, 3)
    slots = range(256, 1000 * 256, 256)
    for slot in slots:
        check.add(1, slot, b"own")
    # Newest first: remembering a slot again must not push out a newer one.
    noticed = [slot for slot in reversed(slots) if check.add(2, slot, b"other")]
    assert noticed[::-1] == list(slots)[-SLOTS_KEPT:]


def test_peers_far_ahead_are_remembered_within_the_bound_too() -> None:
    check = DigestCheck(1, 3)
    for slot in range(1, 1000):
        check.add(2, slot, b"other")
    noticed = [slot for slot in range(999, 0, -1) if check.add(1, slot, b"own")]
    assert len(noticed) == SLOTS_KEPT
