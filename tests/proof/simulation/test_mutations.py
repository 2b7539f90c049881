"""Each deliberate fault is found, and the sound build passes what finds it."""

import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType

import pytest

from proof.simulation.mutations.edit import Edit, Mutation, Outdated, edit
from proof.simulation.mutations.known import KNOWN
from proof.simulation.mutations.measure import measure, violation_of
from proof.simulation.mutations.table import MUTATIONS, named

SEEDS_MAX = 40
"""From the recorded seed on, a fault must be found within so many: scenarios change at times."""

SAMPLE = {
    "count phase 2 with one less",
    "carry on past a failed sync",
}
"""`make test` looks for these, which a seed or two find wherever one begins (docs/mutations.md).
`make proof` looks for the others."""


def sampled() -> Iterator[object]:
    """Every fault; those outside of the sample are marked."""
    for mutation in MUTATIONS:
        marks = () if mutation.name in SAMPLE else pytest.mark.proof
        yield pytest.param(mutation, id=mutation.name, marks=marks)


def functions(mutation: Mutation) -> Iterator[tuple[FunctionType, CodeType]]:
    for one in mutation.edits:
        function = one.function()
        yield function, function.__code__


@pytest.mark.parametrize("mutation", list(sampled()))
def test_it_is_found(mutation: Mutation) -> None:
    known = KNOWN[mutation.name]
    found = measure(mutation, known.seed, SEEDS_MAX, known.swarm)
    assert found is not None, f"not found by {SEEDS_MAX} seeds from {known.seed} on"
    assert found.violation.invariant in known.invariants
    assert violation_of(found.seed, known.swarm) is None, "the sound build fails too"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_leaving_it_restores_the_classes(mutation: Mutation) -> None:
    before = [(function, code, vars(function).copy()) for function, code in functions(mutation)]
    with mutation.apply():
        assert all(function.__code__ != code for function, code, _ in before)
    for (function, code, attributes), (again, _) in zip(before, functions(mutation), strict=True):
        assert again is function
        assert function.__code__ is code
        assert vars(function) == attributes


def test_a_failure_inside_restores_the_classes_too() -> None:
    mutation = named("answer before sync")
    before = [code for _, code in functions(mutation)]

    def fail() -> None:
        with mutation.apply():
            raise RuntimeError("a crash of the simulation")

    with pytest.raises(RuntimeError):
        fail()
    assert [code for _, code in functions(mutation)] == before


class Sample:
    @property
    def answer(self) -> int:
        return 41 + 1

    @staticmethod
    def double(n: int) -> int:
        return n + n

    def both(self, n: int = 3) -> int:
        return self.answer + self.double(n)


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("answer", "41 + 1", "40", 46),
        ("double", "n + n", "n", 45),
        ("both", "self.answer + ", "", 6),
    ],
)
def test_an_edit_changes_what_it_says(name: str, old: str, new: str, expected: int) -> None:
    sample = Sample()
    with edit(Sample, name, (old, new)).apply():
        assert sample.both() == expected
    assert sample.both() == 48


@pytest.mark.parametrize("old", ["no such text", "n"])
def test_an_edit_of_what_is_not_there_once_is_refused(old: str) -> None:
    with pytest.raises(Outdated), edit(Sample, "double", (old, "")).apply():
        pass
    assert Sample.double(2) == 4


def test_names_are_unique_and_every_fault_says_what_it_breaks() -> None:
    assert {mutation.name for mutation in MUTATIONS} == KNOWN.keys()
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 28
    assert KNOWN.keys() >= SAMPLE
    assert all(mutation.text.endswith(".") and mutation.edits for mutation in MUTATIONS)


def test_no_two_faults_are_the_same() -> None:
    edits: list[tuple[Edit, ...]] = [mutation.edits for mutation in MUTATIONS]
    assert len(set(edits)) == len(edits)


def test_an_edit_keeps_the_signature() -> None:
    for mutation in MUTATIONS:
        for one in mutation.edits:
            code, changed = one.function().__code__, one.build()
            assert (
                changed.co_varnames[: changed.co_argcount] == code.co_varnames[: code.co_argcount]
            )
            assert changed.co_kwonlyargcount == code.co_kwonlyargcount
            assert inspect.iscoroutinefunction(one.function()) == bool(
                changed.co_flags & inspect.CO_COROUTINE
            )
