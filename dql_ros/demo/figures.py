"""The demo's pictures: the paths that the tool took, and the learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle

from dql_core.sim.scara import (
    PEG_RADIUS,
    POST_CENTRE,
    POST_RADIUS,
    REGION_HALF_WIDTH,
    START_CENTRE,
    TARGET_CENTRE,
)
from dql_ros.demo.rollouts import OUTCOMES, Outcome, Rollouts

OUTCOME_COLOURS: dict[Outcome, str] = {
    "success": "#2a9d63",
    "collision": "#d0453f",
    "timeout": "#e0a030",
}
POLICY_COLOURS = {"demonstrator": "#6b7280", "diffusion_bc": "#d97b29", "diffusion_ql": "#2166b0"}
_INK, _FAINT = "#1f2933", "#e4e7eb"
_DPI = 150


@dataclass(frozen=True)
class LearningCurve:
    """One training as it went.

    Attributes:
        key: The agent's name in files.
        label: The agent's name for people.
        points: Rollouts of its checkpoints, as `EvaluationResult.to_json` with ``step``.
        metrics: Lines of its metrics file.
    """

    key: str
    label: str
    points: Sequence[Mapping[str, Any]]
    metrics: Sequence[Mapping[str, float]]


def draw_paths(rollouts: Sequence[Rollouts], path: Path) -> None:
    """Draw where the tool went, one panel a policy, seen from above with the base below."""
    figure = Figure(figsize=(4.2 * len(rollouts), 4.9), layout="constrained")
    for axes, one in zip(_row(figure, len(rollouts)), rollouts, strict=True):
        _draw_table(axes)
        _draw_tool_paths(axes, one)
        rate, return_ = one.success_rate.mean, one.mean_return.mean
        axes.set_title(one.label, fontweight="bold", color=_INK)
        axes.text(
            0.5,
            0.975,
            f"{rate:.0%} succeed, mean return {return_:.2f}\n{_ways_text(one)}",
            transform=axes.transAxes,
            ha="center",
            va="top",
            fontsize=9,
            color=_INK,
        )
    handles = [Line2D([], [], color=OUTCOME_COLOURS[o], lw=2, label=o) for o in OUTCOMES]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=_DPI, facecolor="white")


def draw_learning_curves(
    curves: Sequence[LearningCurve], demonstrator: Rollouts, path: Path
) -> None:
    """Draw success and return of the checkpoints, and what the losses did meanwhile."""
    figure = Figure(figsize=(12.6, 3.6), layout="constrained")
    success, return_, imitation, value = _row(figure, 4)
    for curve in curves:
        style = {"color": POLICY_COLOURS[curve.key], "label": curve.label, "lw": 2}
        _draw_points(success, curve, "success_rate", "success_rate_ci95", style)
        _draw_points(return_, curve, "mean_return", "mean_return_ci95", style)
        _draw_metric(imitation, curve, "imitation", style)
        _draw_metric(value, curve, "q_data", style)
    level: dict[str, Any] = {
        "color": POLICY_COLOURS["demonstrator"],
        "ls": "--",
        "label": demonstrator.label,
    }
    success.axhline(demonstrator.success_rate.mean, **level)
    return_.axhline(demonstrator.mean_return.mean, **level)
    success.set_ylim(-0.03, 1.03)
    imitation.set_yscale("log")
    titles = ("success rate", "mean return", "imitation loss", "value of the data's actions, Q")
    for axes, title in zip((success, return_, imitation, value), titles, strict=True):
        axes.set_title(title, fontsize=10.5, color=_INK)
        axes.set_xlabel("updates")
        axes.grid(color=_FAINT)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = success.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=_DPI, facecolor="white")


def _row(figure: Figure, count: int) -> Sequence[Axes]:
    """Panels side by side."""
    panels: Sequence[Axes] = figure.subplots(1, count, squeeze=False)[0]
    return panels


def _draw_table(axes: Axes) -> None:
    """Draw base, post, and the squares that start and target are drawn from.

    The robot's y axis points right on the page and its x axis up, so points are given as (y, x).
    """
    for centre, colour, name, side in (
        (START_CENTRE, "#9aa5b1", "start", -1),
        (TARGET_CENTRE, OUTCOME_COLOURS["success"], "target", 1),
    ):
        corner = (centre[1] - REGION_HALF_WIDTH, centre[0] - REGION_HALF_WIDTH)
        width = 2 * REGION_HALF_WIDTH
        axes.add_patch(Rectangle(corner, width, width, color=colour, alpha=0.25, lw=0))
        beside = (centre[1] + side * 1.5 * REGION_HALF_WIDTH, centre[0])
        align = "right" if side < 0 else "left"
        axes.annotate(name, beside, ha=align, va="center", fontsize=9, color=_INK)
    post, reach = (POST_CENTRE[1], POST_CENTRE[0]), POST_RADIUS + PEG_RADIUS
    axes.add_patch(Circle(post, POST_RADIUS, color="#c9493f", alpha=0.9, lw=0))
    axes.add_patch(Circle(post, reach, fill=False, color="#c9493f", ls=":", lw=1))
    axes.annotate("post", post, ha="center", va="center", fontsize=9, color="white")
    axes.add_patch(Circle((0, 0), 0.045, color="#323f4b", lw=0))
    axes.annotate("base", (0, 0), ha="center", va="center", fontsize=8, color="white")
    axes.set(xlim=(-0.32, 0.32), ylim=(-0.06, 0.62), aspect="equal", xlabel="y (m)")
    axes.set_ylabel("x (m)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(color=_FAINT, lw=0.6)


def _draw_tool_paths(axes: Axes, rollouts: Rollouts) -> None:
    opacity = float(np.clip(12.0 / max(len(rollouts.episodes), 1), 0.18, 0.55))
    for path, outcome in zip(rollouts.paths, rollouts.outcomes, strict=True):
        colour = OUTCOME_COLOURS[outcome]
        axes.plot(path[:, 1], path[:, 0], color=colour, alpha=opacity, lw=1.1)
        if outcome != "success":
            axes.plot(path[-1, 1], path[-1, 0], "x", color=colour, ms=4, mew=1.2, alpha=0.8)


def _ways_text(rollouts: Rollouts) -> str:
    ways = rollouts.ways
    return f"{ways['inner']} inside, {ways['outer']} outside, {ways[None]} did not pass"


def _draw_points(
    axes: Axes, curve: LearningCurve, key: str, interval: str, style: Mapping[str, Any]
) -> None:
    points = [point for point in curve.points if key in point]
    if not points:
        return
    steps = [point["step"] for point in points]
    low, high = np.array([point[interval] for point in points], dtype=float).T
    axes.plot(steps, [point[key] for point in points], marker="o", ms=3.5, **style)
    axes.fill_between(steps, low, high, color=style["color"], alpha=0.13, lw=0)


def _draw_metric(axes: Axes, curve: LearningCurve, key: str, style: Mapping[str, Any]) -> None:
    lines = [line for line in curve.metrics if key in line]
    if lines:
        axes.plot([line["step"] for line in lines], [line[key] for line in lines], **style)
