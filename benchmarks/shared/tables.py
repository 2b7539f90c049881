"""Tables that read well in a terminal and are markdown at the same time."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table with aligned columns: the first to the left, figures to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    rule = [("-" * (w - 1) + ":") if i else ("-" * w) for i, w in enumerate(widths)]
    return "\n".join(_line(row, widths) for row in [head, rule, *rows])


def ratio(ours: float, theirs: float) -> str:
    """ours / theirs, or a dash where there is nothing to divide."""
    return f"{ours / theirs:.2f}x" if ours and theirs else "-"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join(padded) + " |"
