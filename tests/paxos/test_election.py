"""The election: time-outs, pre-votes, back-off, and stepping down."""

from paxos.ballot import ZERO, Ballot
from paxos.configuration import Governance
from paxos.election import BACK_OFF_MAX, SUSPECT_TICKS, Election
from paxos.quorum import flexible, majority

TICKS = 10
LEADER = Ballot(3, 2)


def election(n: int = 3, *, longest: bool = True) -> Election:
    """Node 1; its jitter is always the largest, or always the smallest."""
    return Election(
        1,
        Governance(1, majority(range(1, n + 1))),
        election_ticks=TICKS,
        jitter=lambda bound: bound - 1 if longest else 0,
    )


def ticks_to_stand(one: Election) -> int:
    return next(count for count in range(1, 999) if one.tick())


def test_a_follower_stands_after_silence_only() -> None:
    one = election(longest=False)
    for _ in range(50):
        one.heard(LEADER)
        assert not one.tick()
    assert one.leader == 2
    assert ticks_to_stand(one) == TICKS - 1
    assert one.leader is None


def test_who_hears_a_leader_does_not_promise_to_others() -> None:
    one = election()
    assert one.would_promise(), "a node that starts has heard nobody"
    one.heard(LEADER)
    for _ in range(TICKS - 1):
        one.tick()
        assert not one.would_promise()
    one.tick()
    assert one.would_promise()


def test_news_is_a_new_leader_or_a_new_ballot() -> None:
    one = election()
    assert one.heard(LEADER)
    assert not one.heard(LEADER)
    assert one.heard(Ballot(4, 2))
    assert one.heard(Ballot(5, 3))


def test_failures_widen_the_random_range_up_to_a_bound() -> None:
    one = election()
    waits = [ticks_to_stand(one) for _ in range(BACK_OFF_MAX + 3)]
    assert waits == sorted(waits)
    assert waits[-1] == waits[-2] == TICKS + BACK_OFF_MAX * TICKS - 1
    one.heard(LEADER)
    assert ticks_to_stand(one) == 2 * TICKS - 1, "a leader ends the back-off"


def test_a_pre_vote_asks_for_more_than_anything_seen() -> None:
    one = election()
    one.heard(LEADER)
    one.saw(Ballot(9, 3))
    assert one.start_pre_vote() == Ballot(10, 1)


def test_a_pre_vote_is_won_once_by_a_phase_1_quorum() -> None:
    one = election(n=5)
    ballot = one.start_pre_vote()
    one.on_pre_vote_reply(2, ballot, granted=True)
    one.on_pre_vote_reply(2, ballot, granted=True)
    one.on_pre_vote_reply(3, ballot, granted=False)
    one.on_pre_vote_reply(4, Ballot(7, 7), granted=True)
    assert one.take_won_pre_vote(0) is None
    one.on_pre_vote_reply(5, ballot, granted=True)
    assert one.take_won_pre_vote(0) == ballot
    assert one.take_won_pre_vote(0) is None


def test_hearing_a_leader_ends_a_pre_vote() -> None:
    one = election()
    ballot = one.start_pre_vote()
    one.heard(LEADER)
    one.on_pre_vote_reply(3, ballot, granted=True)
    assert one.take_won_pre_vote(0) is None


def test_a_single_member_wins_alone() -> None:
    one = election(n=1)
    assert one.start_pre_vote() == one.take_won_pre_vote(0) == ZERO.next_for(1)


def test_a_broken_link_to_the_leader_shortens_the_wait() -> None:
    one = election()
    one.heard(LEADER)
    assert not one.suspect(3), "not the leader"
    assert one.suspect(2)
    assert one.would_promise() and one.leader is None
    assert ticks_to_stand(one) == SUSPECT_TICKS
    one.lead(Ballot(4, 1))
    assert not one.suspect(1), "nobody suspects itself"


def test_a_leader_without_a_phase_2_quorum_steps_down() -> None:
    one = election(n=5)
    one.lead(Ballot(4, 1))
    for _ in range(3 * TICKS):
        one.heard_follower(2)
        one.heard_follower(3)
        assert not one.lost_quorum(0)
    lost = []
    for _ in range(TICKS + 1):
        one.heard_follower(2)
        one.heard_follower(2)
        lost.append(one.lost_quorum(0))
    assert lost == [False] * TICKS + [True]


def test_phase_2_may_need_fewer_than_phase_1() -> None:
    one = Election(
        1, Governance(1, flexible(range(1, 6), phase2=2)), election_ticks=TICKS, jitter=lambda _: 0
    )
    one.lead(Ballot(1, 1))
    for _ in range(3 * TICKS):
        one.heard_follower(2)
        assert not one.lost_quorum(0)


def test_waiting_for_another_candidate_restarts_the_timer() -> None:
    one = election(longest=False)
    for _ in range(5):
        one.wait()
        for _ in range(TICKS - 1):
            assert not one.tick()


def test_a_link_that_comes_up_ends_the_back_off_of_one_without_a_leader() -> None:
    one = election()
    for _ in range(BACK_OFF_MAX + 1):
        ticks_to_stand(one)
    one.reached()
    assert ticks_to_stand(one) == SUSPECT_TICKS
    assert ticks_to_stand(one) == 2 * TICKS - 1
    one.heard(LEADER)
    one.reached()
    assert ticks_to_stand(one) == 2 * TICKS - 1, "a leader that is heard is not doubted"
