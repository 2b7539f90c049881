"""How fast the client is when the server does nothing: what no system can exceed here."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from benchmarks.clients.load import Load, Sample, measure
from benchmarks.clients.traffic import request
from benchmarks.shared.probe import Unreachable, call
from proof.processes.network import HeldPort

_ROOT = Path(__file__).resolve().parent.parent


def ceiling(load: Load, request_file: Path) -> Sample:
    """The load of a cell against `empty_server`."""
    with closing(HeldPort()) as port:
        command = [sys.executable, "-m", "benchmarks.systems.empty_server", str(port.number)]
        server = subprocess.Popen(command, cwd=_ROOT, process_group=0)
        try:
            _wait(port.number)
            return measure(load, [port.number], request_file, [server.pid])
        finally:
            server.kill()
            server.wait()


def _wait(port: int) -> None:
    for _ in range(200):
        try:
            call(port, request("GET", "/"))
        except Unreachable:
            time.sleep(0.05)
        else:
            return
    raise Unreachable("the empty server did not start")
