"""Tables say what was measured: medians, ratios of pairs, and what failed."""

from __future__ import annotations

import json

from benchmarks.clients.load import Sample
from benchmarks.report import Results, others_table, readme_table, render, summary
from benchmarks.scenarios import find


def sample(per_s: float, errors: int = 0, requests: int = 1000) -> Sample:
    return Sample(requests, errors, per_s, 1.0, 2.0, 3.0, 1.1, 0.1, 0.05)


def results() -> Results:
    found = Results(["a machine"], find(["put-64", "v3-put-64", "get-64"]))
    found.samples["ours", "put-64"] = [sample(per_s) for per_s in (300.0, 200.0, 900.0)]
    found.samples["etcd", "put-64"] = [sample(per_s) for per_s in (100.0, 100.0, 200.0)]
    found.samples["ours", "v3-put-64"] = [sample(per_s) for per_s in (150.0, 250.0, 200.0)]
    found.samples["zookeeper", "put-64"] = [sample(42.0)]
    return found


def row_of(table: str, words: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {words} ")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_a_row_has_medians_and_the_span_of_pairs() -> None:
    table = readme_table(results())
    assert row_of(table, "puts/s, 64 connections") == ["300", "100", "3.00x (2.00–4.50)"]


def test_our_other_face_is_compared_with_the_same_figures_of_etcd() -> None:
    table = readme_table(results())
    words = "etcd's API: puts/s, 64 connections"
    assert row_of(table, words) == ["200", "100", "2.00x (1.00–2.50)"]


def test_what_was_not_measured_has_no_row() -> None:
    assert "gets" not in readme_table(results())


def test_others_have_a_table_of_their_own() -> None:
    assert row_of(others_table(results()), "zookeeper, put-64")[0] == "42"
    assert others_table(Results()) == ""


def test_a_report_says_which_etcd_it_is_and_what_failed() -> None:
    found = results()
    found.problems.append("ours, put-64, round 1: 3 errors in 7 requests")
    for text in (summary(found), render(found)):
        assert "etcd is 3.5.1" in text and "a newer one may be faster" in text
        assert "FAILED: ours, put-64, round 1: 3 errors in 7 requests" in text


def test_json_holds_every_round() -> None:
    read = json.loads(json.dumps(results().as_json()))
    rounds = {(s["system"], s["scenario"]): s["rounds"] for s in read["samples"]}
    assert [each["per_s"] for each in rounds["ours", "put-64"]] == [300.0, 200.0, 900.0]
    assert "slices" not in rounds["ours", "put-64"][0]


def test_a_run_with_errors_or_without_requests_has_failed() -> None:
    assert sample(1.0, errors=1).failed
    assert sample(0.0, requests=0).failed
    assert not sample(1.0).failed
