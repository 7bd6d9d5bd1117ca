"""`dql evaluate`: roll a policy out in a Gymnasium environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from dql_core.cli.console import evaluation_table
from dql_core.cli.terminal import Terminal
from dql_core.errors import visible
from dql_core.extras import needing
from dql_core.files import write_text
from dql_core.process import INCOMPLETE
from dql_core.training.run_files import CHECKPOINTS_FOLDER, CheckpointName

with needing("train", __name__):
    from dql_core.data.spaces import obeyed_at_once
    from dql_core.evaluation.rollout import evaluate as roll_out
    from dql_core.export.policy_source import load_any_policy


def evaluate(
    policy: Annotated[Path, typer.Argument(help="Run folder, checkpoint or bundle.")],
    env: Annotated[
        str,
        typer.Option(
            help="Gymnasium id; module:id imports a module that registers it. An MJCF file needs "
            "a contract: see 'dql closed-loop'."
        ),
    ],
    episodes: Annotated[int, typer.Option(min=1, help="Number of episodes.")] = 20,
    seed: Annotated[
        int, typer.Option(min=0, help="Episode i starts from env.reset(seed=SEED + i).")
    ] = 0,
    max_episode_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Truncate episodes after so many steps; by default after the environment's own "
            "limit.",
        ),
    ] = None,
    checkpoint: Annotated[
        CheckpointName,
        typer.Option(
            help="Which checkpoint of a run: the last, the best by its own rules, or the last "
            "before its critics diverged."
        ),
    ] = "last",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file as well.")
    ] = None,
) -> None:
    """Roll a policy out in a Gymnasium environment.

    Prints the mean return with its 95 % confidence interval.

    Prints the success rate too if the environment reports 'is_success', and which episodes
    failed because MuJoCo lost the physics.

    Exits with 0 if no episode failed so, 2 on a mistake that it names, and 3 if one did.
    """
    console = Terminal()
    loaded = load_any_policy(policy, checkpoint)
    for remark in obeyed_at_once(loaded.spec):
        console.print(visible(remark), style="yellow", soft_wrap=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("episodes", total=episodes)
        result = roll_out(
            loaded, env, episodes, seed, lambda _: bar.advance(task), max_episode_steps
        )
    is_run = (policy / CHECKPOINTS_FOLDER).is_dir()
    name = f"{policy} ({checkpoint})" if is_run else str(policy)
    console.print(evaluation_table(f"{name} in {env}", result))
    if json_file:
        source = {"policy": str(policy), "checkpoint": checkpoint, "env": env, "seed": seed}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_text(json_file, json.dumps(source | result.to_json(), indent=2) + "\n")
    if result.failures:
        raise typer.Exit(INCOMPLETE)
