"""`dql train`: train a policy on a dataset."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

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
    settings, run = _resolve(config, dataset, out, overrides or [], resume)
    console = Console()
    with (
        TrainingBar(settings.run.steps, settings.agent, console) as bar,
        log_lines(shown_on(console)),
    ):
        result = run_training(settings, run, bar.report, resume=resume is not None)
    console.print(f"checkpoint: {result.checkpoint}", soft_wrap=True, highlight=False)
    if not result.finished:
        console.print(f"interrupted after {result.step} of {settings.run.steps} updates")
        raise typer.Exit(INTERRUPTED)


def _resolve(
    path: Path | None,
    dataset: str | None,
    out: Path | None,
    overrides: list[str],
    resume: Path | None,
) -> tuple[TrainConfig, Path]:
    """Return the configuration and the folder of the run that the command line asks for."""
    if resume is None:
        if path is None:
            raise ConfigError("name a configuration, or a run to go on with: --resume RUN")
        run = out or Path("runs") / path.stem / time.strftime("%Y%m%d-%H%M%S")
        return _settings(path, dataset, overrides), run
    if out is not None:
        raise ConfigError(f"--out {out}: --resume goes on in {resume}; leave --out away")
    if path is None:
        if dataset is not None or overrides:
            raise ConfigError("--resume goes on as the run began; leave --dataset and --set away")
        return saved_config(resume), resume
    return _settings(path, dataset, overrides), resume


def _settings(path: Path, dataset: str | None, overrides: list[str]) -> TrainConfig:
    config = load_config(path, overrides)
    source = dataset or config.data.dataset
    if Path(source).is_dir():
        # The run must find its data again from any other folder.
        source = str(Path(source).resolve()) if source else ""
    return config.model_copy(update={"data": config.data.model_copy(update={"dataset": source})})
