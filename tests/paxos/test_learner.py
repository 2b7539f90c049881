"""The learner: counting votes, the contiguous prefix, whom to believe, and catching up."""

from paxos.ballot import Ballot
from paxos.configuration import Governance
from paxos.effects import Effects
from paxos.learner import Learner
from paxos.messages import Fetch, LogEntry
from paxos.quorum import flexible, majority

B, OLD = Ballot(2, 1), Ballot(1, 2)


def learner(chosen_through: int = 0, n: int = 3) -> tuple[Learner, Effects]:
    out = Effects()
    quorums = majority(range(1, n + 1))
    return Learner(
        Governance(1, quorums), lambda: out, chosen_through=chosen_through, resend_ticks=3
    ), out


def log(*entries: LogEntry) -> dict[int, LogEntry]:
    return {entry.slot: entry for entry in entries}


def test_a_phase_2_quorum_of_different_nodes_makes_chosen() -> None:
    node, _ = learner()
    assert not node.vote(1, B, 1)
    assert not node.vote(1, B, 1), "the same vote twice"
    assert node.vote(2, B, 1)


def test_votes_of_different_ballots_do_not_add_up() -> None:
    node, _ = learner()
    assert not node.vote(1, OLD, 1)
    assert not node.vote(2, B, 1)
    assert not node.vote(3, OLD, 1), "an older ballot than the one counted"
    assert node.vote(3, B, 1)


def test_flexible_phase_2() -> None:
    node = Learner(
        Governance(1, flexible(range(1, 6), phase2=2)), Effects, chosen_through=0, resend_ticks=3
    )
    assert not node.vote(4, B, 1)
    assert node.vote(5, B, 1)


def test_chosen_comes_out_in_order_without_gap_or_repeat() -> None:
    node, out = learner()
    for slot in (3, 2, 3, 1, 1, 5):
        node.choose(slot, b"%d" % slot)
    assert out.chosen == [(1, b"1"), (2, b"2"), (3, b"3")]
    assert node.chosen_through == 3


def test_no_vote_counts_for_what_is_chosen_already() -> None:
    node, _ = learner()
    node.choose(2, b"ahead")
    assert not node.vote(1, B, 2) and not node.vote(2, B, 2)
    node = learner(chosen_through=5)[0]
    assert not node.vote(1, B, 5) and not node.vote(2, B, 5)


def test_forgotten_votes_and_what_they_made_chosen_are_counted_anew() -> None:
    """Slot 2 was chosen beyond a gap; the node steps down and leads again, and proposes both."""
    node, out = learner()
    node.choose(2, b"two")
    node.forget_votes()
    assert not node.vote(1, B, 2) and node.vote(2, B, 2)
    node.choose(2, b"two")
    node.choose(1, b"one")
    assert out.chosen == [(1, b"one"), (2, b"two")]


def test_a_follower_believes_the_leader_for_entries_of_its_ballot_only() -> None:
    node, out = learner()
    held = log(LogEntry(1, B, b"a"), LogEntry(2, OLD, b"perhaps lost"), LogEntry(3, B, b"c"))
    node.follow(1, B, 3, held)
    assert out.chosen == [(1, b"a")]
    node.tick()
    assert out.send_first == [(1, Fetch(2))], "the rest is fetched"


def test_a_missing_entry_is_a_gap() -> None:
    node, out = learner()
    node.follow(1, B, 2, log(LogEntry(2, B, b"b")))
    assert out.chosen == []


def test_fetching_goes_on_until_nothing_is_missing() -> None:
    node, out = learner()
    node.follow(1, B, 4, {})
    node.tick()
    node.on_fetched(1, (LogEntry(1, OLD, b"a"), LogEntry(2, OLD, b"b")), 4)
    node.on_fetched(1, (LogEntry(3, OLD, b"c"), LogEntry(4, OLD, b"d")), 4)
    assert out.send_first == [(1, Fetch(1)), (1, Fetch(3))]
    assert [slot for slot, _ in out.chosen] == [1, 2, 3, 4]
    for _ in range(9):
        node.tick()
    assert len(out.send_first) == 2


def test_a_lost_fetch_is_repeated_with_patience() -> None:
    node, out = learner()
    node.follow(1, B, 4, {})
    for _ in range(7):
        node.tick()
    assert out.send_first == [(1, Fetch(1))] * 3


def test_pieces_twice_or_late_change_nothing() -> None:
    node, out = learner()
    piece = (LogEntry(1, OLD, b"a"), LogEntry(2, OLD, b"b"))
    node.on_fetched(1, piece, 2)
    node.on_fetched(1, piece, 2)
    node.on_fetched(1, (LogEntry(5, OLD, b"e"),), 5)
    assert [slot for slot, _ in out.chosen] == [1, 2]


def test_hearing_of_more_leads_to_a_fetch_with_the_next_tick() -> None:
    node, out = learner()
    node.hear_of(2, 0)
    node.tick()
    assert not out
    node.hear_of(2, 9)
    node.tick()
    assert out.send_first == [(2, Fetch(1))]


def test_a_snapshot_moves_the_prefix_and_only_forward() -> None:
    node, out = learner()
    node.restart_from(7)
    node.restart_from(3)
    assert node.chosen_through == 7
    node.choose(8, b"h")
    assert out.chosen == [(8, b"h")]
