"""`dql dataset score`: which episodes to look at first."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from dql_core.cli.curate import DatasetArgument, episodes_bar
from dql_core.cli.terminal import Terminal, print_message
from dql_core.errors import ConfigError
from dql_core.evaluation.episodes.measures import MEASURES, Measure
from dql_core.extras import needing
from dql_core.files import atomic_directory

with needing("train", __name__):
    from dql_core.data.dataset import find_dataset, require_outside
    from dql_core.evaluation.episodes.page import render
    from dql_core.evaluation.episodes.scoring import Scores, score_episodes
    from dql_core.page import short

SCORE_FILE, PAGE_FILE = "score.json", "score.html"
MOST_PRINTED = 10


def score(
    dataset: DatasetArgument,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for score.json and score.html. New or empty.")
    ],
    by: Annotated[
        Measure | None, typer.Option(help="Rank by this measure alone. Default: by all.")
    ] = None,
    show: Annotated[
        str | None,
        typer.Option(
            metavar="N[-M][,...]",
            help="Episodes whose curves the page shows. Default: the first of the ranking.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seeds the draw of compared steps, where there are many.")
    ] = 0,
) -> None:
    """Rank the episodes of a dataset, those to look at first.

    By jerk, standstill, time at the action bounds, outliers, and how far the
    actions are from those of other episodes in like states. Nothing is
    changed: it says what is unlike the rest, which may be the best there is.

    Writes DIR/score.json and the page DIR/score.html, on which the curves of
    the episodes are side by side.

    Example: dql dataset score data/arm --out runs/arm-score
    """
    require_outside(out.absolute(), find_dataset(dataset).absolute(), dataset)
    with atomic_directory(out, error=ConfigError) as folder:
        with episodes_bar("Scoring") as progress:
            scores = score_episodes(dataset, by=by, seed=seed, progress=progress)
        text = json.dumps(scores.to_json(), allow_nan=False)
        (folder / SCORE_FILE).write_text(text + "\n", encoding="utf-8")
        (folder / PAGE_FILE).write_text(render(scores, show), encoding="utf-8")
    _show_scores(scores, out)


def _show_scores(scores: Scores, out: Path) -> None:
    console = Terminal()
    # Without lines between the columns, for a terminal of 80.
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("episode", "score", "length", "return", *MEASURES):
        table.add_column(heading.replace("_", " "), justify="right", overflow="fold")
    for each in scores.ranking[:MOST_PRINTED]:
        facts = each.facts
        figures = (each.values[measure] for measure in MEASURES)
        table.add_row(
            str(facts.number),
            f"{each.score:.2f}",
            f"{facts.length:,}",
            short(facts.earned),
            *(short(value, 3) for value in figures),
        )
    console.print(table)
    for remark in scores.remarks:
        print_message(console, logging.WARNING, f"note: {remark}")
    more = len(scores.ranking) - MOST_PRINTED
    rest = f"the other {more:,} and " if more > 0 else ""
    console.print(f"{rest}all curves: {out / PAGE_FILE}", soft_wrap=True)
