"""Recordings that are made up: clocks are aligned, and each broken invariant is seen."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from kvstore.errors import InvalidArgument
from proof.incidents.alignment import offsets_s, passages
from proof.incidents.checks import check
from proof.incidents.recordings import Incident, load
from proof.incidents.show import show
from proof.incidents.story import story

Row = list[Any]


def row(at_s: float, name: str, what: str = "", peer: int = 0, **facts: Any) -> Row:
    more = {"ballot": "1.1", "slot": 0, "number": 0, "more": ""} | facts
    return [at_s, name, what, peer, *more.values()]


def head(node: int, ahead_s: float = 0.0) -> dict[str, Any]:
    return {
        "format": 1,
        "node": node,
        "at_s": 100.0,
        "wall_ms": 1000 * (1e6 + ahead_s),
        "quorum": 2,
    }


def written(
    path: Path, nodes: dict[int, list[Row]], ahead_s: dict[int, float] | None = None
) -> Path:
    told = []
    for node, rows in nodes.items():
        lines = [head(node, (ahead_s or {}).get(node, 0.0)), *rows]
        told.append({"id": node, "recording": "\n".join(map(json.dumps, lines)) + "\n"})
    told.append({"id": 9, "error": "it was away"})
    file = path / "some.incident"
    file.write_bytes(gzip.compress(json.dumps({"format": 1, "nodes": told}).encode()))
    return file


def incident(path: Path, nodes: dict[int, list[Row]], **ahead_s: float) -> Incident:
    return load(written(path, nodes, {int(name[1:]): s for name, s in ahead_s.items()}))


def healthy() -> dict[int, list[Row]]:
    """Node 1 leads; slot 5 is proposed, accepted by both, applied by both."""
    return {
        1: [
            row(10.000, "proposed", peer=1, slot=5, number=30),
            row(10.000, "sent", "Accept", 2, slot=5, number=30),
            row(10.002, "own", "Accepted", 1, slot=5),
            row(10.004, "received", "Accepted", 2, slot=5),
            row(10.005, "applied", slot=5, number=1, more="aa"),
        ],
        2: [
            row(10.001, "received", "Accept", 1, slot=5, number=30),
            row(10.003, "sent", "Accepted", 1, slot=5),
            row(10.006, "applied", slot=5, number=1, more="aa"),
        ],
    }


def broken(path: Path, nodes: dict[int, list[Row]]) -> list[str]:
    return [one.invariant for one in check(incident(path, nodes))]


def test_a_healthy_recording_is_sound(tmp_path: Path) -> None:
    assert broken(tmp_path, healthy()) == []


def test_clocks_are_aligned_by_messages(tmp_path: Path) -> None:
    found = incident(tmp_path, healthy(), n2=-3.5)
    known = passages(found)
    assert {(one.sender, one.receiver) for one in known} == {(1, 2), (2, 1)}
    offsets = offsets_s(found, known)
    assert offsets[1] == 0.0 and offsets[2] == pytest.approx(3.5, abs=0.001)
    for one in known:
        sent, received = found.nodes[one.sender], found.nodes[one.receiver]
        sent_s = sent.wall_s(one.sent.at_s) + offsets[one.sender]
        assert sent_s < received.wall_s(one.received.at_s) + offsets[one.receiver]


def test_one_way_is_enough_to_keep_causes_before_effects(tmp_path: Path) -> None:
    nodes = healthy()
    nodes[1] = [entry for entry in nodes[1] if entry[1] != "received"]
    found = incident(tmp_path, nodes, n2=-3.5)
    assert offsets_s(found, passages(found))[2] == pytest.approx(3.499, abs=0.001)


def test_messages_that_repeat_are_not_taken_for_each_other(tmp_path: Path) -> None:
    nodes = healthy()
    nodes[1].append(row(11.0, "sent", "Accept", 2, slot=5, number=30))
    assert [one.sent.what for one in passages(incident(tmp_path, nodes))] == ["Accepted"]


def test_states_that_differ_break_agreement(tmp_path: Path) -> None:
    nodes = healthy()
    nodes[2][-1][-1] = "bb"
    assert broken(tmp_path, nodes) == ["agreement"]


def test_a_slot_left_out_breaks_order(tmp_path: Path) -> None:
    nodes = healthy()
    nodes[2].append(row(10.1, "applied", slot=7, more="cc"))
    assert broken(tmp_path, nodes) == ["order"]
    nodes[2].insert(-1, row(10.09, "snapshot", "before: 5", slot=6))
    assert broken(tmp_path, nodes) == [], "a snapshot may skip slots"


def test_a_ballot_of_another_and_two_values_break_one_proposer(tmp_path: Path) -> None:
    nodes = healthy()
    nodes[2].append(row(10.1, "proposed", peer=2, slot=6, number=1))
    nodes[1].append(row(10.1, "proposed", peer=1, slot=5, number=31))
    assert broken(tmp_path, nodes) == ["one proposer", "one proposer"]


def test_accepting_below_a_promise_breaks_it(tmp_path: Path) -> None:
    nodes = healthy()
    promise = row(10.0035, "sent", "Promise", 3, ballot="2.3", slot=6)
    nodes[2].append(promise)
    assert broken(tmp_path, nodes) == []
    nodes[2].append(row(10.1, "sent", "Accepted", 1, slot=6))
    assert broken(tmp_path, nodes) == ["promise"]
    nodes[2][-1][4] = "10.1"
    assert broken(tmp_path, nodes) == [], "ballots are numbers: 10.1 is above 2.3"


def test_a_promise_that_forgets_an_acceptance_breaks_memory(tmp_path: Path) -> None:
    nodes = healthy()
    nodes[2].append(row(10.1, "sent", "Promise", 3, ballot="2.3", slot=5, more=""))
    assert broken(tmp_path, nodes) == ["memory"]
    nodes[2][-1][-2:] = [1, "5@1.1"]
    assert broken(tmp_path, nodes) == []
    nodes[2][-1][-2:] = [0, " <5"]
    assert broken(tmp_path, nodes) == [], "this piece of a promise ends before slot 5"


def test_applying_without_a_quorum_breaks_it(tmp_path: Path) -> None:
    nodes = healthy()
    nodes[1][3], nodes[1][4] = nodes[1][4], nodes[1][3]
    assert broken(tmp_path, nodes) == ["quorum"]
    nodes[1].insert(3, row(10.0025, "received", "Fetched", 2))
    assert broken(tmp_path, nodes) == [], "it was told by another that the slot is chosen"


def test_the_story_is_in_the_order_of_time_and_tells_of_stalls(tmp_path: Path) -> None:
    nodes = healthy()
    nodes[2].append(row(11.0, "link", "down", 1))
    nodes[2].append(row(11.1, "campaigns", ballot="2.2"))
    nodes[2].append(row(11.2, "leader", "the link from node 1, which led, broke", 2, ballot="2.2"))
    nodes[2].append(row(11.3, "proposed", peer=2, slot=6, ballot="2.2"))
    nodes[2].append(row(13.8, "applied", slot=6, more="dd"))
    found = incident(tmp_path, nodes)
    told = [line.text for line in story(found, dict.fromkeys(found.nodes, 0.0))]
    assert told == [
        "its link from node 1 is down",
        "stands for election with ballot 2.2: asks for promises",
        "follows node 2 with ballot 2.2: the link from node 1, which led, broke",
        "goes on with slot 6: stood still for 2.5 s after slot 5",
    ]


def test_it_is_shown_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, page = written(tmp_path, healthy()), tmp_path / "page.html"
    assert show(file, page) == 0
    said = capsys.readouterr().out
    assert "8 events of 2 nodes, 2 messages with both ends" in said
    assert "node 9 is not in it: it was away" in said and "invariant" in said
    assert "Incident some.incident" in page.read_text()
    nodes = healthy()
    nodes[2][-1][-1] = "bb"
    assert show(written(tmp_path, nodes), None) == 1
    assert "BROKEN: agreement: after slot 5" in capsys.readouterr().out


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no gzip",
        *(
            gzip.compress(text, mtime=0)
            for text in (
                b"{",
                b"[]",
                b'{"format": 2}',
                b'{"format": 1, "nodes": [{"id": 1, "recording": ""}]}',
                b'{"format": 1, "nodes": [{"id": 1, "recording": "{}\\n[1]"}]}',
            )
        ),
    ],
    ids=range(7),
)
def test_what_is_no_incident_is_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "broken"
    file.write_bytes(data)
    with pytest.raises(InvalidArgument):
        load(file)
    with pytest.raises(InvalidArgument):
        load(tmp_path / "nothing")
