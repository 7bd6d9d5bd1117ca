"""`dql train --seeds`: the same training with several seeds, and what it came to on average."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from dql_core.cli.console import TrainingBars, plain_table
from dql_core.cli.terminal import print_message
from dql_core.errors import DqlError
from dql_core.files import write_text
from dql_core.process import INTERRUPTED
from dql_core.training.multi_seed import (
    SUMMARY_FILE,
    Figure,
    SeedOutcome,
    SeedRun,
    cores,
    run_seeds,
    summarize,
)


def train_seeds(folder: Path, runs: Sequence[SeedRun], console: Console) -> None:
    """Run all, at most one a core; show their figures and write them to ``summary.json``.

    Raises:
        DqlError: Naming the seeds that failed, after the figures of the others.
        typer.Exit: After a Ctrl-C.
    """
    with TrainingBars(runs[0].config.run.steps, console) as bars:
        outcomes = run_seeds(runs, _SeedLines(runs, bars, console), cores())
    if len(outcomes) < len(runs):
        console.print(f"interrupted; go on with: dql train --resume {folder}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED)
    finished = {each.run.seed: each.run.out for each in outcomes if not each.failure}
    failed = {each.run.seed: each.failure for each in outcomes if each.failure}
    figures = summarize(finished)
    write_text(folder / SUMMARY_FILE, _summary(outcomes, figures))
    if figures:
        console.print(figures_table(str(folder), figures))
    if failed:
        reasons = "; ".join(f"seed {seed}: {reason}" for seed, reason in failed.items())
        raise DqlError(f"{len(failed)} of {len(runs)} seeds failed: {reasons}")


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


def _summary(outcomes: Sequence[SeedOutcome], figures: Mapping[str, Figure]) -> str:
    document = {
        "seeds": [outcome.run.seed for outcome in outcomes],
        "failed": {str(each.run.seed): each.failure for each in outcomes if each.failure},
        "figures": {name: figure.to_json() for name, figure in figures.items()},
    }
    return json.dumps(document, indent=2) + "\n"


class _SeedLines:
    """Shows several runs; what they all say is said once."""

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
