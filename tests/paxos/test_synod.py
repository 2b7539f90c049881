"""Single-decree Paxos, role by role."""

import pytest

from paxos.ballot import ZERO, Ballot
from paxos.messages import Accept, Accepted, LogEntry, Nack, Prepare, Promise
from paxos.quorum import flexible, majority
from paxos.synod import SLOT, ProposerState, SynodLearner, SynodProposer, main, trace

B11, B12, B21 = Ballot(1, 1), Ballot(1, 2), Ballot(2, 1)
QUORUMS = majority([1, 2, 3])


def promise(ballot: Ballot, accepted: tuple[Ballot, bytes] | None = None) -> Promise:
    entries = () if accepted is None else (LogEntry(SLOT, *accepted),)
    return Promise(ballot, SLOT, entries, None)


@pytest.fixture
def proposer() -> SynodProposer:
    proposer = SynodProposer(1, QUORUMS, b"own")
    assert proposer.prepare(B11) == Prepare(B11, SLOT)
    return proposer


def test_proposes_its_own_value_when_nothing_is_reported(proposer: SynodProposer) -> None:
    assert proposer.on_promise(1, promise(B11)) is None
    assert proposer.on_promise(3, promise(B11)) == Accept(B11, SLOT, b"own", 0)


def test_a_repeated_promise_counts_once(proposer: SynodProposer) -> None:
    assert proposer.on_promise(1, promise(B11)) is None
    assert proposer.on_promise(1, promise(B11)) is None
    assert proposer.state.promised == {1}


def test_proposes_once_per_ballot(proposer: SynodProposer) -> None:
    proposer.on_promise(1, promise(B11))
    assert proposer.on_promise(2, promise(B11)) is not None
    assert proposer.on_promise(3, promise(B11, (ZERO.next_for(3), b"late"))) is None
    assert proposer.state.proposed == b"own"


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_takes_the_value_of_the_highest_ballot_reported(order: tuple[int, int]) -> None:
    proposer = SynodProposer(1, QUORUMS, b"own", ProposerState(B11))
    proposer.prepare(B21)
    reports = {1: promise(B21, (B11, b"low")), 2: promise(B21, (B12, b"high"))}
    assert proposer.on_promise(order[0], reports[order[0]]) is None
    accept = proposer.on_promise(order[1], reports[order[1]])
    assert accept == Accept(B21, SLOT, b"high", 0)


def test_promises_of_another_ballot_do_not_count(proposer: SynodProposer) -> None:
    proposer.on_promise(1, promise(B11))
    proposer.prepare(B21)
    assert proposer.on_promise(2, promise(B11)) is None
    assert proposer.on_promise(1, promise(B21)) is None
    assert proposer.on_promise(2, promise(B21)) == Accept(B21, SLOT, b"own", 0)


def test_phase_1_needs_its_own_quorum_size() -> None:
    proposer = SynodProposer(1, flexible([1, 2, 3], phase2=1), b"own")
    proposer.prepare(B11)
    assert proposer.on_promise(1, promise(B11)) is None
    assert proposer.on_promise(2, promise(B11)) is None
    assert proposer.on_promise(3, promise(B11)) is not None


@pytest.mark.parametrize("ballot", [B12, B11, ZERO, Ballot(0, 1)])
def test_refuses_ballots_of_others_and_used_ones(proposer: SynodProposer, ballot: Ballot) -> None:
    with pytest.raises(ValueError, match="may not use"):
        proposer.prepare(ballot)
    assert proposer.state.ballot == B11


def test_a_nack_names_the_next_ballot_to_try(proposer: SynodProposer) -> None:
    assert proposer.on_nack(Nack(B11, B12)) == B21
    assert proposer.on_nack(Nack(Ballot(0, 1), B12)) is None, "of an older ballot"
    assert proposer.on_nack(Nack(B11, B11)) is None, "no higher ballot in it"


def test_the_learner_counts_each_ballot_by_itself() -> None:
    learner = SynodLearner(QUORUMS)
    assert not learner.on_accepted(1, Accepted(B11, SLOT))
    assert not learner.on_accepted(1, Accepted(B11, SLOT)), "the same voter twice"
    assert not learner.on_accepted(2, Accepted(B12, SLOT)), "another ballot"
    assert not learner.on_accepted(9, Accepted(B11, SLOT)), "not a member"
    assert learner.on_accepted(3, Accepted(B11, SLOT))


def test_the_learner_uses_the_phase_2_size() -> None:
    assert SynodLearner(flexible([1, 2, 3], phase2=1)).on_accepted(2, Accepted(B11, SLOT))


def test_the_trace_shows_a_preemption_and_ends_with_the_chosen_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines, chosen = trace()
    assert chosen == b"y"
    assert lines[0].split() == ["P1", "A1", "A2", "A3", "P2"]
    assert any("Nack 1.1: 1.2 is promised" in line for line in lines)
    assert all(len(line) <= 100 for line in lines)
    main()
    assert capsys.readouterr().out.splitlines()[-1] == "chosen: y"
