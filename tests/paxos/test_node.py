"""The composition: whole clusters through the situations that roles alone cannot show."""

import pytest

from paxos.ballot import ZERO, Ballot
from paxos.errors import PeerError, ProtocolError
from paxos.messages import (
    Accept,
    Accepted,
    Chosen,
    Fetch,
    Fetched,
    HandOver,
    Heartbeat,
    HeartbeatReply,
    LogEntry,
    Nack,
    Prepare,
    PreVote,
    Promise,
)
from paxos.node import Node
from paxos.node_config import NodeConfig
from paxos.node_roles import Role
from paxos.quorum import flexible, majority
from tests.support.paxos_cluster import TIMEOUT, Cluster, Packet, lead_without_phase_2, led

# -- writing -----------------------------------------------------------------------------------


def test_values_are_applied_everywhere_in_order() -> None:
    cluster = led()
    for value in (b"a", b"b", b"c"):
        cluster.propose(1, value)
        cluster.settle()
    for i in cluster.ids:
        assert cluster.log(i) == [b"", b"a", b"b", b"c"]


def test_a_single_node_cluster() -> None:
    cluster = led(n=1)
    cluster.propose(1, b"a")
    cluster.read(1, 5)
    assert cluster.log(1) == [b"", b"a"]
    assert cluster.hosts[1].reads == {5: 2}
    cluster.crash(1)
    cluster.restart(1)
    cluster.elect(1)
    cluster.propose(1, b"b")
    assert cluster.log(1)[:2] == [b"", b"a"] and cluster.log(1)[-1] == b"b"


def test_flexible_quorums_write_with_few_and_elect_with_many() -> None:
    cluster = Cluster(quorums=flexible(range(1, 6), phase2=2))
    cluster.elect(1)
    cluster.propose(1, b"a")
    cluster.settle({1, 2})
    assert cluster.log(1)[-1] == b"a", "two of five chose it"
    cluster.drop()
    cluster.run(8 * TIMEOUT, {3, 4, 5})
    assert cluster.leaders == [1], "three of five cannot elect"
    cluster.crash(1)
    cluster.run(20 * TIMEOUT)
    assert len(cluster.leaders) == 1 and b"a" in cluster.log(cluster.leaders[0])


def test_the_leader_does_not_count_its_own_vote_before_its_disk_has_it() -> None:
    cluster = Cluster(2, slow_disk=True)
    for _ in range(3 * TIMEOUT):
        cluster.tick(1)
        cluster.flush(1)
        cluster.settle()
        cluster.flush(2)
    assert cluster.leaders == [1]
    for i in (1, 2, 1):
        cluster.flush(i)
        cluster.settle()
    slot = cluster.propose(1, b"a")
    cluster.settle()
    cluster.flush(2)
    cluster.settle()
    assert slot not in cluster.history
    cluster.flush(1)
    assert cluster.history[slot] == b"a"


def test_restart_from_records() -> None:
    cluster = led()
    for value in (b"a", b"b"):
        cluster.propose(1, value)
        cluster.settle()
    cluster.run(4)
    for i in cluster.ids:
        cluster.crash(i)
    for i in cluster.ids:
        cluster.restart(i)
        assert cluster.node(i).role is Role.FOLLOWER
    cluster.run(4 * TIMEOUT)
    (leader,) = cluster.leaders
    cluster.propose(leader, b"c")
    cluster.run(4)
    for i in cluster.ids:
        assert [value for value in cluster.log(i) if value] == [b"a", b"b", b"c"]


# -- elections ---------------------------------------------------------------------------------


def test_a_returning_node_does_not_unseat_a_working_leader() -> None:
    cluster = led()
    ballot = cluster.node(1).ballot
    cluster.drop()
    cluster.run(10 * TIMEOUT, {1, 2})
    cluster.tick(3, 10 * TIMEOUT)
    assert cluster.node(3).role is Role.FOLLOWER, "it asks, and nobody grants"
    cluster.run(4 * TIMEOUT)
    assert cluster.leaders == [1] and cluster.node(1).ballot == ballot
    assert [cluster.node(i).leader for i in cluster.ids] == [1, 1, 1]


def test_installing_a_snapshot_does_not_make_a_follower_grant_pre_votes() -> None:
    cluster = led()
    node = cluster.node(2)
    node.receive(1, Heartbeat(cluster.node(1).ballot, 0, 9))
    node.restart_from_snapshot(9)
    node.take_effects()
    node.receive(3, PreVote(Ballot(99, 3), 10))
    assert node.take_effects().send_first[-1][1].granted is False  # type: ignore[union-attr]


def test_a_leader_cut_off_steps_down_by_itself() -> None:
    cluster = led(n=5)
    cluster.run(2 * TIMEOUT, {1, 2})
    assert cluster.leaders == []
    assert cluster.node(1).role is Role.FOLLOWER and not cluster.node(1).can_propose


