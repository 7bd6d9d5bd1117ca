"""Shows trainings: bars or lines, best checkpoints, the figures of several seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from dql_core.cli.console import plain_table
from dql_core.cli.terminal import TaskText, print_message
from dql_core.extras import needing
from dql_core.training.run_files import checkpoint_steps, read_best

with needing("train", __name__):
    from dql_core.training.multi_seed import Figure, SeedRun

SPEED = "updates_per_s"
SHOWN = ("imitation", "improvement", "critic", "q_data")


def best_lines(run: Path) -> Iterator[str]:
    """Yield a line for the last checkpoint of a run, and for its best ones and why they are.

    One for the last before its critics diverged, too, if they did.
    """
    best = read_best(run)
    for name, chosen in best.items():
        if name == "last_healthy" and chosen["step"] == best.get("last", {}).get("step"):
            continue
        why = ""
        if name == "last_healthy":
            why = " (before the critics diverged)"
        elif name != "last":
            why = f" ({chosen['criterion']}: {chosen['value']:.4g})"
        yield f"{name}: {run / chosen['checkpoint']}{why}"


def figures_table(title: str, figures: Mapping[str, Figure]) -> Table:
    """Show each figure's mean and 95 % interval over the seeds, and its values."""
    seeds = list(dict.fromkeys(seed for figure in figures.values() for seed in figure.values))
    table = plain_table("", "mean ± 95 %", *(f"seed {seed}" for seed in seeds))
    table.title, table.title_justify, table.title_style = title, "left", "bold"
    for name, figure in figures.items():
        estimate = figure.estimate
        values = (f"{figure.values[seed]:.4g}" if seed in figure.values else "" for seed in seeds)
        table.add_row(name, f"{estimate.mean:.4g} ± {estimate.high - estimate.mean:.2g}", *values)
    return table


class SeedLines:
    """Shows several runs; a message that they all have is shown once."""

    def __init__(self, runs: Sequence[SeedRun], bars: TrainingBars, console: Console) -> None:
        self._reports = {run.seed: bars.add(f"seed {run.seed}", run.out) for run in runs}
        self._console = console
        self._said: set[str] = set()

    def report(self, seed: int, step: int, metrics: Mapping[str, float]) -> None:
        """Show a reading."""
        self._reports[seed](step, metrics)

    def log(self, seed: int, level: int, text: str) -> None:
        """Show a message, unless another run said the same."""
        if text not in self._said:
            self._said.add(text)
            print_message(self._console, level, f"seed {seed}: {text}")


class TrainingBars(Progress):
    """Shows the readings of runs; on a terminal as a bar each, elsewhere as a line a tenth.

    Args:
        total: Updates of each run.
        console: Where they are shown.
    """

    def __init__(self, total: int, console: Console) -> None:
        uncut = Column(no_wrap=True)
        super().__init__(
            TaskText("bold"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(table_column=uncut),
            TimeRemainingColumn(table_column=uncut),
            TextColumn("left"),
            # What a narrow terminal has no room for is cut from the losses.
            TextColumn(
                "{task.fields[metrics]}", markup=False, table_column=Column(no_wrap=True, ratio=1)
            ),
            console=console,
            disable=not console.is_terminal,
            expand=True,
        )
        self._total = total

    def add(self, label: str, run: Path) -> Callable[[int, Mapping[str, float]], None]:
        """Add a run, new or not, and return what shows a reading of it: its step and metrics."""
        done = (checkpoint_steps(run) or [0])[-1]
        task = self.add_task(label, total=self._total, completed=done, metrics="")
        tenths = 0

        def report(step: int, metrics: Mapping[str, float]) -> None:
            nonlocal tenths
            text = metrics_text(metrics)
            self.update(task, completed=step, metrics=text)
            if not self.console.is_terminal and 10 * step >= tenths * self._total:
                text += time_left(self._total - step, metrics)
                self.console.print(f"{label}: {step}/{self._total} {text}", soft_wrap=True)
                tenths = 10 * step // self._total + 1

        return report


def metrics_text(metrics: Mapping[str, float]) -> str:
    """Return whether the critics diverge, the speed and the losses as one line."""
    speed = f"{metrics[SPEED]:.0f}/s " if SPEED in metrics else ""
    alarm = "DIVERGES " if metrics.get("q_alarm") else ""
    losses = (f"{name} {metrics[name]:.3g}" for name in SHOWN if name in metrics)
    return alarm + speed + " ".join(losses)


def time_left(steps_left: int, metrics: Mapping[str, float]) -> str:
    """Return how long the rest takes at the speed of the last updates, if that is known."""
    if not steps_left or not metrics.get(SPEED):
        return ""
    return f" ({timedelta(seconds=round(steps_left / metrics[SPEED]))} left)"
