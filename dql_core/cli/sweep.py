"""`dql sweep`: search for a better configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer
from pydantic import Field, field_validator
from rich.table import Table

from dql_core.cli.console import new_folder, plain_table
from dql_core.cli.terminal import ConsoleLines, Terminal
from dql_core.cli.training_settings import Request, settings
from dql_core.config import TrainConfig, changed_config
from dql_core.documents import file_within, read_json
from dql_core.errors import CheckpointError, ConfigError, DatasetError, DqlError, counted
from dql_core.extras import needing
from dql_core.files import atomic_directory, write_text
from dql_core.presets import as_saved
from dql_core.process import INTERRUPTED, log_lines
from dql_core.strict_yaml import StrictModel, parse

with needing("sweep", __name__):
    from dql_core.data.dataset import load_datasets
    from dql_core.evaluation.offline.recording import require_rewards
    from dql_core.training.derived import DERIVED_FILE, derive
    from dql_core.training.preparation import (
        load_training_data,
        require_measurable,
        share_to_hold_out,
    )
    from dql_core.training.run_folder import exclusive_lock, fingerprint, require_new
    from dql_core.training.sweep.on_ray import Sweep, importance, require_libraries, run_trials
    from dql_core.training.sweep.picture import draw
    from dql_core.training.sweep.space import Space, assignments, compared, read_space
    from dql_core.training.sweep.trials import Trial, basis, rivals

SWEEP_FILE, SPACE_FILE = "sweep.json", "space.yaml"
RESULTS_FILE, BEST_FILE, PICTURE_FILE = "results.json", "best.yaml", "sweep.svg"
TRIALS, SHOWN, MOST_REASONS = 30, 10, 3
# On fewer episodes, figures say little.
FEW_EPISODES = 10
FLATTERED = (
    "the best of many on the same episodes looks better than it is: judge it on others before "
    "you trust its value"
)


class SweepDocument(StrictModel):
    """What ``sweep.json`` says: what is searched, beside ``space.yaml``.

    Attributes:
        config: The configuration that the trials change.
        trials: How many are tried.
        prune: Whether trials are ended early.
        seed: Seeds what is tried.
        data_sha256: `fingerprint` of the dataset; empty in sweeps begun before it was noted.
    """

    config: TrainConfig
    trials: int = Field(ge=2)
    prune: bool
    seed: int = Field(ge=0)
    data_sha256: str = ""

    @field_validator("config")
    @classmethod
    def _compares(cls, config: TrainConfig) -> TrainConfig:
        """Refuse what `compared` would not have let begin."""
        try:
            return compared(config, is_stated=True)
        except ConfigError as cause:
            reason = "compares trials neither by --eval-env nor on held-out episodes"
            raise ValueError(reason) from cause


def sweep(
    space: Annotated[
        Path | None,
        typer.Argument(
            help="What is searched (yaml): for keys of the training configuration a list of "
            "values, or {low: 1e-4, high: 3e-3, log: true}."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Configuration that the trials change. Without one, it is derived from the data."
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Dataset folder or Minari id; overrides data.dataset. Repeatable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the trials and of what they came to. Must be new or empty. By default "
            "runs/sweep/TIME."
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=2,
            help=f"How many configurations are tried, {TRIALS} by default; with --resume, until "
            f"there are so many.",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set one key of all trials, such as run.steps=2000; repeatable.",
        ),
    ] = None,
    eval_env: Annotated[
        str | None,
        typer.Option(
            "--eval-env",
            metavar="ID",
            help="Gymnasium id (module:id imports a module that registers it): roll checkpoints "
            "out there, and compare trials by the mean return.",
        ),
    ] = None,
    prune: Annotated[
        bool, typer.Option(help="End trials early that are worse than most were by then (ASHA).")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Seeds what is tried.")] = 0,
    at_once: Annotated[
        int | None,
        typer.Option(
            min=1, help="Trials at a time. By default as many as there are processors, or GPUs."
        ),
    ] = None,
    ray: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Ray cluster: host:port, auto, or local for one on this machine alone. Data and "
            "OUT must lie on a file system that its machines share.",
        ),
    ] = "local",
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Go on with the sweep in this folder, as it began: trials that have ended are "
            "kept, those that were begun go on. Only --trials, --at-once and --ray may differ; "
            "an --eval-env that imports a module must be given again.",
        ),
    ] = None,
) -> None:
    """Try configurations, each an ordinary run, and say which is best.

    Without a simulator, trials are compared by what 'dql judge' says of them
    on held-out episodes; --set validation.rule=td_error compares errors.

    Ctrl-C ends it; --resume DIR goes on, also after a kill -9 or a crash.

    OUT gets best.yaml for 'dql train', a table as results.json, a picture as
    sweep.svg, and the trials.

    Example: dql sweep space.yaml --dataset data/arm --out runs/sweep
    """
    console = Terminal()
    require_libraries()
    if resume is None:
        request = Request(config, tuple(dataset or ()), eval_env, tuple(overrides or ()))
        if space is None:
            raise ConfigError("name a space to search: dql sweep SPACE.yaml --dataset DIR")
        folder = out or new_folder("sweep")
        document = _begun(space, request, folder, (trials or TRIALS, prune, seed), console)
    else:
        folder = resume
        if any((space, config, dataset, out, overrides, seed, not prune)):
            raise ConfigError(
                f"--resume {resume}: goes on as it began: leave all away but --trials, --at-once, "
                f"--ray and --eval-env"
            )
        document = _continued(folder, trials, eval_env)
    base = document.config
    searched = Sweep(
        base,
        Space.read(file_within(folder, SPACE_FILE, CheckpointError), base),
        folder,
        document.trials,
        at_once=at_once,
        prune=document.prune,
        seed=document.seed,
        ray=ray,
    )
    with exclusive_lock(folder, SPACE_FILE, "searching here"):
        if resume is not None:
            _require_same_data(searched, document.data_sha256, console)
            if trials is not None:
                write_text(folder / SWEEP_FILE, _json(document.model_dump(mode="json")))
        finished = run_trials(searched, lambda trial: _say(console, _line(trial)))
        _conclude(searched, console, finished=finished)
    if not finished:
        again = "" if ray == "local" else f" --ray {ray}"
        _say(console, f"interrupted; go on with: dql sweep --resume {quote(str(folder))}{again}")
        raise typer.Exit(INTERRUPTED)


def _say(console: Terminal, line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False)


def _begun(
    path: Path,
    request: Request,
    folder: Path,
    options: tuple[int, bool, int],
    console: Terminal,
) -> SweepDocument:
    """Make the folder of a new sweep; return what it is of.

    Raises:
        DqlError: If something is wrong with what is asked for; nothing is written then.
    """
    require_new(folder)
    read_space(path)  # a missing file is named before what the data lack
    base, files = settings(request), dict[str, str]()
    with log_lines(ConsoleLines(console)):
        data = load_datasets(base.data.datasets, tuple(base.data.weights))
        derivation = derive(data, base) if request.config is None else None
        if derivation is not None:
            base, files = derivation.config, {DERIVED_FILE: derivation.to_yaml()}
        stated = {each.partition("=")[0].strip() for each in request.overrides}
        is_stated = "validation.rule" in stated
        if not (base.validation.held_out or base.evaluation.env or is_stated):
            require_rewards(data)
        to_hold_out = None if base.validation.held_out else share_to_hold_out(data, base)
        base = compared(base, is_stated=is_stated, to_hold_out=to_hold_out)
        space = Space.read(path, base)
        loaded = load_training_data(base, data)
        require_measurable(loaded, base)
    held_out = len(loaded.held_out.episodes) if loaded.held_out else 0
    if not base.evaluation.env and held_out < 2:
        raise DatasetError(
            f"{data.source}: validation.held_out={base.validation.held_out:g} holds out 1 "
            f"episode, by which trials cannot be compared: raise it, record more episodes, or "
            f"give --eval-env"
        )
    trials, prune, seed = options
    every = space.configurations(trials)
    if every is not None and len(every) < trials:
        _say(console, f"the space has {len(every)} configurations: each is tried")
        trials = len(every)
    document = SweepDocument(
        config=base, trials=trials, prune=prune, seed=seed, data_sha256=fingerprint(data)
    )
    files[SPACE_FILE] = path.read_text(encoding="utf-8")
    files[SWEEP_FILE] = _json(document.model_dump(mode="json"))
    with atomic_directory(folder, error=ConfigError) as new:
        for name, text in files.items():
            (new / name).write_text(text, encoding="utf-8")
    if derivation is not None:
        _say(console, f"derived from {derivation.data}; reasons: {folder / DERIVED_FILE}")
    return document


def _continued(folder: Path, trials: int | None, eval_env: str | None) -> SweepDocument:
    """Return what a sweep that goes on is of.

    Raises:
        CheckpointError: If there is none, or it is damaged.
        ConfigError: If the environment is another one, or imports a module that is not named.
    """
    path = folder / SWEEP_FILE
    if not path.is_file():
        raise CheckpointError(f"{folder}: not a folder of 'dql sweep': it has no {SWEEP_FILE}")
    content = read_json(file_within(folder, SWEEP_FILE, CheckpointError), CheckpointError)
    if isinstance(content.get("config"), dict):
        content["config"] = as_saved(content["config"])
    document = parse(content, SweepDocument, f"{path}: damaged", CheckpointError)
    env = document.config.evaluation.env
    if eval_env is not None and eval_env != env:
        raise ConfigError(
            f"--eval-env {eval_env}: {folder} was begun {f'with {env}' if env else 'without one'} "
            f"and goes on so"
        )
    if ":" in env and eval_env is None:
        # A sweep may be somebody else's, and only what the user says may name code.
        raise ConfigError(
            f"{folder}: was begun with the environment '{env}', for which the module "
            f"'{env.partition(':')[0]}' would be imported; if you trust it, say so again: "
            f"--eval-env {env}"
        )
    return document.model_copy(update={"trials": trials or document.trials})


def _require_same_data(searched: Sweep, sha256: str, console: Terminal) -> None:
    """Refuse more trials of data that changed since the sweep began: one table would hold both.

    Raises:
        CheckpointError: If they did.
        DqlError: If they cannot be read, or a trial is damaged.
    """
    if sum(trial.ended for trial in searched.known()) >= searched.trials:
        return
    if not sha256:
        _say(console, "whether the dataset is as it was is not known: an earlier version began it")
        return
    data = searched.base.data
    with log_lines(ConsoleLines(console)):
        dataset = load_datasets(data.datasets, tuple(data.weights))
    if fingerprint(dataset) != sha256:
        raise CheckpointError(
            f"{searched.out}: the dataset {dataset.source} has changed since the sweep began (it "
            f"has {counted(dataset.num_transitions, 'transition')} now): make a new sweep with "
            f"--out, or restore the data"
        )


def _json(document: Any) -> str:
    return json.dumps(document, indent=2) + "\n"


def _line(trial: Trial) -> str:
    values = " ".join(assignments(trial.parameters))
    return f"{trial.folder.name}: {_value(trial)}, {trial.step:,} updates; {values}"


def _value(trial: Trial) -> str:
    if trial.failure:
        return f"failed: {trial.failure}"
    if trial.best is None:
        return "no value"
    low, high = trial.interval
    ends = "" if low is None or high is None else f" [{low:.4g}, {high:.4g}]"
    end = ", ended early" if trial.pruned else ""
    return f"{trial.best.value:.4g}{ends}{end}{', its critics diverged' if trial.diverged else ''}"


def _conclude(searched: Sweep, console: Terminal, *, finished: bool) -> None:
    """Show what was found, and write it down.

    Raises:
        DqlError: If all trials were run, and none has a value.
    """
    trials = searched.known()
    measured = [trial for trial in trials if trial.best is not None and not trial.failure]
    if not measured:
        if finished:
            raise DqlError(f"{searched.out}: none of {_reasons(trials)}")
        return
    weights, out, best = importance(searched, measured), searched.out, measured[0]
    what = basis(searched.base, best.episodes)
    console.print(_table(measured, weights))
    for line in (what, *_remarks(searched, trials, measured, weights)):
        _say(console, line)
    write_text(out / BEST_FILE, _best_yaml(searched.base, best, what))
    document = {
        "value": what,
        "trials": [_row(trial) for trial in trials],
        "importance": weights,
        "best": best.folder.name,
        "not_distinguishable": rivals(measured),
    }
    write_text(out / RESULTS_FILE, _json(document))
    write_text(out / PICTURE_FILE, draw(searched.space, measured, weights, what))
    _say(console, f"best: {best.folder}; train with its settings: dql train {out / BEST_FILE}")


def _reasons(trials: Sequence[Trial]) -> str:
    found = list(dict.fromkeys(trial.failure or "nothing could be measured" for trial in trials))
    more = f"; and {len(found) - MOST_REASONS} more reasons" if len(found) > MOST_REASONS else ""
    return f"{counted(len(trials), 'trial')} has a value: {'; '.join(found[:MOST_REASONS])}{more}"


def _remarks(
    searched: Sweep,
    trials: Sequence[Trial],
    measured: Sequence[Trial],
    weights: Mapping[str, float],
) -> Iterator[str]:
    """Yield what a reader of the table must know."""
    if searched.base.evaluation.env == "" and measured[0].episodes < FEW_EPISODES:
        yield f"all rests on {counted(measured[0].episodes, 'held-out episode')} only"
    if failed := [trial for trial in trials if trial.failure]:
        yield f"{len(failed)} of {counted(len(trials), 'trial')} failed: {failed[0].failure}"
    if unmeasured := len(trials) - len(failed) - len(measured):
        yield f"{unmeasured} of {counted(len(trials), 'trial')} have no value"
    near = rivals(measured)
    if near is None:
        yield "how sure the order is cannot be said: the best has no interval"
    elif near:
        yield (
            f"not told apart: the values of {counted(near, 'more trial')} lie within the interval "
            f"of the best"
        )
    yield FLATTERED
    if weights:
        yield f"beside a key: its share of what matters, by PED-ANOVA of {len(measured)} trials"
    else:
        yield f"how much each key matters is not said of {counted(len(measured), 'trial')}"


def _table(trials: Sequence[Trial], weights: Mapping[str, float]) -> Table:
    keys = sorted(trials[0].parameters, key=lambda key: -weights.get(key, 0.0))
    headings = [f"{key} ({weights[key]:.0%})" if key in weights else key for key in keys]
    table = plain_table("trial", "value", "updates", *headings)
    for trial in trials[:SHOWN]:
        values = (_short(trial.parameters[key]) for key in keys)
        table.add_row(trial.folder.name, _value(trial), f"{trial.step:,}", *values)
    if len(trials) > SHOWN:
        table.caption = f"the first {SHOWN} of {len(trials)}; {RESULTS_FILE} has all"
    return table


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)


def _row(trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.folder.name,
        "parameters": trial.parameters,
        "value": trial.best and trial.best.value,
        "checkpoint": trial.best and trial.best.step,
        "ci95": trial.interval,
        "episodes": trial.episodes,
        "steps": trial.step,
        "pruned": trial.pruned,
        "diverged": trial.diverged,
        "failure": trial.failure or None,
    }


def _best_yaml(base: TrainConfig, best: Trial, what: str) -> str:
    """Return the configuration of the best trial as a file for `dql train`."""
    config = changed_config(base, assignments(best.parameters))
    heading = (f"The best trial of a sweep, {_line(best)}.", f"{what}.", f"Mind that {FLATTERED}.")
    return "".join(f"# {' '.join(line.split())}\n" for line in heading) + config.to_yaml()
