"""What a part is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.comparison import Effort
from benchmarks.shared.plots import Panel


@dataclass(frozen=True)
class BenchPlan:
    """`long_s` is the length of what is long; data of clusters goes below `directory`."""

    directory: Path
    effort: Effort
    long_s: float
    systems: tuple[str, ...]

    def home(self, part: str) -> Path:
        """A directory for the clusters of one part."""
        found = self.directory / part
        found.mkdir(parents=True)
        return found


@dataclass(frozen=True)
class Plot:
    """A picture: panels above each other that share an x axis."""

    x_label: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Section:
    """A part's result. `plots` by the names of their files; any problem fails the run."""

    title: str
    text: str
    data: object
    plots: Mapping[str, Plot] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
