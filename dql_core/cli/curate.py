"""`dql dataset merge|keep|drop|trim|split`: new datasets out of finished ones."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn
from rich.progress import Progress as Bar

from dql_core.cli.console import facts_table
from dql_core.cli.episode_rules import with_rules
from dql_core.cli.terminal import TaskText, Terminal, print_message
from dql_core.data.curation.rules import Rules
from dql_core.errors import ConfigError
from dql_core.extras import needing

with needing("convert", __name__):
    from dql_core.data.curation.operations import (
        Made,
        Progress,
        choose_episodes,
        merge_datasets,
        split_dataset,
        trim_episodes,
    )

DatasetArgument = Annotated[
    str, typer.Argument(metavar="DATASET", help="A dataset's folder, or a local Minari id.")
]
OutOption = Annotated[
    Path, typer.Option("--out", help="Folder of the dataset to make. Must be new or empty.")
]


def merge(
    datasets: Annotated[
        list[str], typer.Argument(metavar="DATASET...", help="Folders, or local Minari ids.")
    ],
    out: OutOption,
) -> None:
    """Join datasets whose numbers mean the same, one behind the other.

    Their fields, units and rates must be equal. Limits may differ, of which
    the looser ones hold. Everything else of the episodes stays as it is, to
    the bit.

    Example: dql dataset merge data/monday data/tuesday --out data/both
    """
    with episodes_bar("Reading") as progress:
        made = merge_datasets(datasets, out, progress)
    _show([made])


@with_rules
def keep(
    rules: Rules,
    dataset: DatasetArgument,
    out: OutOption,
) -> None:
    """Copy the episodes that all of the given rules select, limits included.

    Example: dql dataset keep data/arm --outcome success --max-length 400
    --out data/arm-good
    """
    with episodes_bar("Reading") as progress:
        made = choose_episodes(dataset, rules, out, drop=False, progress=progress)
    _show([made])


@with_rules
def drop(
    rules: Rules,
    dataset: DatasetArgument,
    out: OutOption,
) -> None:
    """Copy all episodes but those that all of the given rules select, limits included.

    Example: dql dataset drop data/arm --episode 3,17-19 --out data/arm-good
    """
    with episodes_bar("Reading") as progress:
        made = choose_episodes(dataset, rules, out, drop=True, progress=progress)
    _show([made])


@with_rules
def trim(
    rules: Rules,
    dataset: DatasetArgument,
    out: OutOption,
    begin: Annotated[
        int, typer.Option("--begin", min=0, help="Steps to cut off at the beginning.")
    ] = 0,
    end: Annotated[int, typer.Option("--end", min=0, help="Steps to cut off at the end.")] = 0,
) -> None:
    """Cut steps off the episodes that all of the given rules select, or off all.

    The other episodes stay whole. An episode that is cut at its end is
    truncated, not terminated: its value goes on.

    Example: dql dataset trim data/arm --begin 20 --end 5 --out data/arm-cut
    """
    with episodes_bar("Reading") as progress:
        made = trim_episodes(dataset, rules, out, begin=begin, end=end, progress=progress)
    _show([made])


def split(
    dataset: DatasetArgument,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the datasets to make. Must be new or empty.")
    ],
    parts: Annotated[
        str,
        typer.Option(metavar="NAME=SHARE,...", help="Folders in --out, and how much goes there."),
    ] = "train=0.8,test=0.2",
    seed: Annotated[int, typer.Option(min=0, help="Seeds the draw.")] = 0,
) -> None:
    """Split a dataset by whole episodes, the same way each time with one seed.

    Example: dql dataset split data/arm --parts train=0.8,test=0.2
    --out data/arm-split
    """
    with episodes_bar("Reading") as progress:
        made = split_dataset(dataset, _shares(parts), out, seed=seed, progress=progress)
    _show(made)


COMMANDS = (merge, keep, drop, trim, split)


def _shares(text: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, share = part.partition("=")
        try:
            number = float(share)
        except ValueError:
            equals = ""
            number = 0.0
        if not equals:
            raise ConfigError(
                f"--parts: '{part:.80}' is no part; give names and shares, such as "
                f"train=0.8,test=0.2"
            )
        if name in shares:
            raise ConfigError(f"--parts: '{name:.80}' is named twice; name each part once")
        shares[name] = number
    return shares


@contextmanager
def episodes_bar(what: str) -> Iterator[Progress]:
    """Show, on a terminal, how many of the episodes are done; yields what is told so."""
    columns = TaskText(), BarColumn(), MofNCompleteColumn()
    is_shown = sys.stderr.isatty()
    with Bar(*columns, console=Terminal(stderr=True), transient=True, disable=not is_shown) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _show(made: Sequence[Made]) -> None:
    console = Terminal()
    for each in made:
        facts = {
            "episodes": f"{each.episodes:,} of {each.of_episodes:,}",
            "transitions": f"{each.transitions:,} of {each.of_transitions:,}",
        }
        console.print(facts_table(f"dataset {each.out}", facts))
        for note in each.notes:
            print_message(console, logging.WARNING, f"note: {note}")
