"""Each exhibit fails in the broken build, and the same scenario holds in ours."""

import pytest

from proof.museum.__main__ import broken_run, main, sound_run
from proof.museum.exhibits import EXHIBITS, Exhibit, named
from proof.simulation.mutations.known import KNOWN
from proof.simulation.mutations.table import MUTATIONS


def test_the_list_names_faults_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    known = {mutation.name for mutation in MUTATIONS}
    for one in EXHIBITS:
        assert one.mutation in known and one.mutation in KNOWN
        assert one.name in said and one.source in said
    assert len({one.name for one in EXHIBITS}) == len(EXHIBITS)


@pytest.mark.proof
def test_an_exhibit_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["amnesia"]) == 0
    said = capsys.readouterr().out
    assert "VIOLATED" in said and "it holds" in said


@pytest.mark.proof
@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda one: one.name)
def test_it_fails_there_and_holds_here(exhibit: Exhibit) -> None:
    assert named(exhibit.name) is exhibit
    outcome = broken_run(exhibit)
    assert outcome is not None and not outcome.ok
    assert sound_run(outcome.scenario).ok
