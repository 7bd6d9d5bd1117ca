"""Tables that several verbs print, and where they put their results by default."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from rich.text import Text

from dql_core.documents import RUN_FILE
from dql_core.spec import FieldSpec, PolicySpec

if TYPE_CHECKING:  # importing it takes a second, which a contract's table need not wait for
    from dql_core.data.dataset import Episode
    from dql_core.evaluation.rollout import EvaluationResult
    from dql_core.evaluation.statistics import Estimate

Columns = Mapping[str, NDArray[np.floating[Any]]]


def new_folder(name: str) -> Path:
    """Return ``runs/NAME/TIME``, with the local time of this second.

    Where ``runs/NAME`` is a run itself, it is ``runs/NAME-TIME``: no run is within another.
    """
    folder, now = Path("runs") / name, time.strftime("%Y%m%d-%H%M%S")
    return Path(f"{folder}-{now}") if (folder / RUN_FILE).is_file() else folder / now


def facts_table(title: str, facts: Mapping[str, object]) -> Table:
    """Show labelled facts, one a line and a tuple's lines one below the other; no empty one."""
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in facts.items():
        lines = value if isinstance(value, tuple) else (value,)
        for place, line in enumerate(line for line in lines if line != ""):
            table.add_row("" if place else label, str(line))
    return table


def plain_table(*headings: str) -> Table:
    """Return an empty table that folds long words and never cuts them."""
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def spec_facts(spec: PolicySpec) -> dict[str, object]:
    """Facts of a spec beside its fields."""
    return {
        "robot": spec.robot,
        "control rate": f"{spec.rate_hz:g} Hz" if spec.rate_hz else "unknown (no contract)",
        "contract": spec.contract_hash[:12] or "none",
    }


def episodes_facts(episodes: Sequence[Episode]) -> dict[str, object]:
    """Facts of a dataset's episodes beside their numbers."""
    terminated = sum(episode.terminated for episode in episodes)
    truncated = len(episodes) - terminated
    return {
        "episodes": f"{len(episodes):,} ({terminated} terminated, {truncated} truncated)",
        "transitions": f"{sum(map(len, episodes)):,}",
    }


def fields_table(
    spec: PolicySpec, observation: Columns | None = None, action: Columns | None = None
) -> Table:
    """Show the fields of a spec, with further columns where there are any.

    Args:
        spec: The fields.
        observation: One number for each observation field, shape (O,), by column.
        action: One number for each action field, shape (A,), by column.
    """
    columns = list(dict.fromkeys([*(observation or {}), *(action or {})]))
    # Without lines between the columns, and so with room for four numbers on a terminal of 80.
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("field", overflow="fold", min_width=len("observation"))
    for heading in ("unit", "bounds"):
        table.add_column(heading, overflow="fold")
    for name in columns:
        table.add_column(name, no_wrap=True)
    for kind, fields, numbers in (
        ("observation", spec.observation, observation or {}),
        ("action", spec.action, action or {}),
    ):
        table.add_row(Text(kind, "bold"))
        for index, field in enumerate(fields):
            row = [f"{numbers[name][index]:.4g}" if name in numbers else "" for name in columns]
            table.add_row(f"{index} {field.name}", field.unit, _bounds(field), *row)
        table.add_section()
    return table


def _bounds(field: FieldSpec) -> str:
    if np.isinf(field.low) and np.isinf(field.high):
        return "none"
    return f"{field.low:g} to {field.high:g}"


def evaluation_table(title: str, result: EvaluationResult) -> Table:
    """Show means with their 95 % intervals."""
    facts: dict[str, object] = {
        "episodes": len(result.returns),
        "mean return": (
            _with_interval(result.mean_return, ".2f")
            if any(result.returns)
            else "0.00 (no episode earned a reward)"
        ),
        "mean length": f"{sum(result.lengths) / len(result.lengths):.1f}",
    }
    if result.success_rate:
        facts["success rate"] = _with_interval(result.success_rate, ".1%")
    if result.failures:
        more = f" (the first of {len(result.failures)})" if len(result.failures) > 1 else ""
        facts["failed"] = f"{result.failures[0]}{more}"
    return facts_table(title, facts)


def _with_interval(estimate: Estimate, form: str) -> str:
    if math.isinf(estimate.low):
        return f"{estimate.mean:{form}} (1 episode)"  # which says nothing of others
    return f"{estimate.mean:{form}} (95 %: {estimate.low:{form}} to {estimate.high:{form}})"
