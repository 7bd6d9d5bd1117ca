"""What the defaults change against the paper's code, measured switch by switch.

    python -m benchmarks.training.deviations

Prints one JSON line for each switch and leaves results/deviations.md; about five minutes of
one core. docs/explanation/deviations.md tells what the switches are.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.training import deviation_measures as measures
from benchmarks.training import deviation_trainings as trainings
from examples import bandit

RESULTS = Path(__file__).parents[1] / "results" / "deviations.md"
MEASURES: dict[str, Callable[[], trainings.Figures]] = {
    "needless gradients": measures.needless_gradients,
    "run.learning_rate_decay": measures.last_learning_rate,
    "data.reward_boundaries": measures.reward_boundaries,
    "diffusion": trainings.process,
    "policy.ema_start": trainings.averaging_start,
    "selection.temperature_scale": measures.temperature_scale,
    "selection.weights": trainings.acting_weights,
    "selection.critics": trainings.ranking_critics,
    "validation.bc_loss_ranking": measures.checkpoint_ranking,
}


def main() -> None:
    """Run all, print the figures and write the results."""
    torch.set_num_threads(1)
    sections = []
    begun_at, started = commit(), time.monotonic()
    for switch, measure in MEASURES.items():
        figures = measure()
        print(json.dumps({"benchmark": "deviations", "switch": switch, **figures}), flush=True)
        sections.append(section(switch, measure, figures))
    minutes = (time.monotonic() - started) / 60
    RESULTS.write_text("\n".join([heading(begun_at, minutes), *sections]))


def heading(begun_at: str, minutes: float) -> str:
    """What made the results."""
    return (
        "# What the deviations from the paper's code change\n\n"
        "    .venv/bin/python -m benchmarks.training.deviations\n\n"
        f"Commit {begun_at}, Python {platform.python_version()}, torch {torch.__version__}, one "
        f"thread of {os.cpu_count()} cores (shared with other work), {minutes:.1f} minutes. The "
        "table is [docs/explanation/deviations.md](../../docs/explanation/deviations.md). "
        "*Near* a corner of the bandit (`examples/bandit.py`) is within "
        f"{bandit.NEAR:g} of it.\n"
    )


def section(
    switch: str, measure: Callable[[], trainings.Figures], figures: trainings.Figures
) -> str:
    """One switch: what was measured, and its figures."""
    what = (measure.__doc__ or "").split("\n\n")
    paragraphs = "\n\n".join(" ".join(paragraph.split()) for paragraph in what)
    lines = [f"* {name}: {told(value)}" for name, value in figures.items()]
    return "\n".join([f"## `{switch}`", "", paragraphs.strip(), "", *lines, ""])


def told(value: object) -> str:
    """A figure, or several with their names, in words."""
    if isinstance(value, dict):
        parts = (
            f"{name} ({told(each)})" if isinstance(each, dict) else f"{name} {told(each)}"
            for name, each in value.items()
        )
        return ", ".join(parts).replace("_", " ")
    if isinstance(value, list):
        return ", ".join(told(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def commit() -> str:
    """The commit that is checked out, with a mark if files differ from it."""
    command = ["git", "-C", str(Path(__file__).parents[1]), "describe", "--always", "--dirty"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
