"""Make the suite's data sets: flat files in D4RL's layout, imported as Minari datasets.

    python -m benchmarks.suite.data --agents DIR --pusht FILE --seed 0 --out runs/suite/data
    python -m benchmarks.suite.data --agents DIR --seed 0 --episodes 10 --out runs/suite/data

The first makes all sets, the second subsets of ten episodes of those that are there. Equal options
make equal files. A set that is there already is kept.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.suite.command import Options, exit_on_mistake
from benchmarks.suite.flat_file import Rows, file_facts, read_rows, write_rows
from benchmarks.suite.pusht import read_demonstrations
from benchmarks.suite.rollouts import mean_score, record_set
from benchmarks.suite.sets import DATA, SETS, TaskSet, find_set
from dql_core.data.importers.importing import import_file
from dql_core.errors import ConfigError

MEMBERS = sorted(SETS)


@exit_on_mistake
def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is missing, one line a set."""
    parser = Options(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=Path, help="folder of the actors, TASK-ALGORITHM.npz")
    parser.add_argument("--pusht", type=Path, help="the demonstrations, pusht_human.zarr.zip")
    parser.add_argument("--sets", nargs="+", default=MEMBERS, metavar="SET", help="not all sets")
    parser.add_argument("--size", type=int, default=100_000, help="transitions of a set")
    parser.add_argument("--episodes", type=int, help="subsets of so many episodes of the sets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=DATA)
    options = parser.parse_args(arguments)
    for name in options.sets:
        print(json.dumps(make(find_set(name), options)), flush=True)


def make(task_set: TaskSet, options: argparse.Namespace) -> dict[str, Any]:
    """Make a set or a subset, unless it is there, and return its facts.

    Raises:
        ConfigError: If what it is made from is not named.
        DatasetError: If it cannot be read.
    """
    name = f"{task_set.name}-{options.episodes}" if options.episodes else task_set.name
    file, dataset = options.out / f"{name}.hdf5", options.out / name
    if not file.is_file():
        if options.episodes:
            rows, facts = subset(task_set, options)
        else:
            rows, facts = whole_set(task_set, options)
        facts |= {
            "set": name,
            "seed": options.seed,
            "transitions": len(rows),
            "episodes": sum(1 for _ in rows.episodes()),
            "score": mean_score(task_set, rows),
        }
        write_rows(file, rows, facts)
    if not dataset.exists():
        import_file(file, "d4rl", dataset, env_id=task_set.env_id)
    return file_facts(file)


def whole_set(task_set: TaskSet, options: argparse.Namespace) -> tuple[Rows, dict[str, Any]]:
    """Return the rows of a set, and what it was made from."""
    source = options.agents if task_set.shares else options.pusht
    if source is None:
        option = "--agents" if task_set.shares else "--pusht"
        raise ConfigError(f"{task_set.name}: name what it is made from with {option}")
    if not task_set.shares:
        return read_demonstrations(source), {}
    rows, shares = record_set(task_set, source, options.seed, options.size)
    return rows, {"shares": shares}


def subset(task_set: TaskSet, options: argparse.Namespace) -> tuple[Rows, dict[str, Any]]:
    """Return some episodes of a set that is there, drawn by the seed, in their order.

    Raises:
        ConfigError: If it has fewer.
    """
    rows = read_rows(options.out / f"{task_set.name}.hdf5")
    spans = list(rows.episodes())
    if not 0 < options.episodes <= len(spans):
        raise ConfigError(f"--episodes {options.episodes}: {task_set.name} has {len(spans)}")
    rng = np.random.default_rng([options.seed, zlib.crc32(task_set.name.encode())])
    chosen = np.sort(rng.choice(len(spans), options.episodes, replace=False)).tolist()
    return rows.take([spans[index] for index in chosen]), {"chosen": chosen}


if __name__ == "__main__":
    main()
