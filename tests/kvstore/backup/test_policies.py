"""Which bases stay."""

import pytest

from kvstore.backup.catalogue import Base
from kvstore.backup.policies import KeepPolicy, KeepRule, parse_policy
from kvstore.errors import InvalidArgument

HOUR, DAY = 3600, 86_400


def test_rules_are_read() -> None:
    assert parse_policy("24h:hourly, 30d:daily,1y:weekly,90m:15m") == KeepPolicy(
        (
            KeepRule(DAY, HOUR),
            KeepRule(30 * DAY, DAY),
            KeepRule(365 * DAY, 7 * DAY),
            KeepRule(90 * 60, 15 * 60),
        )
    )
    assert parse_policy("24h:hourly,30d:daily").pace_s == HOUR


@pytest.mark.parametrize("text", ["", "24h", "24h:yearly", "0h:hourly", "1h:daily", "x", "5m:0m"])
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_policy(text)


def test_of_each_hour_and_day_the_first_stays_and_the_newest_always() -> None:
    """A base every half hour for three days."""
    start_ms = 100 * DAY * 1000
    bases = [Base(n, start_ms + n * 1800_000) for n in range(3 * 48 + 1)]
    now_ms = bases[-1].created_ms + 60_000
    kept = sorted(parse_policy("24h:hourly,30d:daily").kept(bases, now_ms))
    days = [0, 48, 96, 144]
    hours = [n for n in range(96, 145) if n % 2 == 0 and now_ms - bases[n].created_ms <= DAY * 1000]
    assert [base.revision for base in kept] == sorted({*days, *hours, 144})
    later_ms = now_ms + 365 * DAY * 1000
    assert parse_policy("24h:hourly").kept(bases, later_ms) == {bases[-1]}
    assert parse_policy("24h:hourly").kept([], later_ms) == set()


def test_thinning_again_and_again_keeps_the_same() -> None:
    """What is kept does not depend on how often it was looked."""
    policy = parse_policy("24h:hourly,7d:daily")
    every: list[Base] = []
    steady: set[Base] = set()
    for n in range(14 * 24):
        base = Base(n, n * HOUR * 1000 + 17)
        every.append(base)
        steady = policy.kept(sorted({*steady, base}), base.created_ms)
    assert steady == policy.kept(every, every[-1].created_ms)
