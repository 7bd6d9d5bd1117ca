"""`dql train`: train a policy on a dataset, once or with several seeds."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer
from rich.console import Console

from dql_core.cli.console import new_folder
from dql_core.cli.terminal import ConsoleLines, Terminal
from dql_core.cli.training_bars import SeedLines, TrainingBars, best_lines, figures_table
from dql_core.cli.training_settings import Request, settings
from dql_core.config import TrainConfig
from dql_core.errors import ConfigError, DqlError
from dql_core.extras import needing
from dql_core.files import write_text
from dql_core.process import INTERRUPTED, log_lines

with needing("train", __name__):
    from dql_core.algo.ranks import is_follower, starts_several
    from dql_core.data.dataset import LoadedDataset, load_datasets
    from dql_core.training.derived import DERIVED_FILE, derive
    from dql_core.training.loop import train as run_training
    from dql_core.training.multi_seed import (
        SUMMARY_FILE,
        SeedRun,
        cores,
        create_seed_folder,
        is_seed_folder,
        parse_seeds,
        read_seed_folder,
        run_seeds,
        seed_runs,
        summarize,
    )
    from dql_core.training.run_folder import require_new
    from dql_core.training.saved_config import require_equal, saved_config
    from dql_core.training.seeds_on_ray import run_seeds_on_cluster


def train(
    config: Annotated[
        Path | None,
        typer.Argument(
            help="Training configuration, for example config/train/imitate.yaml. Without one, it "
            "is derived from the data; RUN/derived.yaml says it, with the reasons."
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="Dataset folder or Minari id; overrides data.dataset of CONFIG. Repeatable: the "
            "fields of all must mean the same, limits and other keys of the contract may differ."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder: configuration, metrics, TensorBoard events and checkpoints. Must be "
            "new or empty. By default runs/CONFIG/TIME, or runs/DATASET/TIME."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set one key, whatever CONFIG or the data say, such as run.steps=2000 or "
            "policy.eta=2; repeatable.",
        ),
    ] = None,
    eval_env: Annotated[
        str | None,
        typer.Option(
            "--eval-env",
            metavar="ID",
            help="Gymnasium id (module:id imports a module that registers it): roll every "
            "checkpoint out there, and report the best one as best_online. Overrides "
            "evaluation.env.",
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
    init_from: Annotated[
        Path | None,
        typer.Option(
            "--init-from",
            metavar="RUN",
            help="Begin with the weights of this run's last checkpoint, or of this checkpoint, "
            "instead of random ones; overrides init.run. Without CONFIG, all settings but those "
            "of the data are RUN's. Observations are normalised as there, or by the new data "
            "with --set init.normalizer=refitted; data.ratio and data.weights mix old data and "
            "new.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="With several seeds: train them on a Ray cluster, host:port, auto, or local for "
            "one on this machine alone. Data and OUT must lie on a file system that its machines "
            "share.",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Resume the run, or the runs of several seeds, in this folder, from the last "
            "checkpoint that is whole, as it began. CONFIG and the other options may be left out; "
            "if given, they must say what they said then. Only an --eval-env that imports a "
            "module must be given again.",
        ),
    ] = None,
) -> None:
    """Train a policy on a dataset.

    Trains Diffusion-QL, or what --set agent=... names. Without CONFIG, sizes
    and scales are derived from the data, and each is shown with its reason.

    Ctrl-C saves a checkpoint and stops; --resume RUN continues from there, or
    from the last checkpoint after a crash.

    'tensorboard --logdir OUT' shows the curves.

    Under torchrun, all processes train one run together.
    """
    said = config, tuple(dataset or ()), eval_env, tuple(overrides or ())
    request = Request(*said, init_from)
    console = Terminal(quiet=is_follower())
    if resume is not None:
        if out is not None:
            raise ConfigError(f"--out {out}: --resume continues {resume}; leave --out away")
        if seeds is not None or is_seed_folder(resume):
            _require_alone()
            began, wanted = _continued_seeds(resume, request, seeds)
            train_seeds(resume, seed_runs(resume, began, wanted), console, ray)
        else:
            _require_seeds(ray)
            unchanged = _unchanged(resume, saved_config(resume), request)
            _train_one(unchanged, resume, console, resume=True)
        return
    if seeds is None:
        _require_seeds(ray)
    _train_new(request, out, seeds, console, ray)


def _require_seeds(ray: str | None) -> None:
    """Refuse a cluster for a single run."""
    if ray is not None:
        raise ConfigError(
            f"--ray {ray}: a single run is trained here; give --seeds 0,1,2 to train several there"
        )


def _train_new(
    request: Request, out: Path | None, seeds: str | None, console: Terminal, ray: str | None
) -> None:
    wanted = None if seeds is None else parse_seeds(seeds)
    config, files = settings(request), dict[str, str]()
    if wanted is not None:
        _require_alone()
    elif out is None and starts_several():
        raise ConfigError("torchrun's processes need one folder: name it with --out RUN")
    folder = out or new_folder(
        request.config.stem if request.config else Path(config.data.datasets[0]).name
    )
    if not is_follower():
        require_new(folder)
    dataset = None
    if request.config is None and request.init_from is None:
        # Several seeds load it again, each in a process of its own, and report then.
        with log_lines(ConsoleLines(console) if wanted is None else logging.NullHandler()):
            dataset = load_datasets(config.data.datasets, tuple(config.data.weights))
        config, files = _derived(dataset, config, folder, console)
    if wanted is None:
        _train_one(config, folder, console, files=files, dataset=dataset)
    else:
        del dataset  # each run holds its own
        create_seed_folder(folder, config, wanted, files)
        train_seeds(folder, seed_runs(folder, config, wanted), console, ray)


def _require_alone() -> None:
    """Refuse several seeds where several processes are to train one run together."""
    if starts_several():
        raise ConfigError(
            "torchrun's processes train one run together: start 'dql train' without torchrun for "
            "several seeds, each of which gets a process of its own"
        )


def _derived(
    dataset: LoadedDataset, stated: TrainConfig, folder: Path, console: Terminal
) -> tuple[TrainConfig, dict[str, str]]:
    """Show what is derived from the data; return it, and the file that says so."""
    derivation = derive(dataset, stated)
    lines = [f"derived from {derivation.data}:", *(f"  {each}" for each in derivation.choices)]
    lines.append(
        f"{folder / DERIVED_FILE} has all this: edit it and give it to 'dql train', or use --set"
    )
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
    return derivation.config, {DERIVED_FILE: derivation.to_yaml()}


def _train_one(
    config: TrainConfig,
    run: Path,
    console: Terminal,
    *,
    resume: bool = False,
    files: Mapping[str, str] | None = None,
    dataset: LoadedDataset | None = None,
) -> None:
    with TrainingBars(config.run.steps, console) as bars, log_lines(ConsoleLines(console)):
        report = bars.add(config.agent, run)
        result = run_training(config, run, report, resume=resume, files=files, dataset=dataset)
    for line in best_lines(run):
        console.print(line, soft_wrap=True, highlight=False)
    if not result.finished:
        console.print(f"interrupted after {result.step} of {config.run.steps} updates")
        raise typer.Exit(INTERRUPTED)


def _continued_seeds(
    folder: Path, request: Request, seeds: str | None
) -> tuple[TrainConfig, tuple[int, ...]]:
    """Return configuration and seeds of several runs that go on."""
    began, began_seeds = read_seed_folder(folder)
    if seeds is not None and parse_seeds(seeds) != began_seeds:
        said = ",".join(map(str, began_seeds))
        raise ConfigError(f"{folder}: began with --seeds {said} and cannot continue with {seeds}")
    return _unchanged(folder, began, request), began_seeds


def _unchanged(folder: Path, began: TrainConfig, request: Request) -> TrainConfig:
    """Return the configuration of a run that goes on; refuse a command line that differs."""
    env = began.evaluation.env
    if request.config is not None:
        require_equal(folder, began, settings(request))
    elif request not in (Request(), Request(eval_env=env)):
        raise ConfigError(
            "--resume continues as the run began; leave --dataset, --eval-env, --init-from and "
            "--set away, or name its CONFIG as well"
        )
    elif ":" in env and request.eval_env is None:
        # A run may be somebody else's, and only what the user says may name code.
        raise ConfigError(
            f"{folder}: was begun with the environment '{env}', for which the module "
            f"'{env.partition(':')[0]}' would be imported; if you trust it, say so again: "
            f"--eval-env {env}"
        )
    return began


def train_seeds(
    folder: Path, runs: Sequence[SeedRun], console: Console, ray: str | None = None
) -> None:
    """Run all, here or on a Ray cluster; show their figures and write them to ``summary.json``.

    Raises:
        DqlError: Naming the seeds that failed, after the figures of the others.
        typer.Exit: After a Ctrl-C.
    """
    with TrainingBars(runs[0].config.run.steps, console) as bars:
        lines = SeedLines(runs, bars, console)
        if ray is None:
            failures = run_seeds(runs, lines, cores())
        else:
            failures = run_seeds_on_cluster(runs, lines, ray)
    if len(failures) < len(runs):
        again = "" if ray is None else f" --ray {ray}"
        console.print(
            f"interrupted; resume with: dql train --resume {quote(str(folder))}{again}",
            soft_wrap=True,
        )
        raise typer.Exit(INTERRUPTED)
    failed = {seed: failure for seed, failure in failures.items() if failure}
    figures = summarize({run.seed: run.out for run in runs if run.seed not in failed})
    document = {
        "seeds": list(failures),
        "failed": {str(seed): failure for seed, failure in failed.items()},
        "figures": {name: figure.to_json() for name, figure in figures.items()},
    }
    write_text(folder / SUMMARY_FILE, json.dumps(document, indent=2) + "\n")
    if figures:
        console.print(figures_table(str(folder), figures))
    if failed:
        reasons = "; ".join(f"seed {seed}: {reason}" for seed, reason in failed.items())
        raise DqlError(f"{len(failed)} of {len(runs)} seeds failed: {reasons}")
