"""The table of scenarios is sound: nothing is lost, or compared with another load."""

from __future__ import annotations

from dataclasses import fields

import pytest

from benchmarks.clients.load import Sample
from benchmarks.clients.traffic import OursDialect
from benchmarks.comparison import SYSTEMS
from benchmarks.full import PARTS
from benchmarks.scenarios import (
    ETCD,
    EVERY,
    KEYS,
    OURS,
    README_ROWS,
    SIDE_BY_SIDE,
    Aim,
    Api,
    BenchScenario,
    find,
)


def test_names_are_different_and_found() -> None:
    names = [scenario.name for scenario in EVERY]
    assert len(set(names)) == len(names)
    assert find(names) == list(EVERY)
    with pytest.raises(KeyError):
        find(["put-65"])


@pytest.mark.parametrize("scenario", EVERY, ids=lambda scenario: scenario.name)
def test_a_scenario_can_be_done(scenario: BenchScenario) -> None:
    assert OURS in scenario.systems and set(scenario.systems) <= set(SYSTEMS)
    assert 0.0 <= scenario.puts <= 1.0 and scenario.connections > 0 and scenario.keys > 0
    assert scenario.rate_per_s >= 0.0
    # What is read was written before.
    assert scenario.puts == 1.0 or scenario.keys <= KEYS
    # ZooKeeper and PySyncObj have no linearizable read.
    assert set(scenario.systems) <= {OURS, ETCD} or scenario.puts == 1.0


@pytest.mark.parametrize("scenario", [s for s in EVERY if s.beside], ids=lambda s: s.name)
def test_what_is_compared_is_the_same_load(scenario: BenchScenario) -> None:
    (other,) = find([scenario.beside])
    assert scenario.api is Api.ETCD and ETCD in other.systems
    for name in ("puts", "connections", "aim", "rate_per_s", "keys", "value_bytes"):
        assert getattr(scenario, name) == getattr(other, name), name
    assert SIDE_BY_SIDE.index(scenario) == SIDE_BY_SIDE.index(other) + 1


def test_rows_name_scenarios_and_figures() -> None:
    known = {scenario.name for scenario in SIDE_BY_SIDE}
    figures = {field.name for field in fields(Sample)}
    assert {row.scenario for row in README_ROWS} == known
    assert {row.figure for row in README_ROWS} <= figures
    assert len({(row.scenario, row.figure) for row in README_ROWS}) == len(README_ROWS)


def test_what_is_promised_is_measured() -> None:
    loads = {(s.puts, s.connections, s.aim, s.api) for s in SIDE_BY_SIDE}
    puts = {(1.0, n, Aim.LEADER, api) for n in (1, 64, 256) for api in Api}
    gets = {(0.0, 64, Aim.LEADER, api) for api in Api} | {(0.0, 64, Aim.FOLLOWER, Api.OWN)}
    assert loads == puts | gets | {(0.1, 64, Aim.LEADER, Api.OWN)}
    wanted = {"curve", "failover", "endurance", "growth", "idle", "watchers", "compared", "large"}
    assert wanted <= set(PARTS)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_a_mix_is_mixed(share: float) -> None:
    scenario = BenchScenario("mix", share, 1, keys=1000, value_bytes=32)
    sent = list(scenario.requests(OursDialect(), 1))
    puts = [each for each in sent if each.startswith(b"PUT ")]
    assert len(sent) in (1000, 2000)
    assert abs(len(puts) / len(sent) - share) < 0.03
    assert all(b"Content-Length: 32\r\n" in put for put in puts)
    assert sent == list(scenario.requests(OursDialect(), 1))
