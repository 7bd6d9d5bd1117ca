"""The result of a closed loop: its episodes, and timing and guards of the policy node."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dql_core.evaluation.rollout import EvaluationResult, numbered_failures
from dql_ros.diagnostics import DiagnosticsLog, Report
from dql_ros.nodes.closed_loop import BRIDGE, DRIVER
from dql_ros.sim.options import Operator
from dql_ros.sim.result import EpisodeResult
from dql_ros.tools.layouts import COLORS

_GUARD = "guard "
# Shown elsewhere, or only of interest where it is not 0.
_OMITTED = ("mode", "bundle", "episode", _GUARD)
_SHOWN_ZEROS = {"seed", "missed ticks", "periods lost"}
_SUCCESS, _FAILURE, _UNKNOWN = "#2a9d63", "#d0453f", "#2166b0"
_QUANTILE = re.compile(r"(.+) p50 \(ms\)")
_DPI = 150
_TITLE_WIDTH = 100  # letters


@dataclass(frozen=True)
class ClosedLoop:
    """One run of `dql closed-loop`.

    Attributes:
        bundle: Folder of the policy bundle; ``None`` where the operator drives.
        env: Gymnasium id of the environment, or the path of an MJCF file.
        seed: Episode i was reset with ``seed + i``.
        real_time: Whether the simulation ran with the clock.
        faults: What the bridge injected, by parameter.
        results: How the episodes ended.
        log: What the nodes reported.
        operator: What the scripted operator does: nothing, drive, or watch and take over.
        reset_noise_scale: How far from its start each joint of an MJCF file began at most.
    """

    bundle: Path | None
    env: str
    seed: int
    real_time: bool
    faults: Mapping[str, float | int]
    results: list[EpisodeResult]
    log: DiagnosticsLog
    operator: Operator = "none"
    reset_noise_scale: float = 0.0

    @property
    def driver(self) -> str:
        """Who drove, in words."""
        if self.bundle is None:
            return "the scripted operator"
        watched = ", watched by the operator," if self.operator == "watches" else ""
        return f"{self.bundle}{watched}"

    @property
    def outcome(self) -> EvaluationResult:
        """The episodes in the form of one in-process rollout."""
        return summarize(self.results)

    @property
    def policy(self) -> Report | None:
        """The policy node's last report; its counts are those of the whole run."""
        return self.log.last_of(DRIVER)

    @property
    def guards(self) -> dict[str, int]:
        """How often each guard tripped, by its name."""
        values = {} if self.policy is None else self.policy.values
        counts = {
            key.removeprefix(_GUARD): int(value)
            for key, value in values.items()
            if key.startswith(_GUARD) and value.isdecimal()
        }
        # What was published is counted beside the guards, but is no guard.
        counts.pop("published", None)
        return counts

    def policy_facts(self) -> dict[str, object]:
        """Return what a reader wants to know of the policy node, by label."""
        if self.policy is None:
            return {"diagnostics": "none received"}
        facts = _shown_values(self.policy)
        tripped = {name: count for name, count in self.guards.items() if count}
        facts["guards"] = (
            ", ".join(f"{name} {count}" for name, count in tripped.items()) or "none tripped"
        )
        return facts | self._worst(DRIVER)

    def simulation_facts(self) -> dict[str, object]:
        """Return what a reader wants to know of the simulation, by label."""
        last = self.log.last_of(BRIDGE)
        facts = {} if last is None else _shown_values(last)
        return {"episodes": len(self.results), **facts, **self._worst(BRIDGE)}

    def to_json(self) -> dict[str, Any]:
        """Return everything in a JSON-ready form."""
        nodes = {name: report.to_json() for name, report in sorted(self.log.last.items())}
        return {
            "policy": None if self.bundle is None else str(self.bundle),
            "operator": self.operator,
            "env": self.env,
            "seed": self.seed,
            "mode": "real_time" if self.real_time else "lockstep",
            "faults": dict(self.faults),
            "reset_noise_scale": self.reset_noise_scale,
            **self.outcome.to_json(),
            "guards": self.guards,
            "nodes": nodes,
        }

    def _worst(self, node: str) -> dict[str, object]:
        worst = self.log.worst(node)
        return {"worst": f"{worst.message} (after {worst.time_s:.1f} s)"} if worst else {}


def _shown_values(report: Report) -> dict[str, object]:
    """Leave out what is shown elsewhere, and counts of what did not happen."""
    return {
        key: value
        for key, value in report.values.items()
        if not key.startswith(_OMITTED) and (value != "0" or key in _SHOWN_ZEROS)
    }


def summarize(results: Sequence[EpisodeResult]) -> EvaluationResult:
    """Return the outcome of episodes over topics in the form of one in-process rollout."""
    return EvaluationResult(
        returns=tuple(result.return_ for result in results),
        lengths=tuple(result.length for result in results),
        successes=tuple(result.success for result in results if result.success is not None),
        failures=numbered_failures([result.failure for result in results]),
    )


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
    short = None if run.bundle is None else Path(*run.bundle.parts[-3:])
    title = f"{replace(run, bundle=short).driver} in {run.env}, {mode}{faults}"
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
    """Draw what the policy node reported: medians solid, 99th percentiles dashed."""
    reports = [report for report in run.log.of_node(DRIVER) if report.has_begun]
    keys = (_QUANTILE.fullmatch(key) for report in reports for key in report.values)
    quantities = dict.fromkeys(found[1] for found in keys if found)
    for colour, quantity in zip(cycle(COLORS), quantities):
        for quantile, style in (("p50", "-"), ("p99", "--")):
            times_s = [report.time_s for report in reports]
            values = [report.number(f"{quantity} {quantile} (ms)") for report in reports]
            drawn = [math.nan if value is None else value for value in values]
            label = f"{quantity} {quantile}"
            axes.plot(times_s, drawn, style, marker=".", color=colour, label=label)
    axes.set(title="policy node (ms)", xlabel="time (s)")
    # Microseconds of jitter and the age of a lost state's predecessor are side by side.
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
    axes.set(title="guards: how often they tripped")
