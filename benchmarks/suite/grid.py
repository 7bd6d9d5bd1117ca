"""Train all rows of the suite one after the other, the most telling ones first.

    python -m benchmarks.suite.grid --paper DIR --hours 8

Rows that are there are skipped, so that the same command goes on where it was stopped. Give two of
them `--part 0/2` and `--part 1/2` to use two cores. `--list` only says what is to be run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.suite.command import Options, exit_on_mistake
from benchmarks.suite.methods import METHODS
from benchmarks.suite.rows import ROWS_FILE, read_rows, row_key
from benchmarks.suite.run import OUT
from benchmarks.suite.sets import DATA, SETS
from dql_core.errors import ConfigError
from dql_core.process import INTERRUPTED

# What is compared on all sets, and what with one seed only; the preset's further seeds stand for
# those of the paper's code, where its first one agrees with it.
FIRST = tuple(METHODS)
ONCE = frozenset({"paper", "one_step", "mean_flow", "diffusion_bc_epsilon", "default_epsilon"})
SMALL = ("default", "derived", "diffusion_bc")
SUBSETS = (10, 25)
AGAIN = tuple(name for name in METHODS if name not in ONCE)
Job = tuple[str, str, int]


@exit_on_mistake
def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing."""
    parser = Options(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--paper", type=Path, help="folder of the paper's code; else it is left out"
    )
    parser.add_argument("--hours", type=float, default=24.0, help="begin no row after so long")
    parser.add_argument("--updates", type=int, default=30_000)
    parser.add_argument("--part", default="0/1", metavar="I/N", help="every N-th row from I on")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--sets", nargs="+", default=list(SETS), metavar="SET")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--small", action="store_true", help="subsets of few episodes only")
    parser.add_argument("--list", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    began, missing = time.monotonic(), _missing(options)
    for name, method, seed in missing:
        if options.list:
            print(name, method, seed)
        elif time.monotonic() - began < 3600 * options.hours:
            _run(name, method, seed, options)


def jobs(sets: Sequence[str]) -> Iterator[Job]:
    """Yield all rows: one seed of every method on every set, then two more of some."""
    for name in sets:
        for method in FIRST:
            yield name, method, 0
    for seed in (1, 2):
        for name in sets:
            for method in AGAIN:
                yield name, method, seed


def small_jobs(sets: Sequence[str]) -> Iterator[Job]:
    """Yield the rows that show whether few episodes are enough to learn safely."""
    for seed in (0, 1, 2):
        for episodes in SUBSETS:
            for name in sets:
                for method in SMALL:
                    yield f"{name}-{episodes}", method, seed


def _missing(options: argparse.Namespace) -> list[Job]:
    try:
        index, count = map(int, options.part.split("/"))
        planned = small_jobs(options.sets) if options.small else jobs(options.sets)
        wanted = list(planned)[index::count]
    except ValueError as cause:
        raise ConfigError(f"--part {options.part}: give it as 0/2 and 1/2") from cause
    known = read_rows(options.out / ROWS_FILE)
    return [
        (name, method, seed)
        for name, method, seed in wanted
        if row_key(name, method, seed, options.updates) not in known
        and (options.paper or METHODS[method].source != "paper")
    ]


def _run(name: str, method: str, seed: int, options: argparse.Namespace) -> None:
    """Run a row in a process of its own; one that fails is reported and left."""
    command = [sys.executable, "-m", "benchmarks.suite.run", "--set", name, "--method", method]
    command += ["--seed", str(seed), "--updates", str(options.updates)]
    command += ["--data", str(options.data), "--out", str(options.out)]
    command += ["--precision", options.precision]
    command += ["--paper", str(options.paper)] if options.paper else []
    status = subprocess.run(
        command, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ).returncode
    if status < 0 or status == INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        print(f"{name} {method} seed {seed}: exit status {status}", file=sys.stderr)


if __name__ == "__main__":
    main()