@pytest.mark.parametrize("hub", [1, 2])
def test_a_hub_that_alone_reaches_everyone_ends_up_leading(hub: int) -> None:
    cluster = led(n=5)
    cluster.drop()
    for _ in range(60 * TIMEOUT):
        for i in cluster.ids:
            cluster.tick(i)
        for _ in range(4):
            cluster.drop(lambda packet: hub in packet[:2])
            for _ in range(len(cluster.network)):
                cluster.deliver()
        if cluster.leaders == [hub] and cluster.node(hub).serves_reads:
            return
    raise AssertionError(f"leaders {cluster.leaders}")


@pytest.mark.parametrize("seed", range(10))
def test_dueling_proposers_end(seed: int) -> None:
    """All start at once, and an answer takes almost as long as the shortest time-out."""
    cluster = Cluster(5, seed=seed, election_ticks=8)
    late: list[list[Packet]] = [[] for _ in range(3)]
    for _ in range(100):
        for i in cluster.ids:
            cluster.tick(i)
        late.append(cluster.network)
        cluster.network = []
        for packet in late.pop(0):
            cluster.network.insert(0, packet)
            cluster.deliver()
        if cluster.leaders and cluster.node(cluster.leaders[0]).serves_reads:
            return
    raise AssertionError("no leader")


def test_a_nack_deposes_the_leader_and_raises_its_next_ballot() -> None:
    cluster = led()
    cluster.node(1).receive(2, Nack(cluster.node(1).ballot, Ballot(50, 3)))
    cluster.drain(1)
    assert cluster.leaders == []
    for i in cluster.ids:
        cluster.node(i).suspect(1)
    cluster.elect(1)
    assert cluster.node(1).ballot == Ballot(51, 1)


def test_a_nack_of_an_older_ballot_changes_nothing() -> None:
    cluster = led()
    cluster.node(1).receive(2, Nack(ZERO.next_for(3), Ballot(50, 3)))
    assert cluster.leaders == [1]


def test_hand_over() -> None:
    cluster = led()
    cluster.propose(1, b"a")
    cluster.settle()
    cluster.hand_over(1, 3)
    assert not cluster.node(1).can_propose, "no new values while it moves"
    cluster.settle()
    assert cluster.leaders == [3]
    assert cluster.node(1).leader == 3
    cluster.propose(3, b"b")
    cluster.run(3)
    assert [value for value in cluster.log(1) if value] == [b"a", b"b"]


def test_a_hand_over_in_vain_ends() -> None:
    cluster = led()
    cluster.crash(3)
    cluster.hand_over(1, 3)
    cluster.run(TIMEOUT + 1)
    assert cluster.leaders == [1] and cluster.node(1).can_propose


def test_a_hand_over_of_an_old_leader_is_ignored() -> None:
    cluster = led()
    old = HandOver(cluster.node(1).ballot)
    cluster.hand_over(1, 2)
    cluster.settle()
    cluster.run(3)
    cluster.node(3).receive(1, old)
    assert cluster.node(3).role is Role.FOLLOWER
    assert cluster.node(2).hand_over(9) is None, "no such member"
    assert cluster.node(3).hand_over(1) is None, "not the leader"


def test_leadership_is_not_handed_to_one_that_lacks_what_is_truncated() -> None:
    """It would promise itself a higher ballot and be told Truncated: nobody would lead."""
    cluster = led()
    for number in range(20):
        cluster.propose(1, b"%d" % number)
        cluster.settle({1, 2})
    cluster.tick(1, 2)
    cluster.settle({1, 2})
    cluster.truncate(1, 15)
    assert cluster.node(1).hand_over(3) is None
    assert cluster.node(1).can_propose, "it goes on leading"
    assert cluster.node(1).hand_over() == 2, "the one that is furthest can"


# -- catching up -------------------------------------------------------------------------------


def test_a_laggard_catches_up_by_fetch() -> None:
    cluster = led()
    for number in range(20):
        cluster.propose(1, b"%d" % number)
        cluster.settle({1, 2})
    assert cluster.hosts[3].applied_through <= 1
    cluster.run(6)
    assert cluster.log(3) == cluster.log(1)


def test_a_laggard_beyond_the_log_takes_a_snapshot() -> None:
    cluster = led()
    for number in range(20):
        cluster.propose(1, b"%d" % number)
        cluster.settle({1, 2})
    for i in (1, 2):
        cluster.truncate(i, 15)
    for _ in range(3):
        cluster.tick(1, 2)
        cluster.settle()
        cluster.tick(3)
        cluster.settle()
    assert cluster.hosts[3].snapshot_from == 1
    assert cluster.install_snapshot(3)
    cluster.run(6)
    assert cluster.log(3) == cluster.log(1)
    assert cluster.node(3).acceptor.first_slot == cluster.hosts[3].checkpoint + 1
    cluster.crash(3)
    cluster.restart(3)
    assert cluster.log(3) == cluster.log(1)


def test_a_laggard_that_leads_is_not_stuck_when_others_truncate() -> None:
    """It proposes again what they have just dropped, and nobody would ever answer."""
    cluster = led()
    for number in range(10):
        cluster.propose(1, b"%d" % number)
        cluster.settle({1, 2})
    lead_without_phase_2(cluster, 3, voter=2)
    cluster.truncate(2, cluster.hosts[2].applied_through + 1)
    cluster.run(10 * TIMEOUT)
    assert cluster.leaders and cluster.log(3)[:11] == cluster.log(2)[:11]
    cluster.propose(cluster.leaders[0], b"on")
    cluster.run(6)
    assert cluster.log(3)[-1] == b"on"


