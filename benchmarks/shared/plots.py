"""Pictures of series, drawn by matplotlib where it is installed (the `bench` extra)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Points = Sequence[tuple[float, float]]
_COLOURS = {"ours": "#1f5fbf", "etcd": "#d9822b"}


@dataclass(frozen=True)
class Panel:
    """Series by name over one y axis; `marks` are moments, or other places on the x axis."""

    y_label: str
    series: Mapping[str, Points]
    log_x: bool = False
    log_y: bool = False
    marks: Mapping[str, float] | None = None


def draw(path: Path, x_label: str, panels: Sequence[Panel]) -> None:
    """Write a PNG. Raises ImportError without matplotlib, ValueError if there is nothing to see."""
    if not any(points for panel in panels for points in panel.series.values()):
        raise ValueError(f"{path.name} would be empty")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    figure = Figure(figsize=(8, 1.2 + 2.2 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    every_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for panel, axes in zip(panels, every_axes, strict=True):
        for name, points in panel.series.items():
            colour = next((c for word, c in _COLOURS.items() if name.startswith(word)), None)
            xs, ys = [x for x, _ in points], [y for _, y in points]
            axes.plot(xs, ys, label=name, color=colour, marker=".", markersize=4)
        for text, x in (panel.marks or {}).items():
            colour = next((c for word, c in _COLOURS.items() if word in text), "#888888")
            axes.axvline(x, color=colour, linestyle=":", label=text)
        axes.set_ylabel(panel.y_label)
        if panel.log_x:
            axes.set_xscale("log")
        if panel.log_y:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(LogFormatter())
            axes.yaxis.set_minor_formatter(LogFormatter())
        else:
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    every_axes[-1].set_xlabel(x_label)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
