"""Make policies of different quality for a set, to see how well the judge tells them apart.

    python -m benchmarks.judge.policies --set hopper-mixed --data runs/suite/data

A quarter of the episodes is held out; nothing learns from them. One thread, on the CPU. The same
command goes on where it was stopped. The demo's arm, `--set arm`, needs no data.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import gcd
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from benchmarks.judge.recipes import RECIPES, VARIANTS, method
from benchmarks.judge.splits import NAMES, find_judged_set, split
from benchmarks.suite.command import Options, exit_on_mistake
from benchmarks.suite.methods import configuration
from benchmarks.suite.rows import claim
from benchmarks.suite.sets import DATA
from dql_core.config import TrainConfig
from dql_core.documents import RUN_FILE
from dql_core.errors import ConfigError, DqlError
from dql_core.files import write_text
from dql_core.training.loop import train
from dql_core.training.run_files import (
    CONFIG_FILE,
    checkpoint_folder,
    checkpoint_name,
    checkpoint_steps,
    read_run_info,
)

OUT = Path("runs/judge")
POLICIES_FILE = "policies.json"
LOG_EVERY = 100


@dataclass(frozen=True)
class Made:
    """A policy that was made.

    Attributes:
        name: Its own.
        run: Name of the training whose checkpoint it is.
        checkpoint: Its folder, relative to the set's.
        step: Updates taken.
        selection: How it chooses other than the training was configured to; such a policy is no
            checkpoint that one could choose.
    """

    name: str
    run: str
    checkpoint: str
    step: int
    selection: dict[str, Any] = field(default_factory=dict)


_LIST = TypeAdapter(list[Made])


@exit_on_mistake
def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is missing, and list all in policies.json."""
    parser = Options(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", required=True, help=f"{', '.join(NAMES)}, or a subset")
    parser.add_argument("--data", type=Path, default=DATA, help="what benchmarks.suite.data made")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--shorter", type=int, default=1, help="divides all numbers of updates")
    parser.add_argument(
        "--override", action="append", default=[], metavar="section.key=value", help="repeatable"
    )
    options = parser.parse_args(arguments)
    if not 1 <= options.shorter <= min(recipe.steps[0] for recipe in RECIPES):
        raise ConfigError("--shorter: at least 1, and a checkpoint must have an update left")
    torch.set_num_threads(1)
    with claim(options.out, f"policies-{options.set}") as mine:
        if not mine:
            raise ConfigError(f"{options.out}: another process makes policies for {options.set}")
        make(options)


def make(options: argparse.Namespace) -> None:
    """Split the set, train all recipes, and list their policies."""
    folder: Path = options.out / options.set
    task_set = find_judged_set(options.set)
    parts = split(task_set, options.set, options.data, folder / "data")
    made: list[Made] = []
    for seed, recipe in enumerate(RECIPES):
        steps = tuple(step // options.shorter for step in recipe.steps)
        config = configuration(
            method(recipe, options.set),
            task_set,
            options.override,
            dataset=str(parts.part(recipe.part).resolve()),
            seed=seed,
            steps=steps[-1],
            checkpoint_every=reduce(gcd, steps),
            log_every=min(LOG_EVERY, steps[0]),
            num_threads=1,
            device="cpu",
        )
        run = folder / "runs" / recipe.name
        failure = _trained(config, run, steps)
        made += _made(recipe.name, steps, run, folder)
        print(f"{options.set} {recipe.name}: {failure or 'done'}", flush=True)
    made += _variants(made)
    write_text(folder / POLICIES_FILE, _LIST.dump_json(made, indent=1).decode() + "\n")


def read_policies(folder: Path) -> list[Made]:
    """Return the policies that were made for a set.

    Raises:
        ConfigError: If they are not all made, or the list is something else.
    """
    path = folder / POLICIES_FILE
    if not path.is_file():
        raise ConfigError(f"{path}: is not there; make it by benchmarks.judge.policies")
    try:
        return _LIST.validate_json(path.read_bytes())
    except ValidationError as cause:
        raise ConfigError(f"{path}: is no list of policies: {cause}") from cause


def _trained(config: TrainConfig, run: Path, steps: Sequence[int]) -> str:
    """Train, or go on, and keep the wanted checkpoints; return why it broke, if it did."""
    failure = ""
    try:
        if not train(config, run, _quiet, resume=(run / CONFIG_FILE).is_file()).finished:
            raise KeyboardInterrupt
    except DqlError as cause:
        # Only a training that broke by itself is a policy maker as well.
        if not (run / RUN_FILE).is_file() or not read_run_info(run).get("failure"):
            raise
        failure = str(cause)
    for step in checkpoint_steps(run):
        if step not in steps:
            shutil.rmtree(checkpoint_folder(run, step))
    return failure


def _quiet(_step: int, _metrics: Mapping[str, float]) -> None:
    """Print nothing: a run has its own record."""


def _made(name: str, steps: Sequence[int], run: Path, folder: Path) -> list[Made]:
    return [
        Made(f"{name}@{step}", name, str((run / checkpoint_name(step)).relative_to(folder)), step)
        for step in steps
        if step in checkpoint_steps(run)
    ]


def _variants(made: Sequence[Made]) -> list[Made]:
    found = []
    for variant in VARIANTS:
        checkpoints = [each for each in made if each.run == variant.recipe]
        if checkpoints:
            base = checkpoints[variant.position]
            found.append(
                Made(variant.name, base.run, base.checkpoint, base.step, variant.selection)
            )
    return found


if __name__ == "__main__":
    main()
