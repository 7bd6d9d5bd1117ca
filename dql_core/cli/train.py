"""`dql train`: train a policy on a dataset."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dql_core.cli.best import best_lines
from dql_core.cli.log_lines import log_lines, shown_on
from dql_core.cli.training_bar import TrainingBar
from dql_core.config import TrainConfig
from dql_core.config_file import load_config
from dql_core.errors import ConfigError
from dql_core.training.loop import train as run_training
from dql_core.training.run_folder import saved_config

INTERRUPTED = 130


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
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Go on with this run folder from its last checkpoint, as it began; CONFIG and "
            "the other options may be left out, and must say the same if given.",
        ),
    ] = None,
) -> None:
    """Train a policy on a dataset.

    Trains Diffusion-QL, or Diffusion-BC with --set agent=diffusion_bc.

    Ctrl-C saves a checkpoint and stops; --resume RUN goes on from there, or
    from the last checkpoint after a crash.

    'tensorboard --logdir OUT' shows the curves.
    """
    overridden = Overrides(dataset, eval_env, tuple(overrides or ()))
    settings, run = _resolve(config, overridden, out, resume)
    console = Console()
    with (
        TrainingBar(settings.run.steps, settings.agent, console) as bar,
        log_lines(shown_on(console)),
    ):
        result = run_training(settings, run, bar.report, resume=resume is not None)
    for line in best_lines(run):
        console.print(line, soft_wrap=True, highlight=False)
    if not result.finished:
        console.print(f"interrupted after {result.step} of {settings.run.steps} updates")
        raise typer.Exit(INTERRUPTED)


@dataclass(frozen=True)
class Overrides:
    """What the command line changes of a configuration.

    Attributes:
        dataset: Folder or Minari id.
        eval_env: Gymnasium id.
        values: ``section.key=value`` each.
    """

    dataset: str | None
    eval_env: str | None
    values: tuple[str, ...]


def _resolve(
    path: Path | None, overrides: Overrides, out: Path | None, resume: Path | None
) -> tuple[TrainConfig, Path]:
    """Return the configuration and the folder of the run that the command line asks for."""
    if resume is None:
        if path is None:
            raise ConfigError("name a configuration, or a run to go on with: --resume RUN")
        run = out or Path("runs") / path.stem / time.strftime("%Y%m%d-%H%M%S")
        return _settings(path, overrides), run
    if out is not None:
        raise ConfigError(f"--out {out}: --resume goes on in {resume}; leave --out away")
    if path is None:
        if overrides != Overrides(None, None, ()):
            raise ConfigError(
                "--resume goes on as the run began; leave --dataset, --eval-env and --set away, "
                "or name its CONFIG as well"
            )
        return saved_config(resume), resume
    return _settings(path, overrides), resume


def _settings(path: Path, overrides: Overrides) -> TrainConfig:
    config = load_config(path, overrides.values)
    source = overrides.dataset or config.data.dataset
    if Path(source).is_dir():
        # The run must find its data again from any other folder.
        source = str(Path(source).resolve()) if source else ""
    env = config.evaluation.env if overrides.eval_env is None else overrides.eval_env
    changes = {
        "data": config.data.model_copy(update={"dataset": source}),
        "evaluation": config.evaluation.model_copy(update={"env": env}),
    }
    return config.model_copy(update=changes)