def test_what_is_fetched_during_phase_1_does_not_fill_the_window() -> None:
    node = Node(NodeConfig(1, majority([1, 2, 3])), lambda n: 0)
    old = tuple(LogEntry(slot, Ballot(1, 2), b"%d" % slot) for slot in range(1, 5))
    node.receive(2, Heartbeat(Ballot(1, 2), 0, 0))
    node.receive(2, HandOver(Ballot(1, 2)))
    ballot = node.proposer.ballot
    node.receive(2, Fetched(old, 4))
    node.receive(1, Promise(ballot, 1, (), None))
    node.receive(2, Promise(ballot, 1, old, None))
    node.truncate(4)
    node.take_effects()
    assert node.role is Role.LEADER and node.proposer.in_flight == 0 and node.can_propose


# -- safety of stale leaders -------------------------------------------------------------------


def test_a_preempted_leader_does_not_announce_what_others_chose() -> None:
    """Slot 2 holds a value of 1.1 at node 2 only; another leader gets a second one chosen there."""
    cluster = led(n=5)
    cluster.run(2)
    fetch: tuple[int, int, Fetch] = (1, 4, Fetch(2))
    cluster.propose(1, b"lost")
    cluster.settle({1})
    cluster.node(2).receive(1, Accept(cluster.node(1).ballot, 2, b"lost", 1))
    cluster.drain(2)
    cluster.drop()
    cluster.run(10 * TIMEOUT, {3, 4, 5})
    new = next(i for i in cluster.leaders if i != 1)
    cluster.propose(new, b"won")
    cluster.settle({3, 4, 5})
    cluster.run(3, {3, 4, 5})
    assert 1 in cluster.leaders
    cluster.drop()
    cluster.network.append(fetch)
    cluster.deliver_from(1, 4)
    cluster.deliver_from(4, 1)
    cluster.settle({1, 2})
    assert 1 not in cluster.leaders
    assert cluster.hosts[2].applied_through == 1


def test_a_deposed_leaders_slow_accept_does_not_touch_what_was_fetched() -> None:
    cluster = led(leader=1)
    cluster.run(2)
    cluster.propose(1, b"lost")
    (slow,) = cluster.queued(Accept, 1, 2)
    cluster.drop()
    cluster.run(20 * TIMEOUT, {3, 1})
    cluster.hand_over(cluster.leaders[0], 4 - cluster.leaders[0])
    cluster.settle({3, 1})
    cluster.propose(cluster.leaders[0], b"won")
    cluster.run(6)
    cluster.network.append(slow)
    cluster.settle()
    cluster.check_log(2)


# -- messages that no correct member sends -------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        Accept(Ballot(1, 2), 1, b"v", 0),
        Chosen(Ballot(1, 2), 1),
        Heartbeat(Ballot(1, 2), 0, 0),
        Prepare(Ballot(1, 2), 1),
        PreVote(Ballot(1, 2), 1),
        HandOver(Ballot(1, 2)),
    ],
)
def test_nobody_uses_the_ballot_of_another(message: object) -> None:
    node = Node(NodeConfig(1, majority([1, 2, 3])), lambda n: 0)
    with pytest.raises(PeerError):
        node.receive(3, message)  # type: ignore[arg-type]
    assert not node.take_effects()


def test_votes_of_another_ballot_do_not_count() -> None:
    """Failing schedule otherwise: two late votes of an earlier ballot choose what one accepted."""
    cluster = led()
    node = cluster.node(1)
    slot = node.propose(b"a")
    for ballot in (Ballot(0, 1), Ballot(node.ballot.round + 1, 1)):
        for voter in (2, 3):
            node.receive(voter, Accepted(ballot, slot))
    assert node.take_effects().chosen == [] and node.chosen_through < slot


def test_late_answers_of_an_old_ballot_are_ignored() -> None:
    cluster = led()
    node = cluster.node(1)
    node.receive(2, HeartbeatReply(Ballot(0, 1), 10**9, 10**9))
    node.receive(2, Promise(Ballot(0, 1), 1, (LogEntry(1, Ballot(9, 9), b"?"),), None))
    cluster.drain(1)
    assert node.progress.get(2, 0) < 10 and cluster.leaders == [1]


def test_who_is_not_a_member_cannot_be_a_node() -> None:
    with pytest.raises(ValueError, match="not one of the members"):
        Node(NodeConfig(9, majority([1, 2, 3])), lambda n: 0)


def test_the_noop_is_not_a_value_to_propose() -> None:
    with pytest.raises(ProtocolError, match="no-op"):
        led().node(1).propose(b"")


def test_only_what_is_chosen_can_be_dropped_from_the_log() -> None:
    node = led().node(1)
    with pytest.raises(ProtocolError, match="chosen through"):
        node.truncate(node.chosen_through + 2)
