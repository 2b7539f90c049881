"""What a node notices by itself and keeps: why, how many, how large, and what a bad disk does."""

import asyncio
import logging
from pathlib import Path

import pytest

from http_api.incidents import watch as incident_watch
from http_api.incidents.kept import KeptIncident, KeptIncidents, thinned
from http_api.incidents.neighbours import Heard
from http_api.incidents.watch import AWAY_S, LOOK_S, STALL_S, IncidentWatch, Noticing
from http_api.v1.incidents import together
from kvstore.replica.recorder import Recorder
from paxos.ballot import Ballot


class Hands:
    """A clock and a replica's numbers that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.numbers = {"writes_waiting": 0.0, "applied_through": 5.0}
        self.links = {2: (True, 0.0), 3: (True, 0.0)}

    def monotonic(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return int(self.now_s * 1000)

    def gauges(self) -> dict[str, float]:
        return dict(self.numbers)

    def peers(self) -> dict[int, tuple[bool, float]]:
        return dict(self.links)

    def noticing(self) -> tuple[Recorder, Noticing]:
        recorder = Recorder(1, self)
        return recorder, Noticing(recorder, self)

    def passing(self, noticing: Noticing, seconds: float) -> list[str]:
        """What is noticed meanwhile."""
        found = []
        for _ in range(round(seconds / LOOK_S)):
            self.now_s += LOOK_S
            found += noticing.look(self.now_s)
        return found


def test_another_leader_is_noticed_and_the_first_is_none() -> None:
    hands = Hands()
    recorder, noticing = hands.noticing()
    recorder.leader_noticed(2, Ballot(1, 2), 0)
    assert hands.passing(noticing, 3) == []
    recorder.linked(2, False)
    recorder.leader_noticed(None, Ballot(1, 2), 0)
    recorder.leader_noticed(3, Ballot(2, 3), 0)
    lost, led = hands.passing(noticing, 1)
    assert lost == "no leader: the link from node 2, which led, broke"
    assert led.startswith("node 3 leads: ")
    assert hands.passing(noticing, 3) == []


def test_a_lost_link_is_noticed_once_and_again_when_it_was_back() -> None:
    hands = Hands()
    _, noticing = hands.noticing()
    hands.passing(noticing, 1)
    hands.links[3] = (False, 0.0)
    assert hands.passing(noticing, AWAY_S - 1) == [], "it may come back"
    assert hands.passing(noticing, 20) == ["no link to node 3 for 3 s"]
    hands.links[3] = (True, 0.0)
    hands.passing(noticing, 1)
    hands.links[3] = (False, 0.0)
    assert len(hands.passing(noticing, 20)) == 1
    del hands.links[3]
    assert hands.passing(noticing, 20) == []


def test_writes_that_do_not_get_on_are_noticed() -> None:
    hands = Hands()
    _, noticing = hands.noticing()
    hands.numbers["writes_waiting"] = 7.0
    for _ in range(20):
        hands.numbers["applied_through"] += 1
        assert hands.passing(noticing, 1) == [], "they get on"
    assert hands.passing(noticing, STALL_S - 1) == []
    assert hands.passing(noticing, 1) == ["7 writes wait, and nothing was applied for 3 s"]
    hands.numbers["writes_waiting"] = 0.0
    assert hands.passing(noticing, 20) == [], "nobody waits"


def test_a_process_that_stood_still_notices_it() -> None:
    hands = Hands()
    _, noticing = hands.noticing()
    hands.passing(noticing, 2)
    hands.now_s += 6.0
    assert hands.passing(noticing, 1) == ["this process stood still for 6.0 s"]
    assert hands.passing(noticing, 2) == []


def of(*at_ms: int, size: int = 10) -> list[KeptIncident]:
    return [KeptIncident(at, ("x",), size) for at in at_ms]


def test_a_storm_is_thinned_and_what_happened_once_stays() -> None:
    kept = of(0, 1000, 50_000, 51_000, 52_000, 90_000, 200_000, 201_000, 202_000, 203_000)
    assert thinned(kept, 10, 1000) == []
    gone = {one.at_ms for one in thinned(kept, 7, 1000)}
    assert gone == {1000, 51_000, 52_000}
    assert len(kept) - len(thinned(kept, 100, 35)) == 3, "by their size, too"
    assert len(thinned(kept, 0, 1000)) == len(kept)


def test_they_are_there_after_a_restart(tmp_path: Path) -> None:
    kept = KeptIncidents(tmp_path / "incidents", 3)
    kept.load()
    for at_ms in (1000, 2000, 900_000, 1_900_000):
        kept.add(at_ms, ["node 2 leads"], b'{"node":1}\n[1]\n')
    (tmp_path / "incidents" / "5.ndjson.gz").write_bytes(b"half a fi")
    again = KeptIncidents(tmp_path / "incidents", 3)
    again.load()
    assert again.all() == kept.all() and len(again.all()) == 3
    assert again.all()[-1].causes == ("node 2 leads",)
    found = again.nearest(900_400)
    assert found is not None and again.read(found) == '{"node":1}\n[1]\n'
    assert again.nearest(400_000) is None


def test_nodes_that_kept_something_near_in_time_mean_one_incident() -> None:
    def heard(node: int, *at_ms: int) -> Heard:
        return Heard(node, {"incidents": [{"at_ms": at, "causes": [f"{at}"]} for at in at_ms]})

    found = together([heard(1, 1000, 60_000), heard(2, 3000), Heard(3, None, "away")])
    assert [(one["at_ms"], one["nodes"]) for one in found] == [(1000, [1, 2]), (60_000, [1])]
    assert together([heard(1, 1000, 2000)])[1]["nodes"] == [1], "a node keeps one at a time"


def test_a_disk_that_takes_nothing_is_told_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incident_watch, "GAP_S", 0.0)
    hands = Hands()
    kept = KeptIncidents(tmp_path / "incidents", 9)
    (tmp_path / "incidents").write_text("no directory")
    recorder = Recorder(1, hands)

    async def record() -> bytes:
        return b"{}\n"

    async def run() -> None:
        watch = IncidentWatch(kept, recorder, hands, record)
        for at in range(4):
            watch._causes = ["something"]
            if at == 3:
                (tmp_path / "incidents").unlink()
            hands.now_s += 60
            await watch._keep()

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and said[0].startswith("incidents cannot be kept: ")
    assert said[1] == "incidents can be kept again"
    assert [one.causes for one in kept.all()] == [("something",)]
