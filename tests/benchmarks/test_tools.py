"""Each tool measures something, and says so when it does not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from benchmarks import full
from benchmarks.__main__ import main
from benchmarks.ceiling import ceiling
from benchmarks.clients.load import Load
from benchmarks.clients.traffic import request, write_requests
from benchmarks.comparison import Effort, SideBySide
from benchmarks.parts.endurance import Moment, steadiness
from benchmarks.parts.plan import BenchPlan, Plot, Section
from benchmarks.put_profile import HTTP, REPLICA, STAGES, describe, means_ms, totals
from benchmarks.shared.plots import Panel, draw
from benchmarks.shared.procfs import disk_mb, facts
from http_api.core.metrics import HttpStages
from kvstore.replica.metrics import Counters, Metrics
from kvstore.replica.stages import Stages


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    file = tmp_path / "requests"
    write_requests(file, [request("GET", "/")])
    return file


@pytest.mark.parametrize("rate_per_s", [0.0, 200.0])
def test_the_client_counts_what_is_answered(request_file: Path, rate_per_s: float) -> None:
    load = Load("raw", 4, 0.5, rate_per_s=rate_per_s, slice_s=0.1)
    sample = ceiling(load, request_file)
    assert sample.requests > 0 and not sample.failed
    assert sum(found.count for found in sample.slices.values()) == sample.requests
    assert sample.mean_ms > 0 and sample.client_cpu > 0
    assert not rate_per_s or sample.requests == 100


def test_machine_facts(tmp_path: Path) -> None:
    found = facts(tmp_path)
    assert {"machine", "memory_mb", "file_system", "sync_ms"} <= set(found)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "1").write_bytes(b"x" * 100_000)
    assert disk_mb(tmp_path)["log"] > 0


# -- the profile of a put ------------------------------------------------------------------------


def exposition(stages: Stages) -> str:
    """As `/metrics` has it of the replica."""
    metrics = Metrics(Counters(), stages.items, dict, dict)
    return generate_latest(metrics.registry).decode()


def test_stages_are_read_from_what_metrics_show() -> None:
    stages = Stages(lambda: 0.0)
    stages.commit.observe(1.0)
    before = totals(exposition(stages))
    stages.commit.observe(0.002)
    stages.commit.observe(0.004)
    means = means_ms(before, totals(exposition(stages)))
    batches, mean_ms = means[REPLICA, "commit"]
    assert batches == 2 and mean_ms == pytest.approx(3.0)
    assert means[REPLICA, "apply"] == (0, 0.0)


def test_a_profile_has_every_stage_and_adds_up() -> None:
    means = dict.fromkeys(STAGES, (10, 1.0)) | {(HTTP, "store"): (10, 4.5)}
    lines = describe(means, 8.0).splitlines()
    shown = [line.split("|")[1].strip() for line in lines[2:]]
    assert [text for text in STAGES.values() if text in shown] == list(STAGES.values())
    figures = [float(line.split("|")[3]) for line in lines[2:]]
    assert sum(figures[:-1]) == pytest.approx(figures[-1]) == 8.0


def test_the_stages_of_a_put_are_those_that_the_product_has() -> None:
    of_http = {(HTTP, stage) for stage, _ in HttpStages().items()} - {(HTTP, "store")}
    of_replica = {(REPLICA, stage) for stage, _ in Stages(lambda: 0.0).items()}
    assert set(STAGES) == of_http | of_replica


# -- the long run --------------------------------------------------------------------------------


def plan(directory: Path) -> BenchPlan:
    return BenchPlan(directory, Effort(1, 1.0, "raw"), 1.0, ("ours",))


def test_a_part_that_fails_fails_the_run_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(plan: BenchPlan) -> Section:
        raise TimeoutError("no answer")

    parts = {"broken": broken, "good": lambda plan: Section("Good", "all", [1])}
    monkeypatch.setattr(full, "PARTS", parts)
    output = tmp_path / "page.md"
    assert not full.run(plan(tmp_path), [], output)
    assert "FAILED: no answer" in output.read_text() and "## Good" in output.read_text()
    assert '"good": [\n' in output.with_suffix(".json").read_text()
    assert full.run(plan(tmp_path), ["good"], output)


def test_the_end_is_compared_with_the_second_tenth() -> None:
    moments = [Moment(n, rate, 1.0, 0, 1.0, 1.0, 1.0) for n, rate in enumerate([99, *[10] * 8, 8])]
    assert steadiness(moments) == (8, 10)
    assert steadiness(moments[:1]) == (99, 99)


def test_a_picture_is_drawn_and_an_empty_one_refused(tmp_path: Path) -> None:
    empty = Plot("x", (Panel("y", {"ours": []}),))
    with pytest.raises(ValueError, match="empty"):
        draw(tmp_path / "no.png", empty.x_label, empty.panels)
    panels = (
        Panel("y", {"ours p99": [(1.0, 2.0), (3.0, 4.0)], "etcd": [(1.0, 3.0)]}, log_y=True),
        Panel("z", {"others": [(1.0, 2.0)]}, marks={"now": 1.5}),
    )
    draw(tmp_path / "yes.png", "x", panels)
    assert (tmp_path / "yes.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("limit_s", "rounds"), [(math.inf, 3), (0.0, 1)])
def test_no_round_is_begun_too_late(tmp_path: Path, limit_s: float, rounds: int) -> None:
    run = SideBySide([], Effort(3, 1.0, "raw", limit_s=limit_s), tmp_path, [])
    assert f"medians of {rounds} alternating rounds" in "\n".join(run.run().head)


def test_a_name_that_nobody_has_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--only", "put-65"], ["--full", "--only", "put-64"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert f"nothing is called {arguments[-1]}; there are" in capsys.readouterr().err
