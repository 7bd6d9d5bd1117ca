"""`dql evaluate`: roll a policy out in a Gymnasium environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dql_core.atomic import write_text
from dql_core.cli.facts import facts_table
from dql_core.cli.policy_source import load_any_policy
from dql_core.evaluation.confidence import Estimate
from dql_core.evaluation.rollout import EvaluationResult
from dql_core.evaluation.rollout import evaluate as roll_out


def evaluate(
    policy: Annotated[
        Path, typer.Argument(help="Run folder (its latest checkpoint), checkpoint or bundle.")
    ],
    env: Annotated[
        str, typer.Option(help="Gymnasium id; module:id imports a module that registers it.")
    ],
    episodes: Annotated[int, typer.Option(min=1, help="Number of episodes.")] = 20,
    seed: Annotated[
        int, typer.Option(min=0, help="Episode i starts from env.reset(seed=SEED + i).")
    ] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file as well.")
    ] = None,
) -> None:
    """Roll a policy out in a Gymnasium environment.

    Prints the mean return with its 95 % confidence interval.

    Prints the success rate too if the environment reports 'is_success'.
    """
    console = Console()
    loaded = load_any_policy(policy)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("episodes", total=episodes)
        result = roll_out(loaded, env, episodes, seed, lambda _: bar.advance(task))
    console.print(_table(f"{policy} in {env}", result))
    if json_file:
        summary = {"policy": str(policy), "env": env, "seed": seed, **result.to_json()}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_text(json_file, json.dumps(summary, indent=2) + "\n")


def _table(title: str, result: EvaluationResult) -> Table:
    facts: dict[str, object] = {
        "episodes": len(result.returns),
        "mean return": _with_interval(result.mean_return, ".2f"),
        "mean length": f"{sum(result.lengths) / len(result.lengths):.1f}",
    }
    if result.success_rate:
        facts["success rate"] = _with_interval(result.success_rate, ".1%")
    return facts_table(title, facts)


def _with_interval(estimate: Estimate, form: str) -> str:
    return f"{estimate.mean:{form}} (95 %: {estimate.low:{form}} to {estimate.high:{form}})"
