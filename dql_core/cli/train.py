"""`dql train`: train a policy on a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dql_core.cli.best import best_lines
from dql_core.cli.new_folder import new_folder
from dql_core.cli.terminal import ConsoleLines, Terminal
from dql_core.cli.train_seeds import INTERRUPTED, train_seeds
from dql_core.cli.train_settings import Request, continued_seeds, continued_settings, settings
from dql_core.cli.training_bar import TrainingBars
from dql_core.config import TrainConfig
from dql_core.errors import ConfigError
from dql_core.training.log_lines import log_lines
from dql_core.training.loop import train as run_training
from dql_core.training.seed_folder import (
    create_seed_folder,
    is_seed_folder,
    parse_seeds,
    seed_runs,
)


def train(
    config: Annotated[
        Path | None,
        typer.Argument(help="Training configuration, for example config/train/scara.yaml."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Dataset folder or Minari id; overrides data.dataset of CONFIG."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder: configuration, metrics, TensorBoard events and checkpoints. Must be "
            "new or empty. By default runs/CONFIG/TIME."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override one key of CONFIG, such as run.steps=2000 or policy.eta=2; repeatable.",
        ),
    ] = None,
    eval_env: Annotated[
        str | None,
        typer.Option(
            "--eval-env",
            metavar="ID",
            help="Gymnasium id (module:id imports a module that registers it): roll every "
            "checkpoint out there and tell the best one as best_online. Overrides evaluation.env.",
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="0,1,2",
            help="Train once with each of these seeds, at most one a core and each on one "
            "thread, in OUT/seed-0 and so on; ends with the means over the seeds.",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Go on with this folder of a run, or of several seeds, from the last "
            "checkpoint that is whole, as it began. CONFIG and the other options may be left out; "
            "if given, they must say what they said then. Only an --eval-env that imports a "
            "module must be given again.",
        ),
    ] = None,
) -> None:
    """Train a policy on a dataset.

    Trains Diffusion-QL, or what --set agent=... names.

    Ctrl-C saves a checkpoint and stops; --resume RUN goes on from there, or
    from the last checkpoint after a crash.

    'tensorboard --logdir OUT' shows the curves.
    """
    request = Request(config, dataset, eval_env, tuple(overrides or ()))
    console = Terminal()
    if resume is not None:
        if out is not None:
            raise ConfigError(f"--out {out}: --resume goes on in {resume}; leave --out away")
        if seeds is not None or is_seed_folder(resume):
            began, wanted = continued_seeds(resume, request, seeds)
            train_seeds(resume, seed_runs(resume, began, wanted), console)
        else:
            _train_one(continued_settings(resume, request), resume, console, resume=True)
        return
    configured, folder = settings(request), out or new_folder(config.stem if config else "")
    if seeds is None:
        _train_one(configured, folder, console, resume=False)
    else:
        wanted = parse_seeds(seeds)
        create_seed_folder(folder, configured, wanted)
        train_seeds(folder, seed_runs(folder, configured, wanted), console)


def _train_one(config: TrainConfig, run: Path, console: Terminal, *, resume: bool) -> None:
    with TrainingBars(config.run.steps, console) as bars, log_lines(ConsoleLines(console)):
        result = run_training(config, run, bars.add(config.agent, run), resume=resume)
    for line in best_lines(run):
        console.print(line, soft_wrap=True, highlight=False)
    if not result.finished:
        console.print(f"interrupted after {result.step} of {config.run.steps} updates")
        raise typer.Exit(INTERRUPTED)
