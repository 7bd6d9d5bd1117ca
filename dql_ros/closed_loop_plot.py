"""The picture of a closed loop: returns, timing and guards."""

from __future__ import annotations

import math
import re
import textwrap
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dql_ros.closed_loop import DRIVER
from dql_ros.closed_loop_summary import ClosedLoop
from dql_ros.layouts.palette import COLORS

_SUCCESS, _FAILURE, _UNKNOWN = "#2a9d63", "#d0453f", "#2166b0"
_QUANTILE = re.compile(r"(.+) p50 \(ms\)")
_DPI = 150
_TITLE_WIDTH = 100  # letters


def draw_closed_loop(run: ClosedLoop, path: Path) -> None:
    """Draw ``run`` into the file ``path``, whose suffix says the format."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    returns, timing, guards = figure.subplots(1, 3)
    _draw_returns(returns, run)
    _draw_timing(timing, run)
    _draw_guards(guards, run)
    mode = "real time" if run.real_time else "lockstep"
    faults = "".join(
        f", {name}\N{NO-BREAK SPACE}{amount:g}" for name, amount in run.faults.items()
    )
    title = f"{'/'.join(run.bundle.parts[-3:])} in {run.env}, {mode}{faults}"
    figure.suptitle(textwrap.fill(title, _TITLE_WIDTH))
    figure.savefig(path, dpi=_DPI)


def _draw_returns(axes: Axes, run: ClosedLoop) -> None:
    colours = {True: _SUCCESS, False: _FAILURE, None: _UNKNOWN}
    axes.bar(
        [result.episode for result in run.results],
        [result.return_ for result in run.results],
        color=[colours[result.success] for result in run.results],
    )
    axes.axhline(run.outcome.mean_return.mean, color="#1f2933", linewidth=1, linestyle="--")
    axes.set(title="return", xlabel="episode")
    if any(result.success is not None for result in run.results):
        axes.set_xlabel("episode (green: success)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_timing(axes: Axes, run: ClosedLoop) -> None:
    """Draw what the policy node told of its times: medians solid, 99th percentiles dashed."""
    reports = [report for report in run.log.of_node(DRIVER) if report.has_begun]
    told = (_QUANTILE.fullmatch(key) for report in reports for key in report.values)
    quantities = dict.fromkeys(found[1] for found in told if found)
    for colour, quantity in zip(cycle(COLORS), quantities):
        for quantile, style in (("p50", "-"), ("p99", "--")):
            times_s = [report.time_s for report in reports]
            values = [report.number(f"{quantity} {quantile} (ms)") for report in reports]
            drawn = [math.nan if value is None else value for value in values]
            label = f"{quantity} {quantile}"
            axes.plot(times_s, drawn, style, marker=".", color=colour, label=label)
    axes.set(title="policy node (ms)", xlabel="time (s)")
    # Microseconds of jitter and the age of a lost state's predecessor stand side by side.
    axes.set_yscale("log", nonpositive="mask")
    if quantities:
        axes.legend(
            fontsize="x-small",
            loc="upper center",
            bbox_to_anchor=(0.5, -0.15),
            ncols=len(quantities),
        )


def _draw_guards(axes: Axes, run: ClosedLoop) -> None:
    names = [name.replace("_", " ") for name in run.guards]
    bars = axes.barh(names, list(run.guards.values()), color=_UNKNOWN)
    axes.bar_label(bars, padding=2, fontsize="small")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max([1, *run.guards.values()]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title="guards: objections")
