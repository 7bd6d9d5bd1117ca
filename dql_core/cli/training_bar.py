"""The progress of training runs: speed, losses, time left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from dql_core.cli.terminal import TaskText
from dql_core.training.locate import checkpoint_steps

SPEED = "updates_per_s"
SHOWN = ("imitation", "improvement", "critic", "q_data")


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
