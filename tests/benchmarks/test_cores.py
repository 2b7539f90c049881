"""What is said of more cores follows from CPU by threads."""

import os
import threading
import time

import pytest

from benchmarks.cores import Costs, describe
from benchmarks.shared.procfs import cpu_seconds, loop_cpu_seconds


def test_the_first_thread_is_counted_alone() -> None:
    def busy() -> None:
        until = time.thread_time() + 0.15
        while time.thread_time() < until:
            pass

    whole, loop = cpu_seconds([os.getpid()]), loop_cpu_seconds(os.getpid())
    thread = threading.Thread(target=busy)
    thread.start()
    thread.join()
    assert cpu_seconds([os.getpid()]) - whole >= 0.1
    assert loop_cpu_seconds(os.getpid()) - loop < 0.1
    busy()
    assert loop_cpu_seconds(os.getpid()) - loop >= 0.1


def test_the_busiest_loop_bounds_a_cluster_that_has_cores_enough() -> None:
    costs = Costs(3, 1, 10_000.0, 20.0, 25.0, 10.0, 50.0)
    assert costs.cores_bound_per_s(2) == pytest.approx(40_000)
    assert costs.cores_bound_per_s(8) == costs.loop_bound_per_s == pytest.approx(50_000)
    assert "| 50,000" in describe([costs], 8).replace("|                        ", "| ")
    assert Costs(3, 1, 1.0, 10.0, 25.0, 20.0, 50.0).loop_bound_per_s == pytest.approx(50_000)
