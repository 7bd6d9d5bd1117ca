"""`dql import`: turn another library's data into a Minari dataset."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from dql_core.cli.console import episodes_facts, facts_table, fields_table
from dql_core.cli.terminal import Terminal, print_message
from dql_core.data.importers.formats import FileFormat
from dql_core.errors import ConfigError
from dql_core.extras import needing

with needing("convert", __name__):
    from dql_core.data.importers.importing import ImportResult, import_file


def import_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The file, or the dataset's folder; never a pickle."),
    ],
    file_format: Annotated[
        FileFormat,
        typer.Option(
            "--format",
            help="d3rlpy: an MDPDataset of d3rlpy 1.x (.h5). d4rl: D4RL's .hdf5. npz: "
            "trajectories of the imitation library, or experts of Stable Baselines. lerobot: "
            "the folder of a LeRobot dataset, v2.0 to v3.0. robomimic: its .hdf5. zarr: a "
            "replay buffer of the Diffusion Policy family, a folder or a zip. minari: a Minari "
            "dataset whose actions have no bounds, to give it some.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the dataset to make.")],
    time_limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Steps after which the environment cuts an episode off. A termination after so "
            "many steps is then a truncation: its value goes on. Where FILE does not say where "
            "episodes end, they end there.",
        ),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(help="Gymnasium id of the environment, for its spaces and action bounds."),
    ] = None,
    low: Annotated[
        str | None,
        typer.Option(
            metavar="X[,X...]",
            help="Lower bounds of the actions, one for all or one for each. Without --env, --low "
            "and --high the bounds are the extremes of the data.",
        ),
    ] = None,
    high: Annotated[
        str | None, typer.Option(metavar="X[,X...]", help="Upper bounds of the actions.")
    ] = None,
    observations: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,NAME...]",
            help="lerobot, robomimic, zarr: what makes an observation, in this order; by default "
            "observation.state, all rows of floats in obs, or data/state or data/obs.",
        ),
    ] = None,
) -> None:
    """Turn another library's data into a Minari dataset.

    Terminations stop the value, time limits do not: see --time-limit.

    Example: dql import pendulum.npz --format npz --time-limit 200
    --env Pendulum-v1 --out data/pendulum
    """
    result = import_file(
        file,
        file_format,
        out,
        time_limit=time_limit,
        env_id=env,
        low=_numbers("--low", low),
        high=_numbers("--high", high),
        observations=observations.split(",") if observations else (),
    )
    _show(result, out)


def _numbers(option: str, text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(number) for number in text.split(",")]
    except ValueError as cause:
        raise ConfigError(
            f"{option} is '{text}'; give numbers between commas, such as {option}=-1,-0.5"
        ) from cause


def _show(result: ImportResult, out: Path) -> None:
    console = Terminal()
    facts = episodes_facts(result.episodes)
    if result.has_rewards:
        returns = [float(episode.rewards.sum()) for episode in result.episodes]
        facts["mean return"] = f"{np.mean(returns):.4f}"
    console.print(facts_table(f"dataset {out}", facts))
    console.print(fields_table(result.spec))
    for note in result.notes:
        print_message(console, logging.WARNING, f"note: {note}")
