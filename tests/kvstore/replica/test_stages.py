"""Where the time of a write goes: what is counted once per batch, and shown by `/metrics`."""

from kvstore.replica.metrics import Counters, Metrics
from kvstore.replica.stages import Durations, Stages


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.s = 0.0

    def now(self) -> float:
        return self.s


def count_and_sum(durations: Durations) -> tuple[float, float]:
    buckets, total_s = durations.histogram()
    return buckets[-1][1], total_s


def test_buckets_are_cumulative_and_bounds_belong_to_them() -> None:
    durations = Durations((0.5, 1.0))
    for seconds in (0.25, 0.5, 0.75, 4.0):
        durations.observe(seconds)
    assert durations.histogram() == ([("0.5", 2), ("1.0", 3), ("+Inf", 4)], 5.5)


def test_a_slot_waits_for_its_quorum_from_the_leaders_own_vote_on() -> None:
    clock = Hand()
    stages = Stages(clock.now)
    stages.voted(1, 0)
    stages.voted(2, 0)
    clock.s = 2.0
    assert stages.chosen([1]) == 2.0
    clock.s = 5.0
    stages.chosen([2, 3])
    assert count_and_sum(stages.quorum) == (2, 7.0)
    stages.voted(3, 3)  # it was chosen without this node
    assert count_and_sum(stages.quorum) == (3, 7.0)


def test_a_leader_that_is_none_any_more_waits_for_nothing() -> None:
    stages = Stages(Hand().now)
    stages.voted(1, 0)
    stages.leader_changed()
    stages.chosen([1])
    assert count_and_sum(stages.quorum) == (0, 0.0)


def test_every_stage_is_shown() -> None:
    stages = Stages(Hand().now)
    stages.batch.observe(0.25)
    family = next(
        family
        for family in Metrics(Counters(), stages.items, dict, dict).collect()
        if family.name == "kvstore_write_stage_seconds"
    )
    sums = {s.labels["stage"]: s.value for s in family.samples if s.name.endswith("_sum")}
    assert sums == {"batch": 0.25, "commit": 0.0, "quorum": 0.0, "apply": 0.0}
