"""The leader's clocks of leases against a naive list of deadlines."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.replica.lease_timers import LeaseTimers

LEASES = st.integers(1, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("granted"), LEASES, st.integers(2, 20)),
        st.tuples(st.just("ended"), LEASES),
        st.tuples(st.just("renew"), LEASES),
        st.tuples(st.just("pass"), st.integers(0, 15)),
        st.tuples(st.just("due"), st.integers(0, 3)),
        st.tuples(
            st.just("lead"),
        ),
    ),
    max_size=60,
)


class NaiveTimers:
    """Every lease with its seconds, and when it ends; None: its end is under way."""

    def __init__(self) -> None:
        self.leases: dict[int, tuple[int, float | None]] = {}

    def renew(self, lease: int, now_s: float) -> int | None:
        ttl_s, deadline_s = self.leases.get(lease, (0, None))
        if deadline_s is None:
            return None
        self.leases[lease] = ttl_s, now_s + ttl_s
        return ttl_s

    def over(self, now_s: float) -> set[int]:
        return {n for n, (_, end_s) in self.leases.items() if end_s is not None and end_s <= now_s}


@given(STEPS)
@settings(max_examples=400)
def test_against_naive_deadlines(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    timers, naive, now_s = LeaseTimers(), NaiveTimers(), 100.0
    timers.start([], now_s)
    for step in steps:
        match step:
            case "granted", lease, ttl_s:
                if lease not in naive.leases:
                    timers.granted(lease, ttl_s, now_s)
                    naive.leases[lease] = ttl_s, now_s + ttl_s
            case "ended", lease:
                timers.ended(lease)
                naive.leases.pop(lease, None)
            case "renew", lease:
                assert timers.renew(lease, now_s) == naive.renew(lease, now_s)
            case "pass", seconds:
                now_s += seconds
            case "due", leases_max:
                over = naive.over(now_s)
                found = timers.due(now_s, leases_max)
                assert len(set(found)) == len(found) == min(leases_max, len(over))
                assert set(found) <= over
                for lease in found:
                    naive.leases[lease] = naive.leases[lease][0], None
            case ("lead",):
                timers.stop()
                assert timers.due(now_s + 1e9, 9) == ()
                timers.start([(n, ttl_s) for n, (ttl_s, _) in naive.leases.items()], now_s)
                naive.leases = {n: (t, now_s + t) for n, (t, _) in naive.leases.items()}
        for lease in range(1, 6):
            ttl_s, deadline_s = naive.leases.get(lease, (0, None))
            left = None if deadline_s is None else (ttl_s, max(0.0, deadline_s - now_s))
            assert timers.look(lease, now_s) == left


def test_all_that_are_due_come_in_pieces_the_earliest_first() -> None:
    timers = LeaseTimers()
    timers.start([(n, n) for n in range(2, 102)], 0.0)
    assert timers.due(1.9, 10) == ()
    assert timers.due(200.0, 60) == tuple(range(2, 62))
    assert timers.due(200.0, 60) == tuple(range(62, 102))
    assert timers.due(200.0, 60) == ()
    assert timers.renew(7, 200.0) is None and timers.look(7, 200.0) is None


def test_a_renewed_one_is_moved() -> None:
    timers = LeaseTimers()
    timers.start([(1, 10)], 0.0)
    assert timers.renew(1, 5.0) == 10
    for now_s in (10.0, 12.0, 14.9):
        assert timers.due(now_s, 9) == ()
    assert timers.due(15.0, 9) == (1,)
    timers.start([(1, 10)], 0.0)
    assert timers.renew(1, 0.5) == 10
    assert (timers.due(10.1, 9), timers.due(10.5, 9)) == ((), (1,))


def test_leases_that_come_and_go_leave_nothing_behind() -> None:
    timers = LeaseTimers()
    timers.start([(1, 10)], 0.0)
    for number in range(20_000):
        timers.granted(2, 1_000_000, float(number) / 1000)
        timers.ended(2)
    assert len(timers._heap) < 2000
    assert timers.due(10.0, 9) == (1,)


def test_those_due_together_hold_few_keys() -> None:
    timers = LeaseTimers()
    timers.start((), 0.0)
    keys = {1: 5, 2: 4, 3: 2, 4: 90, 5: 1}
    for lease in keys:
        timers.granted(lease, lease, 0.0)
    found = []
    while due := timers.due(100.0, 9, keys.__getitem__, 10):
        found.append(due)
    # One that alone holds more than that goes alone.
    assert found == [(1, 2), (3,), (4,), (5,)]
