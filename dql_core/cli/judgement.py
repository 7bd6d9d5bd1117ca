"""What `dql judge` shows of a judgement: how far it is, the files, and what is printed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich import box
from rich.progress import BarColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dql_core.cli.console import facts_table
from dql_core.cli.terminal import TaskText, Terminal
from dql_core.data.dataset import LoadedDataset
from dql_core.errors import counted, visible
from dql_core.evaluation.offline.judging import Judged, Judgement, Report, judge
from dql_core.evaluation.offline.page import render, short_names
from dql_core.evaluation.offline.shadow import ShadowFindings
from dql_core.evaluation.offline.verdict import WORDS
from dql_core.evaluation.statistics import Estimate
from dql_core.export.candidates import Policies

JUDGE_FILE, PAGE_FILE = "judge.json", "judge.html"
_STYLES = {"better": "green", "worse": "red", "no verdict": "yellow", "not distinguishable": ""}


def judge_policies(
    console: Terminal,
    found: Policies,
    episodes: LoadedDataset,
    discount: float | None,
    seed: int,
) -> Judgement:
    """Judge policies by episodes, and show how far it is.

    Args:
        console: Where.
        found: The policies.
        episodes: What they are judged by.
        discount: Of the values; by default the largest that one of them was trained with.
        seed: Of all that is random.

    Raises:
        DqlError: As `judge` does.
    """
    weight = max(found.discounts) if discount is None else discount
    with _bar(console) as report:
        return judge(found.for_episodes(episodes), episodes, weight, seed=seed, report=report)


def write_judgement(folder: Path, document: Mapping[str, Any]) -> None:
    """Write a judgement's JSON, and its page beside it, into an empty folder."""
    text = json.dumps(document, allow_nan=False)
    (folder / JUDGE_FILE).write_text(text + "\n", encoding="utf-8")
    (folder / PAGE_FILE).write_text(render(document), encoding="utf-8")


@contextmanager
def _bar(console: Terminal) -> Iterator[Report]:
    """Show how far the judgement is: a bar for each stage, or its name where nobody watches."""
    columns = (TaskText(), BarColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        tasks = {}

        def report(stage: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=1.0)
                if not console.is_terminal:
                    console.print(stage)
            bars.update(tasks[stage], completed=share)

        yield report


def show_judgement(console: Terminal, judgement: Judgement) -> None:
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


def show_shadow(console: Terminal, shadow: ShadowFindings) -> None:
    """Print how far a policy in shadow mode was from who drove, and what speaks against it."""
    found = shadow.agreement
    where = counted(found.episodes, "episode")
    facts: dict[str, object] = {
        "compared": f"{found.steps:,} of {counted(shadow.steps, 'step')}, in {where}",
        "distance": f"{found.chosen:.2f} spreads",
    }
    for field in found.fields:
        far = f"{field.chosen:.4g} {field.unit}".rstrip()
        facts[f"  {field.name}"] = f"{far} (spread {field.spread:.4g})"
    facts["jerk"] = f"{found.jerk_ratio:.2f} times the driver's"
    if shadow.far_share is not None:
        facts["far share"] = f"{shadow.far_share:.0%}"
    facts |= {name: f"{count} (counted by the node)" for name, count in shadow.reported.items()}
    console.print(facts_table("shadow commands beside those that were sent", facts))
    for remark in shadow.remarks:
        console.print(Text(visible(remark), "yellow"), soft_wrap=True)
    for reason in shadow.objections:
        console.print(f"  against it: {reason}", soft_wrap=True)
