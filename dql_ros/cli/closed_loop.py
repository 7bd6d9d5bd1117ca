"""`dql closed-loop`: drive the simulated robot over ROS 2 topics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from dql_core.cli.outcome import outcome_table, write_outcome
from dql_core.evaluation.rollout import EvaluationResult
from dql_ros.closed_loop import policy_driver, run_closed_loop
from dql_ros.simulation import BUNDLED_ENVIRONMENT, EpisodeResult


def closed_loop(
    bundle: Annotated[Path, typer.Argument(help="Folder of the policy bundle.")],
    contract: Annotated[
        Path, typer.Option("--contract", help="Robot contract (yaml) that it was trained with.")
    ],
    episodes: Annotated[int, typer.Option("--episodes", min=1, help="Number of episodes.")] = 20,
    env: Annotated[
        str,
        typer.Option(
            "--env",
            help="Gymnasium id of the simulated robot; module:id imports a module that registers "
            "it. Its observation and action vectors must be the contract's.",
        ),
    ] = BUNDLED_ENVIRONMENT,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            min=0,
            help="Episode i starts from env.reset(seed=SEED + i).",
        ),
    ] = 0,
    candidates: Annotated[
        int | None,
        typer.Option(
            "--candidates", min=1, help="Actions sampled to choose from; default: the bundle's."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file as well.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", help="Record all topics into this folder (rosbag2, MCAP)."),
    ] = None,
) -> None:
    """Drive a simulated robot over ROS 2 topics and tell how often it succeeds.

    Simulation bridge and policy node run as two processes, in lockstep: the simulation waits for
    each command, so that a run is reproducible and as fast as the machine. With equal seeds the
    result is that of 'dql evaluate'. The processes have a ROS domain of their own on the loopback
    interface and are ended in any case.

    Example: dql closed-loop runs/demo/bundles/diffusion_ql --contract
    config/contracts/scara.yaml
    """
    console = Console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("episodes", total=episodes)
        results = run_closed_loop(
            contract,
            policy_driver(bundle, seed=seed, num_candidates=candidates),
            episodes=episodes,
            env=env,
            seed=seed,
            record=record,
            on_episode=lambda _: bar.advance(task),
        )
    result = summarize(results)
    console.print(outcome_table(f"{bundle} over topics", result))
    if json_file:
        write_outcome(json_file, result, policy=bundle, env=env, seed=seed)


def summarize(results: Sequence[EpisodeResult]) -> EvaluationResult:
    """Return the outcome of episodes over topics in the form of one in-process rollout."""
    return EvaluationResult(
        returns=tuple(result.return_ for result in results),
        lengths=tuple(result.length for result in results),
        successes=tuple(result.success for result in results if result.success is not None),
    )
