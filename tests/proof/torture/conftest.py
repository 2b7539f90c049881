"""A place of its own for every run of the torture."""

import secrets
import tempfile

import pytest

from proof.processes import namespaces
from tests.support.paths import ROOT


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """Processes find the tree under test, temporary directories are under `tmp_path`, and network
    devices have a prefix that no other test's devices have."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(namespaces, "DEVICE_PREFIX", f"k{secrets.token_hex(2)}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    tempfile.tempdir = None
