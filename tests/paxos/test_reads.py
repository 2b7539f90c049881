"""Linearizable reads: who must answer a probe, and which answers must not count."""

from paxos.configuration import Governance
from paxos.effects import Effects
from paxos.messages import Accept, Fetch, ReadIndex, ReadIndexReply
from paxos.quorum import flexible, majority
from paxos.reads import REMOTE_READS_MAX, Reads
from tests.support.paxos_cluster import TIMEOUT, lead_without_phase_2, led


def reads(n: int = 3, start: int = 1) -> tuple[Reads, Effects]:
    out = Effects()
    quorums = majority(range(1, n + 1))
    return Reads(
        1, Governance(1, quorums), lambda: out, resend_ticks=3, first_request=start << 32
    ), out


def test_a_read_waits_for_a_quorum_that_answers_its_probe() -> None:
    one, out = reads(n=5)
    one.add(7)
    assert one.start_probe(chosen_through=4)
    one.on_heartbeat_reply(2, one.probe - 1)
    one.on_heartbeat_reply(3, one.probe - 1)
    one.on_heartbeat_reply(2, one.probe)
    one.on_heartbeat_reply(2, one.probe)
    assert out.reads == []
    one.on_heartbeat_reply(3, one.probe)
    assert out.reads == [(7, 4)]
    assert one.waiting == 0


def test_a_read_names_the_slot_of_when_its_probe_left() -> None:
    one, out = reads()
    one.add(1)
    one.start_probe(4)
    one.add(2)
    assert not one.start_probe(9), "one probe at a time"
    one.on_heartbeat_reply(2, one.probe)
    assert out.reads == [(1, 4)]
    assert one.start_probe(9)
    one.on_heartbeat_reply(2, one.probe - 1)
    assert out.reads == [(1, 4)], "an answer to the first probe says nothing about the second"
    one.on_heartbeat_reply(3, one.probe)
    assert out.reads == [(1, 4), (2, 9)]


def test_a_leader_that_is_a_quorum_alone_answers_at_once() -> None:
    out = Effects()
    quorums = flexible([1, 2, 3], phase2=1)
    one = Reads(1, Governance(1, quorums), lambda: out, resend_ticks=3, first_request=0)
    one.add(1)
    assert not one.start_probe(3), "nothing to send"
    assert out.reads == [(1, 3)]


def test_nothing_waits_no_probe() -> None:
    one, out = reads()
    assert not one.start_probe(3)
    assert not out


def test_the_leader_answers_a_follower() -> None:
    one, out = reads()
    one.on_read_index(3, 55)
    one.start_probe(6)
    one.on_heartbeat_reply(2, one.probe)
    assert out.send_first == [(3, ReadIndexReply(55, 6))]


def test_requests_of_followers_are_bounded() -> None:
    one, _ = reads()
    for request in range(REMOTE_READS_MAX + 10):
        one.on_read_index(2, request)
    assert one.waiting == REMOTE_READS_MAX


def test_a_follower_asks_once_for_all_that_wait() -> None:
    one, out = reads()
    one.add(1)
    one.add(2)
    one.ask_leader(3)
    one.add(3)
    one.ask_leader(3)
    ((to, request),) = out.send_first
    assert to == 3 and isinstance(request, ReadIndex)
    one.on_read_index_reply(ReadIndexReply(request.request, 8))
    one.on_read_index_reply(ReadIndexReply(request.request, 8))
    assert out.reads == [(1, 8), (2, 8)]
    one.ask_leader(3)
    assert len(out.send_first) == 2


def test_a_lost_request_is_asked_again_and_the_old_answer_does_not_count() -> None:
    one, out = reads()
    one.add(1)
    one.ask_leader(3)
    for _ in range(3):
        one.tick(2)
    (_, first), (to, again) = out.send_first
    assert isinstance(first, ReadIndex) and isinstance(again, ReadIndex)
    assert to == 2 and again.request > first.request
    one.on_read_index_reply(ReadIndexReply(first.request, 1))
    assert out.reads == []


def test_no_start_takes_the_answer_meant_for_an_earlier_one() -> None:
    before, out_before = reads(start=1)
    after, out_after = reads(start=2)
    for one, out in ((before, out_before), (after, out_after)):
        one.add(1)
        one.ask_leader(3)
        assert out.send_first
    ((_, old),) = out_before.send_first
    assert isinstance(old, ReadIndex)
    after.on_read_index_reply(ReadIndexReply(old.request, 1))
    assert out_after.reads == []


def test_a_change_of_leader_starts_own_reads_over_and_drops_those_of_peers() -> None:
    one, out = reads()
    one.add(1)
    one.on_read_index(2, 5)
    one.start_probe(3)
    old = one.probe
    one.add(2)
    one.leader_changed()
    one.on_heartbeat_reply(3, old)
    assert not out and one.waiting == 2
    one.start_probe(8)
    one.on_heartbeat_reply(3, old)
    assert not out, "an answer to the old leadership's probe"
    one.on_heartbeat_reply(3, one.probe)
    assert sorted(out.reads) == [(1, 8), (2, 8)] and out.send_first == []


def test_cancelled_reads_are_not_answered_wherever_they_wait() -> None:
    one, out = reads()
    one.add(1)
    one.add(2)
    one.start_probe(3)
    one.add(3)
    one.cancel({1, 3})
    one.on_heartbeat_reply(2, one.probe)
    assert out.reads == [(2, 3)] and one.waiting == 0
    one.add(4)
    one.ask_leader(2)
    one.cancel({4})
    assert one.waiting == 0


# -- in a cluster ------------------------------------------------------------------------------


def test_reads_on_leader_and_follower_see_the_last_write() -> None:
    cluster = led()
    slot = cluster.propose(1, b"a")
    cluster.settle()
    for i in cluster.ids:
        cluster.read(i, i)
        cluster.settle()
        assert cluster.hosts[i].reads == {i: slot}


def test_a_new_leader_serves_no_read_before_its_barrier_is_chosen() -> None:
    cluster = led()
    cluster.propose(1, b"a")
    cluster.settle({1, 2})
    cluster.propose(1, b"b")
    cluster.settle({1, 2})
    cluster.read(3, 7)
    cluster.drop()
    lead_without_phase_2(cluster, 3, voter=2)
    for _ in range(4):
        cluster.tick(3)
        cluster.drop(lambda packet: not isinstance(packet[2], Accept | Fetch))
        cluster.settle()
        assert cluster.hosts[3].reads == {}, "a quorum follows, but old values are not known"
    cluster.run(20)
    assert cluster.hosts[3].reads[7] >= 3


def test_a_deposed_leader_serves_no_read() -> None:
    cluster = led()
    cluster.run(2)
    cluster.drop()
    cluster.run(TIMEOUT - 4, {2, 3})
    cluster.node(2).suspect(1)
    cluster.node(3).suspect(1)
    cluster.run(6, {2, 3})
    (new,) = [i for i in cluster.leaders if i != 1]
    cluster.propose(new, b"news")
    cluster.run(2, {2, 3})
    cluster.read(1, 7)
    cluster.settle()
    assert 7 not in cluster.hosts[1].reads
    cluster.run(6)
    assert cluster.hosts[1].reads[7] >= cluster.applied_anywhere - 1


def test_a_read_survives_a_change_of_leader() -> None:
    cluster = led()
    cluster.read(3, 7)
    cluster.drop()
    cluster.crash(1)
    cluster.run(10 * TIMEOUT)
    assert 7 in cluster.hosts[3].reads
