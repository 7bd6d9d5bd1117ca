"""How long a judgement takes: the whole command ``dql judge``, one JSON line.

    python -m benchmarks.judge.cost --data runs/suite/data         # prints the line
    python -m benchmarks.judge.cost --data runs/suite/data --keep  # and writes benchmarks/results

Half of hopper-mixed is held out, 50,000 transitions. A run with the defaults learns from the other
half and leaves twelve checkpoints, all of which are judged. How good they are does not matter
here. The yardstick is the training of that run: seconds for a thousand updates.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import Line, keep, machine, markdown_table, show, where
from benchmarks.suite.command import Options, exit_on_mistake
from benchmarks.suite.sets import DATA
from dql_core.data.dataset import load_dataset, write_dataset
from dql_core.data.transitions import split_episodes

SET, HELD_OUT, SEED = "hopper-mixed", 0.5, 0
CHECKPOINTS, UPDATES = 12, 1200
COMMAND = "python -m benchmarks.judge.cost --data runs/suite/data --keep"


@exit_on_mistake
def main(arguments: Sequence[str] | None = None) -> None:
    """Train, judge, and tell what it took."""
    parser = Options(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="what benchmarks.suite.data made")
    parser.add_argument("--updates", type=int, default=UPDATES, help="of the run that is judged")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        line = show(measure(options.data / SET, Path(name), options.updates))
    if options.keep:
        keep("judge_cost", [line], table(line))


def measure(dataset: Path, folder: Path, updates: int) -> Line:
    """Return the line of a dataset."""
    whole = load_dataset(dataset)
    learned, held_out = split_episodes(whole, HELD_OUT, SEED)
    assert held_out is not None  # half of them are
    for part, episodes in (("learned", learned.episodes), ("held_out", held_out.episodes)):
        write_dataset(folder / part, episodes, whole.spec)
    steps = [f"run.steps={updates}", f"run.checkpoint_every={updates // CHECKPOINTS}"]
    settings = [word for step in steps for word in ("--set", step)]
    run, out = folder / "run", folder / "judge"
    training_s, _ = timed("train", "--dataset", folder / "learned", "--out", run, *settings)
    seconds, cpu_s = timed("judge", run, "--dataset", folder / "held_out", "--out", out)
    judged = json.loads((out / "judge.json").read_text())
    return {
        "benchmark": "judge_cost",
        "set": SET,
        "checkpoints": len(judged["policies"]),
        "transitions": held_out.num_transitions,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_s, 1),
        "thousand_updates_s": round(training_s * 1000 / updates, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        **machine(),
    }


def timed(*words: object) -> tuple[float, float]:
    """Run a verb of `dql`; return its seconds by the clock on the wall, and of computing."""
    begun_s, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "dql_ros.cli.main", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.PIPE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    computed_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun_s, computed_s


def table(line: Line) -> str:
    """Return the page of the result."""
    headings = ("judged", "seconds", "of computing", "as long as", "peak memory of all commands")
    row = (
        f"{line['checkpoints']} checkpoints by {line['transitions']:,} transitions",
        line["seconds"],
        line["cpu_seconds"],
        f"{1000 * line['seconds'] / line['thousand_updates_s']:,.0f} updates of the training",
        f"{line['peak_mb']:,} MiB",
    )
    return (
        f"# What a judgement costs\n\n    {COMMAND}\n\n{where([line])}\n"
        f"The line as printed is in [judge_cost.jsonl](judge_cost.jsonl). The whole command "
        f"`dql judge`, on\n{line['set']} of the suite, of whose episodes half are held out. A "
        f"thousand updates of the run's training, its\nstart included, took "
        f"{line['thousand_updates_s']} s on the same machine.\n\n"
        f"{markdown_table(headings, [row])}"
    )


if __name__ == "__main__":
    main()
