"""What the flight recorder costs a put: clusters with it and without it, in pairs in one run.

python -m benchmarks.recorder [--pairs 8] [--seconds 4] [--output FILE]

Both clusters run all the time, one of them idle, and the order changes from pair to pair. In the
one without it the recorder hears no message and no slot. CPU for 1,000 puts over the three nodes is
what to look at: puts/s is that of whatever else the machine does, too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median

from benchmarks.clients.load import Load, Sample, best_client, measure
from benchmarks.clients.traffic import write_requests
from benchmarks.scenarios import PUT_64
from benchmarks.shared.session import publish, say, workspace
from benchmarks.shared.tables import table
from benchmarks.systems.clusters import OurBenchCluster

DEAF = """
import sys
from kvstore.replica.recorder import Recorder
for name in ("sent", "received", "answered_itself", "proposed", "applied"):
    setattr(Recorder, name, lambda self, *facts: None)
from kvstore_cli.main import main
sys.exit(main(sys.argv[1:]))
"""
Pair = tuple[Sample, Sample]


def deaf(directory: Path) -> OurBenchCluster:
    """A cluster whose recorders hear nothing of what is frequent."""
    cluster = OurBenchCluster(directory)
    for node in cluster.nodes:
        python, _, _, *words = node.command
        node.command = [python, "-c", DEAF, *words]
    return cluster


def pairs(directory: Path, count: int, seconds: float) -> list[Pair]:
    """With the recorder, and without it."""
    load, file = Load(best_client(), PUT_64.connections, seconds), directory / "put.requests"
    found: list[Pair] = []
    with OurBenchCluster(directory / "with") as one, deaf(directory / "without") as other:
        clusters = (one, other)
        for cluster in clusters:
            cluster.start()
            cluster.wait_ready()
        write_requests(file, PUT_64.requests(one.dialect, 1))

        def press(at: int) -> Sample:
            cluster = clusters[at]
            return measure(load, [cluster.wait_leader().client_port], file, cluster.pids())

        for at in (0, 1):
            press(at)  # both are warm
        for number in range(count):
            first = number % 2
            samples = {at: press(at) for at in (first, 1 - first)}
            found.append((samples[0], samples[1]))
            say(f"pair {number + 1}: CPU {samples[0].server_cpu:.3f} and "
                f"{samples[1].server_cpu:.3f} s for 1,000 puts")  # fmt: skip
    return found


def report(found: list[Pair]) -> str:
    """The pairs, and the medians of their ratios."""
    rows = [
        [f"{a.server_cpu:.3f}", f"{b.server_cpu:.3f}", f"{a.server_cpu / b.server_cpu:.3f}",
         f"{a.per_s:,.0f}", f"{b.per_s:,.0f}", f"{a.per_s / b.per_s:.3f}"]
        for a, b in found
    ]  # fmt: skip
    cpu = median(a.server_cpu / b.server_cpu for a, b in found)
    rate = median(a.per_s / b.per_s for a, b in found)
    head = ["CPU s with", "without", "ratio", "puts/s with", "without", "ratio"]
    return (
        "# Cost of the flight recorder\n\nCPU seconds of the three nodes for 1,000 puts, "
        f"{PUT_64.connections} connections.\n\n{table(head, rows)}\n\n"
        f"Medians of the ratios: CPU {cpu:.3f}, puts/s {rate:.3f}.\n"
    )


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with workspace() as directory:
        found = pairs(directory, options.pairs, options.seconds)
    text = report(found)
    print(text)
    publish(text, "recorder", options.output)
    return int(any(sample.failed for pair in found for sample in pair))


if __name__ == "__main__":
    sys.exit(main())
