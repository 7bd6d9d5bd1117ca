"""What the judge says beside what is true: a line for each policy, the best one on top."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.judge.findings import OfSet
from dql_core.evaluation.statistics import estimate_mean

WIDTH, LINE, MARGIN = 6.0, 0.2, 1.1  # of a panel, inches
JUDGED, TRUE, DATA = "tab:blue", "black", "tab:orange"


def draw(sets: Sequence[OfSet], path: Path) -> None:
    """Draw judged and true values with their 95 % intervals, two sets beside each other."""
    columns = min(len(sets), 2)
    lines = math.ceil(len(sets) / columns)
    height = MARGIN + LINE * max(len(one.rows) for one in sets)
    figure = Figure(figsize=(WIDTH * columns, height * lines), layout="constrained")
    for place, one in enumerate(sets, 1):
        _panel(one, figure.add_subplot(lines, columns, place))
    marks = dict(zip(*reversed(figure.axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(marks.values(), marks.keys(), loc="outside upper center", ncols=3, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "judge"}):  # equal figures are equal files
        figure.savefig(path, metadata={"Date": None})


def _panel(one: OfSet, panel: Axes) -> None:
    rows = sorted(one.rows, key=lambda row: row.true_value)
    for line, row in enumerate(rows):
        truth, own = estimate_mean(row.truth.discounted), row.estimated
        panel.plot([truth.low, truth.high], [line + 0.15] * 2, color=TRUE)
        panel.plot(truth.mean, line + 0.15, "o", ms=4, color=TRUE, label="true, by rollouts")
        if own.value is not None and own.low is not None and own.high is not None:
            panel.plot([own.low, own.high], [line - 0.15] * 2, color=JUDGED)
            panel.plot(own.value, line - 0.15, "o", ms=4, color=JUDGED, label="by the judge")
    panel.axvline(rows[0].behaviour, color=DATA, ls="--", label="what was recorded")
    texts = [f"{row.policy.name}: {row.estimated.verdict}" for row in rows]
    panel.set_yticks(range(len(rows)), texts, size=7)
    panel.set_title(one.name, size=9)
    panel.set_xlabel("discounted return, with 95 % intervals", size=8)
    panel.tick_params(axis="x", labelsize=8)
