"""The release before this one, as files: taken out of the history of this repository."""

import os
import subprocess
from pathlib import Path

import pytest

from kvstore_cli.launcher.node_process import clean_environment
from tests.support.paths import ROOT

FIRST_OF_THIS = "paxos/configuration.py"
"""Came with the first commit of this release, that of members that change."""
PACKAGES = ("paxos", "kvstore", "http_api", "kvstore_cli")


def _git(*words: str) -> bytes:
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def release_before(directory: Path) -> dict[str, str]:
    """Put its packages into `directory`; the environment in which a node runs them. Skips the test
    where there is no such history."""
    try:
        found = _git("log", "--format=%H", "--diff-filter=A", "--", FIRST_OF_THIS).split()
        if not found:
            pytest.skip("the history does not reach back to the release before")
        archive = _git("archive", f"{found[-1].decode()}^", *PACKAGES)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"there is no history to take the release before from: {error}")
    subprocess.run(["tar", "-x", "-C", str(directory)], input=archive, check=True, timeout=60)
    environment = clean_environment()
    # Without the current directory, which comes first otherwise and holds this release.
    environment["PYTHONSAFEPATH"] = "1"
    environment["PYTHONPATH"] = os.pathsep.join((str(directory), environment["PYTHONPATH"]))
    return environment
