"""How the command line shows what a file or folder holds.

The progress of training runs: speed, losses, time left.

How the command line tells and keeps what a policy's episodes came to.

Which checkpoint of a run is which, for people to read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from dql_core.cli.terminal import TaskText
from dql_core.evaluation.rollout import EvaluationResult
from dql_core.evaluation.statistics import Estimate
from dql_core.files import write_text
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.training.run_files import (
    CHECKPOINTS_FOLDER,
    CheckpointName,
    checkpoint_steps,
    read_best,
)

Columns = Mapping[str, NDArray[np.floating[Any]]]
SPEED = "updates_per_s"
SHOWN = ("imitation", "improvement", "critic", "q_data")


def facts_table(title: str, facts: Mapping[str, object]) -> Table:
    """Show labelled facts, one a line; an empty one is left out."""
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in facts.items():
        if value != "":
            table.add_row(label, str(value))
    return table


def plain_table(*headings: str) -> Table:
    """Return an empty table that folds long words and never cuts them."""
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def spec_facts(spec: PolicySpec) -> dict[str, object]:
    """Facts of a spec beside its fields."""
    return {
        "robot": spec.robot,
        "control rate": f"{spec.rate_hz:g} Hz" if spec.rate_hz else "unknown (no contract)",
        "contract": spec.contract_hash[:12] or "none",
    }


def fields_table(
    spec: PolicySpec, observation: Columns | None = None, action: Columns | None = None
) -> Table:
    """Show the fields of a spec, with further columns where there are any.

    Args:
        spec: The fields.
        observation: One number for each observation field, shape (O,), by column.
        action: One number for each action field, shape (A,), by column.
    """
    columns = list(dict.fromkeys([*(observation or {}), *(action or {})]))
    table = plain_table("field", "unit", "bounds", *columns)
    for kind, fields, numbers in (
        ("observation", spec.observation, observation or {}),
        ("action", spec.action, action or {}),
    ):
        table.add_row(Text(kind, "bold"))
        for index, field in enumerate(fields):
            row = [f"{numbers[name][index]:.4g}" if name in numbers else "" for name in columns]
            table.add_row(f"{index} {field.name}", field.unit, _bounds(field), *row)
        table.add_section()
    return table


def _bounds(field: FieldSpec) -> str:
    if np.isinf(field.low) and np.isinf(field.high):
        return "none"
    return f"{field.low:g} to {field.high:g}"


class TrainingBars:
    """Shows the readings of runs; on a terminal as a bar each, elsewhere as a line a tenth."""

    def __init__(self, total: int, console: Console) -> None:
        """Prepare for runs of ``total`` updates."""
        self._total = total
        self._console = console
        self._progress = Progress(
            TaskText("bold"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("left"),
            # What a narrow terminal has no room for is cut from the losses.
            TextColumn(
                "{task.fields[metrics]}", markup=False, table_column=Column(no_wrap=True, ratio=1)
            ),
            console=console,
            disable=not console.is_terminal,
            expand=True,
        )

    def __enter__(self) -> TrainingBars:
        """Start to show."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last state on the screen."""
        self._progress.stop()

    def add(self, label: str, run: Path) -> Callable[[int, Mapping[str, float]], None]:
        """Add a run, new or not, and return what shows a reading of it: its step and metrics."""
        done = (checkpoint_steps(run) or [0])[-1]
        task = self._progress.add_task(label, total=self._total, completed=done, metrics="")
        tenths = 0

        def report(step: int, metrics: Mapping[str, float]) -> None:
            nonlocal tenths
            text = metrics_text(metrics)
            self._progress.update(task, completed=step, metrics=text)
            if not self._console.is_terminal and 10 * step >= tenths * self._total:
                text += time_left(self._total - step, metrics)
                self._console.print(f"{label}: {step}/{self._total} {text}", soft_wrap=True)
                tenths = 10 * step // self._total + 1

        return report


def metrics_text(metrics: Mapping[str, float]) -> str:
    """Return the speed and the losses as one line."""
    speed = f"{metrics[SPEED]:.0f}/s " if SPEED in metrics else ""
    losses = (f"{name} {metrics[name]:.3g}" for name in SHOWN if name in metrics)
    return speed + " ".join(losses)


def time_left(steps_left: int, metrics: Mapping[str, float]) -> str:
    """Return how long the rest takes at the speed of the last updates, if that is known."""
    if not steps_left or not metrics.get(SPEED):
        return ""
    return f" ({timedelta(seconds=round(steps_left / metrics[SPEED]))} left)"


def evaluation_table(title: str, result: EvaluationResult) -> Table:
    """Show means with their 95 % intervals."""
    facts: dict[str, object] = {
        "episodes": len(result.returns),
        "mean return": _with_interval(result.mean_return, ".2f"),
        "mean length": f"{sum(result.lengths) / len(result.lengths):.1f}",
    }
    if result.success_rate:
        facts["success rate"] = _with_interval(result.success_rate, ".1%")
    return facts_table(title, facts)


def write_evaluation(
    path: Path,
    result: EvaluationResult,
    *,
    policy: Path,
    env: str,
    seed: int,
    checkpoint: str = "",
) -> None:
    """Write the figures, and what they are of, as JSON; the file appears whole or not at all."""
    source = {"policy": str(policy)} | ({"checkpoint": checkpoint} if checkpoint else {})
    summary = {**source, "env": env, "seed": seed, **result.to_json()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(summary, indent=2) + "\n")


def _with_interval(estimate: Estimate, form: str) -> str:
    return f"{estimate.mean:{form}} (95 %: {estimate.low:{form}} to {estimate.high:{form}})"


def best_lines(run: Path) -> Iterator[str]:
    """Tell the last checkpoint of a run, and its best ones with what they are best in."""
    for name, chosen in read_best(run).items():
        why = f" ({chosen['criterion']}: {chosen['value']:.4g})" if name != "last" else ""
        yield f"{name}: {run / chosen['checkpoint']}{why}"


def label(policy: Path, which: CheckpointName) -> str:
    """Name a policy together with the checkpoint that was taken."""
    return f"{policy} ({which})" if (policy / CHECKPOINTS_FOLDER).is_dir() else str(policy)
