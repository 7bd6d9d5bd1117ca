"""`dql dataset export`: write a dataset for another library."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

import typer

from dql_core.cli.console import facts_table
from dql_core.cli.terminal import Terminal, print_message
from dql_core.extras import needing

with needing("convert", __name__):
    from dql_core.data.lerobot_writer import write_lerobot


def export(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="A dataset's folder, or a local Minari id.")
    ],
    dataset_format: Annotated[
        Literal["lerobot"], typer.Option("--format", help="lerobot: LeRobot's format v3.0.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
    task: Annotated[
        str, typer.Option(help="What was done, in words; by default the robot's name.")
    ] = "",
    fps: Annotated[
        float | None,
        typer.Option(min=0.001, help="Frames a second, where the dataset does not say its rate."),
    ] = None,
) -> None:
    """Write a dataset for another library.

    What the format cannot carry is listed. dql import --format lerobot
    reads it again: observations, actions, rewards and ends to the bit.

    Example: dql dataset export data/arm --format lerobot --out data/arm-lerobot
    """
    result = write_lerobot(dataset, out, task=task, fps=fps)
    terminal = Terminal()
    facts = {
        "format": f"{dataset_format} v3.0",
        "episodes": f"{result.episodes:,}",
        "frames": f"{result.frames:,} at {result.rate_hz:g} Hz",
        "task": result.task,
    }
    terminal.print(facts_table(f"dataset {out}", facts))
    for line in result.left_out:
        print_message(terminal, logging.WARNING, f"not carried: {line}")
