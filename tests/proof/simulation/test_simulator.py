"""The simulator as a whole: seeds are sound and repeatable, and a run that shows nothing fails."""

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from kvstore.errors import InvalidArgument
from proof.simulation.cluster.fault_plan import FAULTS, Fault
from proof.simulation.cluster.nemesis import Nemesis
from proof.simulation.cluster.scenario import Scenario, draw
from proof.simulation.cluster.world import run
from proof.simulation.mutations.table import MUTATIONS
from proof.simulation.runner import Swarm, Total, run_many
from proof.simulation.shrink import Shrinker
from proof.simulation.tell.story import story
from tests.support.paths import ROOT

REGRESSIONS = sorted((Path(__file__).parent / "regressions").glob("*.json"))
FIXED_SEEDS = (28, 30, 39)
"""Short ones that reach, together, what each run should."""
MORE_FIXED_SEEDS = range(1, 81)
FRESH_SEEDS = 1
"""`make proof` runs many more."""
SHORT = 50
SHORTER = 52
"""Seeds whose runs take half a second."""

ALWAYS_REACHED = (
    "election",
    "leader stepped down",
    "value recovered",
    "catch-up by log",
    "catch-up by snapshot",
    "relay",
    "second copy of a bundle refused",
    "retry answered from memory",
    "condition refused",
    "automatic compaction",
    "checkpoint",
    "log truncated",
    "restart",
    "outcome unknown to a client",
)
REACHED_BY_MORE = (
    *ALWAYS_REACHED,
    "node stopped by its disk",
    "idempotency key expired",
    "command over the budget refused",
    "command over the budget refused at the door",
    "large answer",
    "change of users or roles",
    "command refused for want of a right",
    "frame near its bound",
    "slow disk told",
    "disk well again",
    "hand-over because of a slow disk",
    "clocks differ",
    "clocks agree again",
    "several slots wait",
    "fault: hung-disk",
    "fault: wall-step",
    "fault: laggard",
    "fault: half-open",
)


def run_seeds(seeds: Sequence[int]) -> Total:
    return run_many(
        Swarm(),
        seeds,
        jobs=os.cpu_count() or 1,
        until=lambda total: False,
        progress=lambda total: None,
    )


@pytest.mark.parametrize(
    ("seeds", "events"),
    [
        (FIXED_SEEDS, ALWAYS_REACHED),
        pytest.param(MORE_FIXED_SEEDS, REACHED_BY_MORE, marks=pytest.mark.proof),
    ],
    ids=str,
)
def test_fixed_seeds(seeds: Sequence[int], events: tuple[str, ...]) -> None:
    total = run_seeds(seeds)
    assert [(s.seed, s.complaint) for s in total.failed] == []
    assert total.runs == len(seeds) and total.answered > 100 * len(FIXED_SEEDS)
    assert [name for name in events if not total.reached[name]] == []


@pytest.mark.proof
def test_fresh_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    first = random.SystemRandom().randrange(10**6, 10**9)
    with capsys.disabled():
        print(f"\nfresh seeds: kvstore simulate --first-seed {first} --seeds {FRESH_SEEDS}")
    total = run_seeds(range(first, first + FRESH_SEEDS))
    assert [(s.seed, s.complaint) for s in total.failed] == []
    assert total.runs == FRESH_SEEDS


@pytest.mark.parametrize("file", REGRESSIONS, ids=lambda file: file.stem)
def test_regressions(file: Path) -> None:
    outcome = run(msgspec.json.decode(file.read_bytes(), type=Scenario))
    assert outcome.violations == ()


def test_a_seed_gives_the_same_trace_in_any_process() -> None:
    seeds = (SHORT, SHORTER)
    program = (
        "import sys\n"
        "from proof.simulation.cluster.scenario import draw\n"
        "from proof.simulation.cluster.world import run\n"
        "print(*[run(draw(int(seed))).digest for seed in sys.argv[1:]])\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program, *map(str, seeds)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for hash_seed in ("0", "4242")
    }
    here = " ".join(run(draw(seed), keep_trace=True).digest for seed in seeds) + "\n"
    assert said == {here}
    assert len(set(here.split())) == len(seeds), "different seeds, different traces"


def test_scenarios_are_data() -> None:
    for seed in range(50):
        scenario = draw(seed)
        copy = msgspec.json.decode(msgspec.json.encode(scenario), type=Scenario)
        assert copy == scenario and draw(seed) == scenario
        assert scenario.phase1 + scenario.phase2 > scenario.nodes
        assert scenario.faults and scenario.clients


def test_a_swarm_can_be_narrowed() -> None:
    for seed in range(30):
        scenario = draw(seed, nodes=5, kinds=("kill", "split"))
        assert scenario.nodes == 5
        assert {fault.kind for fault in scenario.faults} <= {"kill", "split"}
    with pytest.raises(InvalidArgument, match="1 nodes"):
        draw(1, nodes=1, kinds=("split",))
    assert {fault.kind for seed in range(300) for fault in draw(seed).faults} == set(FAULTS)


def test_a_run_in_which_nothing_is_chosen_fails() -> None:
    nobody: dict[str, Any] = dict.fromkeys(
        ("clients", "holders", "bulk", "repeaters", "administrators", "users"), ()
    )
    outcome = run(replace(draw(SHORT), **nobody, keys=0))
    assert [v.text for v in outcome.violations] == ["no write was chosen"]


def test_a_run_in_which_nothing_goes_wrong_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Nemesis, "_begin", lambda self, number, fault: None)
    outcome = run(draw(SHORT))
    assert [v.text for v in outcome.violations] == ["no fault was injected"]


@pytest.mark.proof
def test_a_run_that_does_not_heal_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Nemesis, "_end", lambda self, number: None)
    split = Fault("split", at_s=1.0, for_s=0.5, nodes=(1,))
    outcome = run(replace(draw(1, nodes=3), faults=(split,)))
    assert [v.invariant for v in outcome.violations] == ["liveness"]


@pytest.mark.proof
def test_a_failure_is_shrunk_and_told() -> None:
    mutation = next(m for m in MUTATIONS if "sync" in m.name)
    with mutation.apply():
        outcome = next(o for o in (run(draw(seed)) for seed in range(1, 50)) if o.violations)
        shrinker = Shrinker(outcome, runs_max=60)
        small = run(shrinker.shrink().scenario, keep_trace=True)
    assert small.violations[0].invariant == outcome.violations[0].invariant
    assert len(small.scenario.faults) == 1 and len(small.scenario.clients) == 1
    lines = story(small)
    assert lines[0].startswith("  1.") and "VIOLATED" in lines[-1]
    assert len(lines) < 100
    assert run(small.scenario).ok, "the build without the fault bears the same scenario"
