"""Fixtures of more than one room."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.driven_state import Driven


@pytest.fixture
def driven(tmp_path: Path) -> Iterator[Driven]:
    """An empty state."""
    driven = Driven(tmp_path / "state.mdb")
    yield driven
    driven.store.close()
