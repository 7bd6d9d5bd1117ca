"""`dql dataset`: what is done with finished datasets."""

from __future__ import annotations

import typer

from dql_core.cli import curate
from dql_core.cli.export_dataset import export
from dql_core.cli.score import score

dataset = typer.Typer(no_args_is_help=True, add_completion=False)


@dataset.callback()
def _dataset() -> None:
    """Join, choose, cut, split, score and export datasets."""


for command in (*curate.COMMANDS, score, export):
    dataset.command()(command)
