"""`dql judge`: say by held-out episodes which policy is better than what was recorded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.progress import BarColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dql_core.cli.terminal import TaskText, Terminal
from dql_core.data.dataset import load_datasets
from dql_core.errors import ConfigError, visible
from dql_core.evaluation.offline.judging import (
    Judged,
    Judgement,
    Report,
    RequiredVerdict,
    meets,
)
from dql_core.evaluation.offline.judging import (
    judge as judge_policies,
)
from dql_core.evaluation.offline.verdict import WORDS
from dql_core.evaluation.statistics import Estimate
from dql_core.export.candidates import ALL, Policies, held_out_episodes
from dql_core.files import atomic_directory
from dql_core.process import CHECK_FAILED

JUDGE_FILE = "judge.json"
_STYLES = {"better": "green", "worse": "red", "no verdict": "yellow", "not distinguishable": ""}


def judge(
    policies: Annotated[
        list[Path],
        typer.Argument(metavar="POLICY...", help="Run folders, checkpoints and bundles."),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for judge.json. Must be new or empty.")
    ],
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            help="Episodes to judge by, folder or Minari id, repeatable; best those that nothing "
            "was trained on. Default: those that the first run held out.",
        ),
    ] = None,
    checkpoints: Annotated[
        str,
        typer.Option(
            help="Which checkpoints of each run: all, or steps and names (last, best_offline, "
            "best_online, last_healthy) with commas between them."
        ),
    ] = ALL,
    discount: Annotated[
        float | None,
        typer.Option(
            help="Weight of a reward that is one step later, below 1. Default: the largest that "
            "one of the policies was trained with."
        ),
    ] = None,
    require: Annotated[
        RequiredVerdict | None,
        typer.Option(
            help="Exit with 1 unless the policy to take is better than the data, or not worse."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seeds all that is random.")] = 0,
) -> None:
    """Say by held-out episodes which policy is better than what was recorded, before it moves.

    Estimates what each policy is worth by fitted Q evaluation, with an interval,
    beside what was recorded; compares its actions with the recorded ones; and
    says which checkpoint to take and what speaks against it. Values are
    discounted returns from the first states of the episodes.

    Writes DIR/judge.json. Without simulator and robot this is an estimate: it
    does not see what happens where nobody has been. It is young: no benchmark
    says yet how often it is right.

    Example: dql judge runs/arm --out runs/arm/judge
    """
    console = Terminal()
    # Before minutes of work: whether it can be written.
    with atomic_directory(out, error=ConfigError) as folder:
        found = Policies(policies, checkpoints)
        episodes = load_datasets(dataset) if dataset else held_out_episodes(policies)
        weight = max(found.discounts) if discount is None else discount
        with _bar(console) as report:
            judgement = judge_policies(
                found.for_episodes(episodes), episodes, weight, seed=seed, report=report
            )
        text = json.dumps(judgement.to_json(), allow_nan=False)
        (folder / JUDGE_FILE).write_text(text + "\n", encoding="utf-8")
    _show(console, judgement)
    console.print(Text.assemble(("judged", "green"), visible(f" {out / JUDGE_FILE}")))
    if require and not meets(judgement, require):
        raise typer.Exit(CHECK_FAILED)


@contextmanager
def _bar(console: Terminal) -> Iterator[Report]:
    """Show how far the judgement is; each stage has a bar of its own."""
    columns = (TaskText(), BarColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        tasks = {}

        def report(stage: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=1.0)
            bars.update(tasks[stage], completed=share)

        yield report


def _show(console: Terminal, judgement: Judgement) -> None:
    """Print one line a policy, then the one to take and what speaks against it."""
    names = short_names([each.candidate.name for each in judgement.judged])
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("policy", overflow="fold")
    for heading in ("value", "95 %", "better"):
        table.add_column(heading, no_wrap=True, justify="right")
    table.add_column("verdict", no_wrap=True)
    behaviour = judgement.behaviour
    table.add_row("the data", *_figures(behaviour.value), "", "")
    for name, each in zip(names, judgement.judged, strict=True):
        worth = each.worth
        sure = "" if worth.probability is None else f"{worth.probability:.0%}"
        verdict = Text(WORDS[worth.verdict], _STYLES[worth.verdict])
        table.add_row(name, *_figures(worth.value), sure, verdict)
    console.print(table)
    basis = (
        f"discounted returns ({judgement.discount:g}) from the first states of "
        f"{judgement.episodes} episodes, {judgement.transitions:,} transitions of "
        f"{judgement.source}"
    )
    console.print(basis, soft_wrap=True)
    for remark in judgement.remarks:
        console.print(Text(visible(remark), "yellow"), soft_wrap=True)
    _recommend(console, judgement.best, judgement)


def _recommend(console: Terminal, best: Judged | None, judgement: Judgement) -> None:
    if best is None:
        console.print(Text("take none: no policy has a verdict", "yellow"))
        reasons = list(
            dict.fromkeys(reason for each in judgement.judged for reason in each.objections)
        )
    else:
        line = f" {best.candidate.name}: {WORDS[best.worth.verdict]}"
        console.print(Text.assemble(("take", "bold"), visible(line)), soft_wrap=True)
        reasons = best.objections
    for reason in reasons:
        console.print(f"  against it: {reason}", soft_wrap=True)


def _figures(estimate: Estimate | None) -> tuple[str, str]:
    if estimate is None:
        return "", ""
    return f"{estimate.mean:.4g}", f"{estimate.low:.4g} to {estimate.high:.4g}"


def short_names(names: Sequence[str]) -> list[str]:
    """Return paths without the folders that they have in common, nor a run's own."""
    common = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""
    return [os.path.relpath(name, common or ".").replace("checkpoints/", "") for name in names]
