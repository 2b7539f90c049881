"""Forming in two rounds, and who is refused."""

import pytest

from kvstore.peers.membership import HandshakeRefused, Membership
from paxos.configuration import Configuration
from paxos.quorum import flexible, majority


def member(node: int, incarnation: str, nodes: int = 3) -> Membership:
    first = Configuration(1, majority(range(1, nodes + 1)))
    return Membership(node, incarnation, first, "http://x", {}, False, lambda *_: None)


def meet(*members: Membership) -> None:
    for one in members:
        for other in members:
            if one is not other:
                one.check(other.hello(one.node))


def test_one_node_alone_forms() -> None:
    assert member(1, "a", 1).formed


def test_forms_once_all_have_met_all() -> None:
    members = a, b, c = member(1, "a"), member(2, "b"), member(3, "c")
    meet(a, b)
    meet(a, c)
    assert not any(m.formed for m in members)
    for _ in range(3):
        meet(*members)
    assert all(m.formed for m in members)
    assert len({m.cluster_id for m in members}) == 1
    with pytest.raises(HandshakeRefused, match="does not know"):
        a.check(member(3, "emptied").hello(1))
    with pytest.raises(HandshakeRefused, match="data directory is empty: it waits to be taken in"):
        member(3, "emptied").check(a.hello(3))


def test_one_way_handshakes_form_nothing_that_a_lost_disk_could_join() -> None:
    a, b, c, emptied = member(1, "a"), member(2, "b"), member(3, "c"), member(3, "emptied")
    meet(a, b)
    c.check(b.hello(3))  # the answer to b is lost
    meet(a, c)
    meet(a, c)
    assert not (a.formed or c.formed)
    meet(b, emptied)
    meet(b, emptied)
    assert not (b.formed or emptied.formed)


def test_another_configuration_is_refused() -> None:
    other = Membership(
        2, "b", Configuration(1, flexible([1, 2, 3], 1)), "http://x", {}, False, lambda *_: None
    )
    with pytest.raises(HandshakeRefused, match="configured"):
        member(1, "a").check(other.hello(1))
