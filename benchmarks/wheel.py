"""The tutorial of the wheel, by its own commands, on several seeds; JSON lines.

    python -m benchmarks.wheel           # prints lines
    python -m benchmarks.wheel --keep    # and writes them to benchmarks/results

The commands are those of docs/tutorials/the-wheel.md. A seed moves every ``--seed`` of them and is
the ``run.seed`` of the trainings. Beside them a control: the first policy, trained on for the
updates of both rounds without their data.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import RESULTS, Line, keep, machine, markdown_table, show, where
from dql_core.data.dataset import load_dataset

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorials" / "the-wheel.md"
RESULTS_PAGE = RESULTS / "wheel.md"
COMMAND = "python -m benchmarks.wheel --keep"
SEEDS = (0, 1, 2)
SEEDS_A_RUN = 100_000
ROUNDS = (1, 2)
POLICIES = {"0": "demonstrations", "1": "first round", "2": "second round", "control": "control"}
# What is typed is sh; other blocks show what is printed.
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Runs the command line with these words after ``dql`` in a folder.
Run = Callable[[Sequence[str], Path], None]


@dataclass(frozen=True)
class Tutorial:
    """What the page tells to type.

    Attributes:
        preparation: What a shell does first.
        commands: The words of each `dql` command after it, without ``dql``.
    """

    preparation: str
    commands: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls) -> Tutorial:
        """Read the page."""
        blocks = _BLOCK.findall(PAGE.read_text())
        first, *others = (text for language, text in blocks if language == "sh")
        lines = "".join(others).replace("\\\n", " ").splitlines()
        words = [shlex.split(line) for line in lines]
        assert all(each[0] == "dql" for each in words), words
        return cls(first, tuple(tuple(each[1:]) for each in words))

    def prepare(self, folder: Path) -> Path:
        """Do the preparation in a folder like the repository's; return where it leads."""
        (folder / "config").symlink_to(ROOT / "config")
        script = f"set -e\n{self.preparation}\npwd\n"
        done = subprocess.run(
            ["bash"], input=script, cwd=folder, capture_output=True, text=True, check=True
        )
        return Path(done.stdout.splitlines()[-1])


def seeded(commands: Sequence[Sequence[str]], seed: int) -> Iterator[list[str]]:
    """Yield the commands of another seed."""
    for words in commands:
        moved = list(words)
        if "--seed" in moved:
            place = moved.index("--seed") + 1
            moved[place] = str(int(moved[place]) + seed * SEEDS_A_RUN)
        yield [*moved, "--set", f"run.seed={seed}"] if moved[0] == "train" else moved


def control(commands: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """Yield the commands that train the first policy on as long, but on its own data."""
    steps = [word for words in commands for word in words if word.startswith("run.steps=")]
    updates = sum(int(word.partition("=")[2]) for word in steps[1:])
    demonstrations = ("--dataset", "data/demonstrations", "--out", "policies/control")
    yield ["train", "--init-from", "policies/0", *demonstrations, "--set", f"run.steps={updates}"]
    for words in commands:
        if "policies/1/bundle" in words and "watches" not in words:
            yield [re.sub("^(policies|measured)/1", r"\1/control", word) for word in words]


def findings(folder: Path, seed: int) -> Iterator[Line]:
    """Yield a line of each policy that was measured, and of each round."""
    for name, label in POLICIES.items():
        told = json.loads((folder / "measured" / name / "closed_loop.json").read_text())
        keys = ("episodes", "success_rate", "success_rate_ci95", "mean_return", "mean_return_ci95")
        yield {"seed": seed, "policy": label, **{key: told[key] for key in keys}}
    for number in ROUNDS:
        dataset = load_dataset(folder / "data" / f"round{number}", infos=["intervention"])
        flags = [episode.infos["intervention"] for episode in dataset.episodes]
        yield {
            "seed": seed,
            "round": number,
            "episodes": len(flags),
            "episodes_taken_over": sum(bool(flag.any()) for flag in flags),
            "share_of_steps": float(np.concatenate(flags).mean()),
        }


def in_processes(words: Sequence[str], folder: Path) -> None:
    """Run the command line as a user does."""
    command = [sys.executable, "-m", "dql_ros.cli.main", *words]
    subprocess.run(command, cwd=folder, stdout=sys.stderr, check=True)


def turn(folder: Path, seed: int, run: Run) -> Iterator[Line]:
    """Turn the wheel in an empty folder, and yield what came of it."""
    tutorial = Tutorial.read()
    place = tutorial.prepare(folder)
    for words in seeded([*tutorial.commands, *control(tutorial.commands)], seed):
        run(words, place)
    yield from findings(place, seed)


def main() -> None:
    """Turn the wheel once a seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    lines: list[Line] = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as name:
            lines += [show(line | machine()) for line in turn(Path(name), seed, in_processes)]
    if arguments.keep:
        keep("wheel", lines, table(lines))


def table(lines: Sequence[Line]) -> str:
    """Return the result page."""
    seeds = sorted({line["seed"] for line in lines})
    measured = {(line["seed"], line["policy"]): line for line in lines if "policy" in line}
    rounds = {(line["seed"], line["round"]): line for line in lines if "round" in line}
    rows = [[seed, *(rate(measured[seed, name]) for name in POLICIES.values())] for seed in seeds]
    helped = [[seed, *(taken(rounds[seed, number]) for number in ROUNDS)] for seed in seeds]
    episodes = next(iter(measured.values()))["episodes"]
    apart = sum(
        is_apart(measured[seed, "demonstrations"], measured[seed, "second round"])
        for seed in seeds
    )
    return (
        f"# The wheel\n\n    {COMMAND}\n\n{where(lines)}\n\n"
        f"Success of the policy alone over topics, {episodes} episodes each from the same starts, "
        f"with the 95 % interval of these episodes (Wilson). Intervals before and after both "
        f"rounds do not overlap on {apart} of {len(seeds)} seeds. Control: as many updates as in "
        f"both rounds, on the demonstrations alone.\n\n"
        + markdown_table(["seed", *POLICIES.values()], rows)
        + "\nWhere the operator took over: episodes, and share of all steps.\n\n"
        + markdown_table(["seed", "first round", "second round"], helped)
        + "\nThe operator who takes over has a steadier hand than the one who demonstrates. So "
        "this shows that the wheel turns, not that takeovers beat as many demonstrations.\n"
    )


def rate(line: Line) -> str:
    """Write a success rate with its interval."""
    low, high = line["success_rate_ci95"]
    return f"{line['success_rate']:.1%} [{low:.1%}, {high:.1%}]"


def taken(line: Line) -> str:
    """Write how much was taken over."""
    return f"{line['episodes_taken_over']} of {line['episodes']}, {line['share_of_steps']:.0%}"


def is_apart(before: Line, after: Line) -> bool:
    """Whether the interval after lies above the one before."""
    return bool(after["success_rate_ci95"][0] > before["success_rate_ci95"][1])


if __name__ == "__main__":
    main()
