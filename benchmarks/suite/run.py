"""Train one method on one set with one seed, and add its row of results.

    python -m benchmarks.suite.run --set hopper-medium-expert --method default --seed 0
    python -m benchmarks.suite.run --set pusht-human --method paper --paper DIR --seed 0

One thread, on the CPU. A row that is there already is not trained again; one that was
interrupted goes on, but for d3rlpy's, which begin anew. Rollouts start from the same states for
all, and the clock stops meanwhile. `--override` with `--label` makes another method of ours.
"""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine
from benchmarks.suite.command import Options, exit_on_mistake
from benchmarks.suite.d3rlpy_baselines import D3rlpyLearner
from benchmarks.suite.flat_file import file_facts
from benchmarks.suite.measuring import Learner, Plan, measure, read_transitions
from benchmarks.suite.methods import METHODS, Method, configuration, find_method
from benchmarks.suite.our_training import choose_otherwise, clean, train_ours
from benchmarks.suite.paper_code import PaperLearner
from benchmarks.suite.rows import (
    ROWS_FILE,
    Point,
    Row,
    add_row,
    claim,
    read_rows,
    row_key,
    to_json,
)
from benchmarks.suite.sets import DATA, find_set
from dql_core.data.dataset import load_dataset
from dql_core.errors import ConfigError

OUT = Path("runs/suite")
LIBRARIES = ("torch", "gymnasium", "mujoco", "d3rlpy", "gym-pusht", "pymunk")


@exit_on_mistake
def main(arguments: Sequence[str] | None = None) -> None:
    """Train and add a row, unless it is there."""
    options = _options(arguments)
    method, label = find_method(options.method), options.label or options.method
    if bool(options.override) != bool(options.label):
        raise ConfigError("--override needs a --label for the row, and a --label what differs")
    if options.override and (method.source != "ours" or method.trained_as):
        raise ConfigError(f"--override: {method.name} has no configuration of its own")
    key = row_key(options.set, label, options.seed, options.updates)
    with claim(options.out, key) as mine:
        known = read_rows(options.out / ROWS_FILE)
        facts = file_facts(options.data / f"{options.set}.hdf5")
        if key in known:
            _require_trained_on(known[key], facts)
            print(to_json(known[key]))
            return
        if not mine:
            raise ConfigError(f"{key}: another process is training it")
        plan = _plan(options, key)
        if method.trained_as:
            row = choose_row(plan, method, known, options.out, facts)
        else:
            row = train_row(options, plan, method, label, facts)
        add_row(options.out, row)
        print(to_json(row))


def train_row(
    options: argparse.Namespace, plan: Plan, method: Method, label: str, facts: dict[str, Any]
) -> Row:
    """Train and return the row, given the facts of the set's file."""
    failure, alarms = "", None
    if method.source == "ours":
        curve, failure, alarms = _ours(plan, method, options.override, precision(method, options))
    else:
        curve = _theirs(plan, method, options.paper)
    return Row(
        set_name=options.set,
        method=label,
        seed=options.seed,
        updates=options.updates,
        curve=tuple(curve),
        data_score=facts["score"],
        data_sha256=facts["sha256"],
        failure=failure,
        alarms=alarms,
        settings=tuple(options.override),
        precision=precision(method, options),
        machine=machine() | {"versions": versions()},
    )


def choose_row(
    plan: Plan, method: Method, known: Mapping[str, Row], out: Path, facts: dict[str, Any]
) -> Row:
    """Return the row of a finished training's last policy that chooses in another way."""
    key = row_key(plan.name, method.trained_as, plan.seed, plan.updates)
    if key not in known:
        raise ConfigError(
            f"--method {method.name}: takes the policy of {key}, which is not trained: run "
            f"--method {method.trained_as} first"
        )
    trained = known[key]
    _require_trained_on(trained, facts)
    point = choose_otherwise(plan, method.settings, trained, out / "rows" / key / "run")
    here = machine() | {"versions": versions()}
    return replace(trained, method=method.name, curve=(point,), machine=here)


def _require_trained_on(row: Row, facts: dict[str, Any]) -> None:
    if row.data_sha256 != facts["sha256"]:
        raise ConfigError(f"{row.key}: was trained on other data; give another --out")


def _plan(options: argparse.Namespace, key: str) -> Plan:
    torch.set_num_threads(1)
    return Plan(
        options.set,
        find_set(options.set),
        options.data / options.set,
        options.seed,
        options.updates,
        options.points,
        options.episodes,
        options.last_episodes,
        options.out / "rows" / key,
    )


def precision(method: Method, options: argparse.Namespace) -> str:
    """Return how exact matrix products are: those of others and of the paper's preset wholly."""
    is_free = method.source == "ours" and "preset" not in method.settings
    return str(options.precision) if is_free else "float32"


def _ours(
    plan: Plan, method: Method, overrides: Sequence[str], products: str
) -> tuple[list[Point], str, int | None]:
    config = configuration(
        method,
        plan.task_set,
        overrides,
        dataset=str(plan.dataset.resolve()),
        seed=plan.seed,
        steps=plan.updates,
        checkpoint_every=plan.every,
        # So that there is a reading, hence a time, of each checkpoint.
        log_every=min(plan.every, 100) if plan.every % 100 == 0 else plan.every,
        num_threads=1,
        device="cpu",
        precision=products,
    )
    outcome = train_ours(plan, config)
    clean(plan)
    return outcome


def _theirs(plan: Plan, method: Method, paper: Path | None) -> list[Point]:
    data = load_dataset(plan.dataset)
    transitions = read_transitions(data)
    learner: Learner
    if method.source == "d3rlpy":
        learner = D3rlpyLearner(method.name, plan, transitions)
    elif paper is None:
        raise ConfigError("--method paper needs the folder of its code: --paper DIR")
    else:
        learner = PaperLearner(paper, plan, transitions)
    return measure(plan, data, learner)


def versions() -> dict[str, str]:
    """Return which libraries measure, as far as they are installed."""
    found: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _options(arguments: Sequence[str] | None) -> Any:
    parser = Options(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", required=True, help="such as hopper-mixed or hopper-mixed-10")
    parser.add_argument("--method", required=True, help=", ".join(METHODS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--updates", type=int, default=30_000)
    parser.add_argument("--points", type=int, default=10, help="policies to roll out on the way")
    parser.add_argument("--episodes", type=int, default=10, help="rollouts of each")
    parser.add_argument("--last-episodes", type=int, default=50, help="rollouts of the last one")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of matrix products of ours, but of preset: paper",
    )
    parser.add_argument("--data", type=Path, default=DATA, help="what benchmarks.suite.data made")
    parser.add_argument("--out", type=Path, default=OUT, help="rows, and trainings under way")
    parser.add_argument("--paper", type=Path, help="folder of the paper's code")
    parser.add_argument(
        "--override", action="append", default=[], metavar="section.key=value", help="repeatable"
    )
    parser.add_argument("--label", help="name of the row's method, with --override")
    options = parser.parse_args(arguments)
    counts = options.updates, options.points, options.episodes, options.last_episodes
    if min(counts) < 1 or options.points > options.updates:
        raise ConfigError(
            "--updates, --points, --episodes and --last-episodes: at least 1, no more points than "
            "updates"
        )
    return options


if __name__ == "__main__":
    main()
