"""The picture of the demo's agents: success and return over the seeds."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.demo.findings import DEMONSTRATIONS, Findings, Measure

COLOURS = {
    DEMONSTRATIONS: "#6b7280",
    "diffusion_bc": "#d97b29",
    "td3_bc": "#8a5a9e",
    "diffusion_ql": "#2166b0",
    "one_step": "#2a9d63",
}
_INK, _FAINT = "#1f2933", "#e4e7eb"
_DPI = 150


def draw(findings: Findings, path: Path) -> None:
    """Draw a row for each policy: a small dot a seed, the mean with its interval."""
    figure = Figure(figsize=(9.6, 0.36 * len(findings.labels) + 1.1), layout="constrained")
    success, return_ = figure.subplots(1, 2, sharey=True)
    _draw_measure(success, findings, "success")
    _draw_measure(return_, findings, "return")
    success.set_title("success rate", color=_INK, fontsize=11)
    success.set_xlim(-0.02, 1.03)
    success.xaxis.set_major_formatter(PercentFormatter(1.0))
    return_.set_title("mean return", color=_INK, fontsize=11)
    success.set_yticks(range(len(findings.labels)), list(findings.labels.values()))
    success.invert_yaxis()
    figure.savefig(path, dpi=_DPI, facecolor="white")


def _draw_measure(axes: Axes, findings: Findings, measure: Measure) -> None:
    plain = {agent.key: agent.plain for agent in findings.agents}
    for row, key in enumerate(findings.labels):
        colour = COLOURS[plain.get(key) or key]
        values = findings.by_seed(key, measure)
        mean = findings.over_seeds(key, measure)
        if math.isfinite(mean.low):
            low, high = mean.low, mean.high
            if measure == "success":
                low, high = max(0.0, low), min(1.0, high)
            axes.plot([low, high], [row, row], color=colour, lw=2, solid_capstyle="butt")
        axes.plot(values, [row] * len(values), "o", ms=4, mfc="white", mec=colour, zorder=3)
        axes.plot([mean.mean], [row], "D", ms=7, color=colour, zorder=2)
    axes.grid(axis="x", color=_FAINT)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=0)
    axes.spines[:].set_visible(False)
