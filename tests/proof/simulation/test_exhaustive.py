"""The exhaustive checker: sound models stand, and every removed rule is missed."""

import pytest

from paxos.ballot import Ballot
from paxos.quorum import majority
from proof.simulation.exhaustive.checks import BROKEN, MAJORITY, ONE_BALLOT_EACH, SOUND, main
from proof.simulation.exhaustive.model import ACCEPTORS, VALUES, SynodModel
from proof.simulation.exhaustive.search import Search

STATES_EXPECTED = {
    "majorities, one retry": 300_000,
    "phase 1 of 3, phase 2 of 1": 15_000,
    "phase 1 of 1, phase 2 of 3": 3_000,
}
LARGE = "majorities, one retry"
SHORTEST = {"promise": 15, "reported": 15, "highest": 21, "intersection": 11, "durability": 16}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.proof) if n == LARGE else n for n in SOUND]
)
def test_a_sound_model_never_chooses_two_values(name: str) -> None:
    outcome = Search(SOUND[name]).run()
    assert outcome.counter_example == []
    assert outcome.states > STATES_EXPECTED[name]
    assert 0 < outcome.states_chosen < outcome.states
    assert outcome.values_chosen == set(VALUES.values()), "each value is chosen in some run"


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.proof) if "highest" in n else n for n in BROKEN],
)
def test_without_a_rule_two_values_are_chosen(name: str) -> None:
    lines = Search(BROKEN[name]).run().counter_example
    assert lines, f"no counter-example without {name}"
    assert lines[-1].split(". ", 1)[1].startswith("two values are chosen: ")
    # Breadth first: no shorter one exists, so its length is a fact about the algorithm.
    assert len(lines) == SHORTEST[name.split(":")[0].split()[0]]


def test_merging_interchangeable_acceptors_loses_no_outcome() -> None:
    model = SynodModel(MAJORITY, ONE_BALLOT_EACH)
    merged, full = Search(model).run(), Search(model, symmetric=False).run()
    assert merged.values_chosen == full.values_chosen
    assert full.counter_example == merged.counter_example == []
    # At most 3! states become one.
    assert full.states / 6 <= merged.states < full.states / 5


@pytest.mark.proof
@pytest.mark.parametrize("name", [name for name in BROKEN if "highest" not in name])
def test_merging_keeps_counter_examples_shortest(name: str) -> None:
    merged = Search(BROKEN[name]).run().counter_example
    full = Search(BROKEN[name], symmetric=False).run().counter_example
    assert len(merged) == len(full)


def test_a_restart_in_the_sound_model_changes_nothing() -> None:
    """Records reproduce the memory of the acceptor after every step."""
    search = Search(SynodModel(MAJORITY, ONE_BALLOT_EACH))
    search.run()
    lanes = search._lanes.values
    assert len(lanes) > 10
    assert all(
        (a.promised, a.accepted) == (a.promised_durably, a.accepted_durably)
        for a in (lane.acceptor for lane in lanes)
    )


def test_a_lone_proposer_gets_only_its_own_value_chosen() -> None:
    outcome = Search(SynodModel(majority(ACCEPTORS), {1: (Ballot(1, 1),), 2: ()})).run()
    assert outcome.values_chosen == {VALUES[1]}
    assert outcome.counter_example == []


def test_a_search_too_large_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proof.simulation.exhaustive.search.STATES_MAX", 100)
    with pytest.raises(RuntimeError, match="more than 100 states"):
        Search(SynodModel(MAJORITY, ONE_BALLOT_EACH)).run()


def test_the_command_fails_when_a_broken_model_goes_unnoticed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = SynodModel(MAJORITY, ONE_BALLOT_EACH)
    broken = BROKEN["intersection: phase 1 quorums of 1 miss phase 2 quorums of 2"]
    monkeypatch.setattr("proof.simulation.exhaustive.checks.SOUND", {"small": small})
    monkeypatch.setattr("proof.simulation.exhaustive.checks.BROKEN", {"intersection": broken})
    assert main() == 0
    assert "0 violations" in capsys.readouterr().out
    monkeypatch.setattr("proof.simulation.exhaustive.checks.BROKEN", {"nothing at all": small})
    assert main() == 1
    assert "no counter-example" in capsys.readouterr().out
    monkeypatch.setattr("proof.simulation.exhaustive.checks.SOUND", {"unsound": broken})
    monkeypatch.setattr("proof.simulation.exhaustive.checks.BROKEN", {})
    assert main() == 1
    assert "1 violations" in capsys.readouterr().out
