"""The benchmark of the flight recorder: what it reports, and that its other cluster is deaf."""

import subprocess
import sys
from pathlib import Path

from benchmarks.clients.load import Sample
from benchmarks.recorder import DEAF, deaf, report
from tests.support.paths import ROOT


def sample(cpu: float, per_s: float) -> Sample:
    return Sample(100, 0, per_s, 1.0, 2.0, 3.0, 1.0, cpu, 0.1)


def test_the_report_has_the_medians_of_the_ratios() -> None:
    pairs = [(sample(cpu, 900.0), sample(0.1, 1000.0)) for cpu in (0.101, 0.102, 0.9)]
    assert "Medians of the ratios: CPU 1.020, puts/s 0.900." in report(pairs)


def test_the_other_cluster_is_a_real_one(tmp_path: Path) -> None:
    cluster = deaf(tmp_path)
    for held in cluster.held:
        held.close()
    python, flag, text, *words = cluster.nodes[0].command
    assert (python, flag, words[0]) == (sys.executable, "-c", "serve")
    last = "from kvstore.replica.recorder import Recorder; print(Recorder.sent(None, 1, 2))"
    shown = text.partition("from kvstore_cli.main")[0] + last
    done = subprocess.run(
        [python, "-c", shown], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert text == DEAF and done.stdout == "None\n", done.stderr
