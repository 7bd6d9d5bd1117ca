"""Learning curves: a panel for each set, a line for each method."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.suite.findings import Findings, label

COLUMNS, WIDTH, HEIGHT = 3, 3.6, 2.7
FEW_COLORS = 10
Axis = Literal["updates", "minutes"]


def draw(findings: Findings, axis: Axis, path: Path) -> None:
    """Draw scores over updates or over time; bands reach from seed to seed."""
    columns = min(COLUMNS, len(findings.sets))
    lines = math.ceil((len(findings.sets) + 1) / columns)  # one place for the legend
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten().tolist()
    for name, panel in zip(findings.sets, panels, strict=False):
        _panel(findings, name, axis, panel)
    for panel in panels[len(findings.sets) :]:
        panel.axis("off")
    handles = {
        text: handle
        for panel in panels[: len(findings.sets)]
        for handle, text in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    panels[len(findings.sets)].legend(
        handles.values(), handles.keys(), loc="center", frameon=False, fontsize=8
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "suite"}):  # equal figures are equal files
        dates = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=100, metadata=dates)


def _panel(findings: Findings, name: str, axis: Axis, panel: Axes) -> None:
    few = len(findings.trained) <= FEW_COLORS
    colors = colormaps["tab10" if few else "tab20"].colors  # type: ignore[attr-defined]
    for index, method in enumerate(findings.trained):
        if cell := findings.cell(name, method):
            steps = [each.step if axis == "updates" else each.seconds / 60 for each in cell.curve]
            color = colors[index % len(colors)]
            panel.plot(
                steps, [each.score for each in cell.curve], color=color, label=label(method)
            )
            lows, highs = [e.low for e in cell.curve], [e.high for e in cell.curve]
            panel.fill_between(steps, lows, highs, color=color, alpha=0.15, linewidth=0)
    panel.axhline(findings.data_score(name), color="gray", ls="--", lw=1, label="the data")
    panel.set_title(name, size=9)
    panel.set_xlabel(axis, size=8)
    panel.set_ylabel("score", size=8)
    panel.set_xlim(0, None)
    panel.tick_params(labelsize=8)
