"""Forming in two rounds, and who is refused."""

import msgspec
import pytest

from kvstore.peers.membership import Membership
from kvstore.peers.refusals import HandshakeRefused, RefusalKind
from kvstore.peers.roster import Roster, RosterMember
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


@pytest.mark.parametrize("shown", [{}, {1: "a", 2: "b", 3: "c"}])
def test_who_says_that_it_is_a_fourth_founder_is_refused(shown: dict[int, str]) -> None:
    """Though it names the founders' configuration, which is no secret, or even who they are."""
    a, b, _ = members = member(1, "a"), member(2, "b"), member(3, "c")
    for _ in range(4):
        meet(*members)
    assert a.formed
    known = msgspec.structs.replace(b.hello(1), present=None, roster=shown)
    assert not a.check(known), "a founder of the release before"
    for node in (0, 4, 9):
        with pytest.raises(HandshakeRefused, match="is not a member of cluster"):
            a.check(msgspec.structs.replace(known, node=node, incarnation="x"))
    assert a.complete and a.pinned == {1: "a", 2: "b", 3: "c"}


def roster(number: int, last_id: int, *ids: int) -> Roster:
    members = tuple(RosterMember(n, f"inc{n}", f"node{n}", "", "", True) for n in ids)
    return Roster("cluster", number, last_id, members)


def as_member(node: int, shown: Roster) -> Membership:
    """One that knows these members by its own log."""
    made = Membership(node, f"inc{node}", None, "http://x", {}, True, lambda *_: None, roster=shown)
    made.adopt(shown, by_peer=False)
    return made


def test_who_has_not_heard_of_a_member_does_not_tell_it_that_it_was_removed() -> None:
    """Member 4 came and went while 1 was away: 1 may lack what was chosen with its vote."""
    behind, gone = as_member(1, roster(1, 3, 1, 2, 3)), as_member(4, roster(2, 4, 1, 2, 3, 4))
    behind.adopt(roster(3, 4, 1, 2, 3))
    with pytest.raises(HandshakeRefused, match="as far as node 1 knows") as refused:
        behind.check(gone.hello(1))
    assert refused.value.kind == RefusalKind.OTHER
    behind.adopt(roster(3, 4, 1, 2, 3), by_peer=False)
    with pytest.raises(HandshakeRefused) as refused:
        behind.check(gone.hello(1))
    assert refused.value.kind == RefusalKind.REMOVED


def test_a_member_by_the_own_log_is_one_until_that_has_led_further() -> None:
    """A peer says that 3 is gone; it had a vote on slots that are not known as chosen here."""
    behind, goes = as_member(1, roster(1, 3, 1, 2, 3)), as_member(3, roster(1, 3, 1, 2, 3))
    behind.adopt(roster(2, 3, 1, 2))
    behind.check(goes.hello(1))
    behind.adopt(roster(2, 3, 1, 2), by_peer=False)
    with pytest.raises(HandshakeRefused):
        behind.check(goes.hello(1))
