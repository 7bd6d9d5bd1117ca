"""Diffusion-QL on Pendulum-v1 from other people's data, random and expert: three seeds each.

    python -m benchmarks.training.pendulum --data FOLDER --out runs/pendulum

FOLDER holds pendulum_random_v1.1.0.h5 (d3rlpy's layout) and pendulum_final.npz (imitation's).
Imports both, trains with config/train/pendulum.yaml and pendulum_expert.yaml through the command
line, and leaves results/pendulum.md and docs/images/pendulum.png. Trainings that are there already
are kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "pendulum.md"
FIGURE = ROOT / "docs" / "images" / "pendulum.png"
SEEDS = "0,1,2"


@dataclass(frozen=True)
class Source:
    """Where the data of a training comes from.

    Attributes:
        name: For titles and folders.
        file: Name of the file.
        options: How `dql import` reads it.
        config: Name of the training configuration.
        data_return: Mean return of the episodes in it.
    """

    name: str
    file: str
    options: tuple[str, ...]
    config: str
    data_return: float


SOURCES = (
    Source(
        "random", "pendulum_random_v1.1.0.h5", ("--format", "d3rlpy"), "pendulum.yaml", -1223.6
    ),
    Source(
        "expert",
        "pendulum_final.npz",
        ("--format", "npz", "--time-limit", "200"),
        "pendulum_expert.yaml",
        -189.4,
    ),
)


def main() -> None:
    """Import, train and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "pendulum")
    arguments = parser.parse_args()
    for source in SOURCES:
        train(source, arguments.data, arguments.out / source.name)
    draw(arguments.out)
    RESULTS.write_text(report(arguments.out))


def train(source: Source, data: Path, out: Path) -> None:
    """Import the file and train all seeds, unless that was done before."""
    dataset, runs = out / "dataset", out / "runs"
    if not dataset.exists():
        command = ["import", data / source.file, *source.options, "--env", "Pendulum-v1"]
        _dql(*command, "--out", dataset)
    if not (runs / "summary.json").exists():
        config = ROOT / "config" / "train" / source.config
        _dql("train", config, "--dataset", dataset, "--out", runs, "--seeds", SEEDS)


def draw(out: Path) -> None:
    """Draw the return of every checkpoint of every seed."""
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    for axis, source in zip(figure.subplots(1, len(SOURCES)), SOURCES, strict=True):
        _curves(axis, out / source.name / "runs", source)
    figure.savefig(FIGURE, dpi=100)


def report(out: Path) -> str:
    """Return the results as Markdown."""
    rows, details = [], []
    for source in SOURCES:
        runs = out / source.name / "runs"
        figures = json.loads((runs / "summary.json").read_text())["figures"]
        cells = [_interval(figures[f"return ({which})"]) for which in ("last", "best_offline")]
        rows.append(f"| {source.name} | {source.data_return:g} | {' | '.join(cells)} |")
        for folder in sorted(runs.glob("seed-*")):
            last = _records(folder / "validation.jsonl")[-1]["online"]
            metrics = _records(folder / "metrics.jsonl")
            speed = fmean(line["updates_per_s"] for line in metrics if "updates_per_s" in line)
            minutes = metrics[-1]["step"] / speed / 60
            details.append(
                f"| {source.name} | {folder.name} | {last['mean_return']:.1f} "
                f"| {last['std_return']:.1f} | {speed:.0f} | {minutes:.1f} |"
            )
    return "\n".join(
        [
            "# Diffusion-QL on Pendulum-v1",
            "",
            "    python -m benchmarks.training.pendulum --data FOLDER",
            "",
            "Three training seeds, 20 evaluation episodes each (the same starts for all); mean",
            "over the seeds with its 95 % interval. Two runs at a time, each on one thread.",
            "",
            "| data | mean return of the data | last checkpoint | best_offline |",
            "|---|---|---|---|",
            *rows,
            "",
            "![Return of every checkpoint](../../docs/images/pendulum.png)",
            "",
            "| data | run | last return | spread over episodes | updates/s | minutes |",
            "|---|---|---|---|---|---|",
            *details,
            "",
        ]
    )


def _curves(axis: Axes, runs: Path, source: Source) -> None:
    for folder in sorted(runs.glob("seed-*")):
        records = _records(folder / "validation.jsonl")
        returns = [record["online"]["mean_return"] for record in records]
        axis.plot([record["step"] for record in records], returns, "o-", ms=4, label=folder.name)
    axis.axhline(source.data_return, color="gray", ls="--", label="the data")
    axis.set_title(f"{source.name} data, mean return {source.data_return:g}", size=10)
    axis.set(xlabel="updates", xlim=(0, None), ylim=(-200, -100))
    axis.set_ylabel("return, mean of 20 episodes")
    axis.legend(frameon=False)


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _interval(figure: dict[str, Any]) -> str:
    low, high = figure["ci95"]
    return f"{figure['mean']:.1f} ± {(high - low) / 2:.1f}"


def _dql(*arguments: object) -> None:
    command = [sys.executable, "-m", "dql_ros.cli.main", *(str(each) for each in arguments)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
