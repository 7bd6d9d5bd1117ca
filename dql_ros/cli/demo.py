"""`dql demo`: everything, from recording to a driving robot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dql_core.cli.terminal import Terminal
from dql_core.extras import needing
from dql_core.process import INTERRUPTED
from dql_ros.demo.progress import DemoProgress

with needing("all", __name__):
    from dql_core.evaluation.statistics import Estimate
    from dql_ros.demo.pipeline import STAGES, DemoSettings, run_demo
    from dql_ros.demo.rollouts import Rollouts


def demo(
    out: Annotated[
        Path,
        typer.Option(help="Result folder; a previous result there is replaced when all is done."),
    ] = Path("runs/demo"),
    episodes: Annotated[
        int, typer.Option(min=2, help="Episodes that each trained policy drives.")
    ] = 50,
    demonstrations: Annotated[int, typer.Option(min=2, help="Episodes to record.")] = 500,
    seed: Annotated[
        int, typer.Option(min=0, max=10_000, help="Seeds demonstrations, trainings and drives.")
    ] = 0,
    steps: Annotated[
        int,
        typer.Option(
            min=0, help="Updates of each training; 0 for those of config/train/scara*.yaml."
        ),
    ] = 0,
) -> None:
    """Record, convert, train, export, judge and drive: the whole way, over ROS 2, in one command.

    A simulated arm is driven past a post by a scripted operator, who often fails. Diffusion-BC and
    Diffusion-QL learn from the recording and drive in turn. OUT then holds index.html with table,
    film and figures, summary.json, and all bags, datasets, checkpoints and bundles in between.
    Takes some minutes. Ctrl-C ends every process and leaves a previous result as it was.

    Example: dql demo --out runs/demo
    """
    console = Terminal()
    try:
        rollouts = run_demo(
            DemoSettings(out, demonstrations, episodes, seed, steps),
            DemoProgress(console, len(STAGES)),
        )
    except KeyboardInterrupt:
        console.print("interrupted; every process is ended and nothing is left behind")
        raise typer.Exit(INTERRUPTED) from None
    console.print(_table(rollouts))
    console.print(f"open {out / 'index.html'}", soft_wrap=True, highlight=False)


def _table(rollouts: Sequence[Rollouts]) -> Table:
    table = Table(caption="in brackets: 95 % interval", caption_justify="left")
    table.add_column("policy")
    for heading in ("success rate", "mean return", "episodes"):
        table.add_column(heading, justify="right")
    for one in rollouts:
        table.add_row(
            one.label,
            _with_interval(one.success_rate, ".0%"),
            _with_interval(one.mean_return, ".2f"),
            str(len(one.results)),
        )
    return table


def _with_interval(estimate: Estimate, form: str) -> str:
    return f"{estimate.mean:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"
