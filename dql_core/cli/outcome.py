"""How the command line tells and keeps what a policy's episodes came to."""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table

from dql_core.atomic import write_text
from dql_core.cli.facts import facts_table
from dql_core.evaluation.confidence import Estimate
from dql_core.evaluation.rollout import EvaluationResult


def outcome_table(title: str, result: EvaluationResult) -> Table:
    """Show means with their 95 % intervals."""
    facts: dict[str, object] = {
        "episodes": len(result.returns),
        "mean return": _with_interval(result.mean_return, ".2f"),
        "mean length": f"{sum(result.lengths) / len(result.lengths):.1f}",
    }
    if result.success_rate:
        facts["success rate"] = _with_interval(result.success_rate, ".1%")
    return facts_table(title, facts)


def write_outcome(
    path: Path,
    result: EvaluationResult,
    *,
    policy: Path,
    env: str,
    seed: int,
    checkpoint: str = "",
) -> None:
    """Write the figures, and what they are of, as JSON; the file appears whole or not at all."""
    source = {"policy": str(policy)} | ({"checkpoint": checkpoint} if checkpoint else {})
    summary = {**source, "env": env, "seed": seed, **result.to_json()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(summary, indent=2) + "\n")


def _with_interval(estimate: Estimate, form: str) -> str:
    return f"{estimate.mean:{form}} (95 %: {estimate.low:{form}} to {estimate.high:{form}})"
