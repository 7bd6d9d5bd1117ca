"""`dql train`: train a policy on a dataset."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dql_core.cli.training_bar import TrainingBar
from dql_core.config import TrainConfig
from dql_core.config_file import load_config
from dql_core.training.loop import train as run_training

INTERRUPTED = 130


def train(
    config: Annotated[
        Path, typer.Argument(help="Training configuration, for example config/train/scara.yaml.")
    ],
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
) -> None:
    """Train a policy on a dataset.

    Trains Diffusion-QL, or Diffusion-BC with --set agent=diffusion_bc.

    Ctrl-C saves a checkpoint and stops.

    'tensorboard --logdir OUT' shows the curves.
    """
    settings = _settings(config, dataset, overrides or [])
    run = out or Path("runs") / config.stem / time.strftime("%Y%m%d-%H%M%S")
    console = Console()
    with TrainingBar(settings.run.steps, settings.agent, console) as bar:
        result = run_training(settings, run, bar.report, bar.tell)
    console.print(f"checkpoint: {result.checkpoint}", soft_wrap=True, highlight=False)
    if not result.finished:
        console.print(f"interrupted after {result.step} of {settings.run.steps} updates")
        raise typer.Exit(INTERRUPTED)


def _settings(path: Path, dataset: str | None, overrides: list[str]) -> TrainConfig:
    config = load_config(path, overrides)
    source = dataset or config.data.dataset
    if Path(source).is_dir():
        # The run must find its data again from any other folder.
        source = str(Path(source).resolve()) if source else ""
    return config.model_copy(update={"data": config.data.model_copy(update={"dataset": source})})
