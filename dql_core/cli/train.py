"""`dql train`: train a policy on a dataset.

From what `dql train` is asked for to the configuration that it runs.

Where a verb puts its results unless it is told where.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from dql_core.cli.console import TrainingBars, best_lines
from dql_core.cli.terminal import ConsoleLines, Terminal
from dql_core.cli.train_seeds import train_seeds
from dql_core.config import TrainConfig, load_config
from dql_core.errors import ConfigError
from dql_core.process import INTERRUPTED, log_lines
from dql_core.training.loop import train as run_training
from dql_core.training.multi_seed import (
    create_seed_folder,
    is_seed_folder,
    parse_seeds,
    read_seed_folder,
    seed_runs,
)
from dql_core.training.saved_config import require_equal, saved_config


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


@dataclass(frozen=True)
class Request:
    """What the command line says of the configuration.

    Attributes:
        config: Configuration file.
        dataset: Folder or Minari id, instead of the file's.
        eval_env: Gymnasium id, instead of the file's.
        overrides: ``section.key=value`` each.
    """

    config: Path | None
    dataset: str | None
    eval_env: str | None
    overrides: tuple[str, ...]


def settings(request: Request) -> TrainConfig:
    """Return the configuration of a new run.

    Raises:
        ConfigError: If none is named or it is wrong.
    """
    if request.config is None:
        raise ConfigError("name a configuration, or a run to go on with: --resume RUN")
    config = load_config(request.config, request.overrides)
    source = request.dataset or config.data.dataset
    if Path(source).is_dir():
        # The run must find its data again from any other folder.
        source = str(Path(source).resolve()) if source else ""
    env = config.evaluation.env if request.eval_env is None else request.eval_env
    changes = {
        "data": config.data.model_copy(update={"dataset": source}),
        "evaluation": config.evaluation.model_copy(update={"env": env}),
    }
    return config.model_copy(update=changes)


def continued_settings(run: Path, request: Request) -> TrainConfig:
    """Return the configuration of a run that goes on.

    Raises:
        CheckpointError: If ``run`` is no run.
        ConfigError: If the command line says anything else than it said when the run began.
    """
    return _unchanged(run, saved_config(run), request)


def continued_seeds(
    folder: Path, request: Request, seeds: str | None
) -> tuple[TrainConfig, tuple[int, ...]]:
    """Return configuration and seeds of several runs that go on.

    Raises:
        CheckpointError: If ``folder`` does not hold several runs.
        ConfigError: If the command line says anything else than it said when they began.
    """
    began, began_seeds = read_seed_folder(folder)
    if seeds is not None and parse_seeds(seeds) != began_seeds:
        said = ",".join(map(str, began_seeds))
        raise ConfigError(f"{folder}: began with --seeds {said} and cannot go on with {seeds}")
    return _unchanged(folder, began, request), began_seeds


def _unchanged(folder: Path, began: TrainConfig, request: Request) -> TrainConfig:
    env = began.evaluation.env
    if request.config is not None:
        require_equal(folder, began, settings(request))
    elif request not in (Request(None, None, None, ()), Request(None, None, env, ())):
        raise ConfigError(
            "--resume goes on as the run began; leave --dataset, --eval-env and --set away, or "
            "name its CONFIG as well"
        )
    elif ":" in env and request.eval_env is None:
        # A run may be somebody else's, and only what the user says may name code.
        raise ConfigError(
            f"{folder}: was begun with the environment '{env}', for which the module "
            f"'{env.partition(':')[0]}' would be imported; if you trust it, say so again: "
            f"--eval-env {env}"
        )
    return began


def new_folder(name: str) -> Path:
    """Return ``runs/NAME/TIME``, with the local time of this second."""
    return Path("runs") / name / time.strftime("%Y%m%d-%H%M%S")
