"""Whole replicas on disks so slow that most crashes fall into a commit.

In the swarm few do. Here torn groups and segments begun in vain are what a restart finds."""

import msgspec
import pytest

from proof.simulation.cluster.scenario import Scenario, draw
from proof.simulation.cluster.world import run
from proof.simulation.mutations.edit import Mutation
from proof.simulation.mutations.log_files import RARE

FOUND = {
    "do not look at checksums": 30,
    "take a torn group for whole": 30,
    "name a segment before its header is synced": 6,
}
"""The seed that finds a fault which the swarm does not."""


def on_a_slow_disk(seed: int) -> Scenario:
    scenario = draw(seed, nodes=1, kinds=("power", "power-all", "dying"))
    return msgspec.structs.replace(scenario, disk_latency_s=(0.02, 0.2))


@pytest.mark.proof
def test_crashes_in_the_middle_of_commits_lose_nothing() -> None:
    cut = torn = 0
    for seed in range(26, 34):
        outcome = run(on_a_slow_disk(seed))
        assert outcome.ok, outcome.violations
        cut += outcome.reached["crash dropped a commit"]
        torn += outcome.reached["torn end of a log cut off"]
    assert cut > 5 and torn > 0


@pytest.mark.proof
@pytest.mark.parametrize(
    "fault", [f for f in RARE if f.name in FOUND], ids=lambda fault: fault.name
)
def test_faults_of_torn_groups_are_found(fault: Mutation) -> None:
    with fault.apply():
        assert not run(on_a_slow_disk(FOUND[fault.name])).ok
