"""The progress bar of a training run: speed, losses, time left."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SPEED = "updates_per_s"
SHOWN = ("imitation", "improvement", "critic", "q_data")


class TrainingBar:
    """Shows the readings of a run; on a terminal as a bar, elsewhere as a line every tenth."""

    def __init__(self, total: int, label: str, console: Console) -> None:
        self._total = total
        self._label = label
        self._console = console
        self._next_line = 0.0
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(label, total=total, metrics="")

    def __enter__(self) -> TrainingBar:
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

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show one reading."""
        text = metrics_text(metrics)
        self._progress.update(self._task, completed=step, metrics=text)
        if not self._console.is_terminal and step >= self._next_line * self._total:
            text += time_left(self._total - step, metrics)
            self._console.print(f"{self._label}: {step}/{self._total} {text}", soft_wrap=True)
            self._next_line += 0.1


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
