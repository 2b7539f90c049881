"""How all tests run: how many processes share them, and that a run of nothing is a failure."""

import os
import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
"""Hundreds of nodes and commands are started. Without bytecode in files each would compile all
sources again, which is a third of a start."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in the background of a script: then no command that a test starts could be interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("store", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("store")
"""How long an example took says something about the machine, and decides nothing."""

PROCESSES_MAX = 8
"""Each may run a cluster of three nodes, so more would want memory rather than processors."""


def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: twice as many as processors, because many tests wait for timers."""
    return min(PROCESSES_MAX, 2 * (os.cpu_count() or 1))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run in which every test was skipped shows nothing, and so it does not succeed."""
    if hasattr(session.config, "workerinput") or session.config.option.collectonly:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == pytest.ExitCode.OK and not reporter.stats.get("passed"):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
