"""The same training with several seeds on a Ray cluster whose machines share a file system.

Each is a task of one processor. Where its machine dies, Ray starts it again on another one, and
the run goes on from its last checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dql_core.errors import DqlError
from dql_core.process import Interruption, log_lines
from dql_core.ray_cluster import Surroundings, connected, failure_of
from dql_core.training.loop import train
from dql_core.training.multi_seed import Reporter, SeedRun
from dql_core.training.run_files import CONFIG_FILE, METRICS_FILE, read_records

# How often a run may be begun again elsewhere.
RETRIES = 3
POLL_S = 1.0
# How long a run may take to save a checkpoint after Ctrl-C.
GRACE_S = 30.0


@dataclass(frozen=True)
class Ended:
    """What a task reports of its run, besides the files in the run's folder.

    Attributes:
        error: Why it failed; empty if it did not.
        said: What it logged: level and text.
    """

    error: str = ""
    said: tuple[tuple[int, str], ...] = ()


def run_seeds_on_cluster(
    runs: Sequence[SeedRun], reporter: Reporter, address: str
) -> dict[int, str]:
    """Run all that are not finished, as many at a time as the cluster has processors.

    Args:
        runs: What to run; their folders and data must be visible to all machines of the cluster.
        reporter: Shows how they go.
        address: Of the cluster, see `connected`.

    Returns:
        As `run_seeds`.

    Raises:
        ConfigError: If Ray is not installed, or no cluster answers.
    """
    failures = {run.seed: "" for run in runs if run.finished}
    with connected(address) as ray, Interruption() as interruption:
        surroundings = Surroundings.here()
        running: dict[Any, _Watched] = {}
        try:
            for run in runs:
                if run.seed not in failures:
                    task = _remote(ray, run).remote(run, surroundings)
                    running[task] = _Watched(run)
            while running and not interruption.requested:
                ended, _ = ray.wait(list(running), num_returns=1, timeout=POLL_S)
                for watched in running.values():
                    watched.report(reporter)
                for task in ended:
                    run = running.pop(task).run
                    failures[run.seed] = _outcome(ray, task, run, reporter)
        finally:
            for task in running:
                ray.cancel(task)
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=GRACE_S)
    return {run.seed: failures[run.seed] for run in runs if run.seed in failures}


def _remote(ray: Any, run: SeedRun) -> Any:
    """Return what trains a run on the cluster; one for CUDA gets a GPU of its own."""
    gpus = int(run.config.run.device.startswith("cuda"))
    return ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(train_there)


def train_there(run: SeedRun, surroundings: Surroundings) -> Ended:
    """Train on a machine of the cluster, as on the user's own; a run that was begun goes on."""
    if refusal := surroundings.enter():
        return Ended(refusal)
    said = _Said()
    begun = run.resume or (run.out / CONFIG_FILE).is_file()
    try:
        with log_lines(said):
            train(run.config, run.out, resume=begun)
    except DqlError as cause:
        return Ended(str(cause), tuple(said.lines))
    return Ended(said=tuple(said.lines))


def _outcome(ray: Any, task: Any, run: SeedRun, reporter: Reporter) -> str:
    """Show what a run said; return why it failed, or nothing."""
    try:
        ended: Ended = ray.get(task)
    except ray.exceptions.RayError as error:
        return f"the Ray worker that trained it failed: {failure_of(ray, error)}"
    for level, text in ended.said:
        reporter.log(run.seed, level, text)
    return ended.error


@dataclass
class _Watched:
    """A run on the cluster, seen by the metrics that it writes."""

    run: SeedRun
    _size: int = field(default=0, init=False)

    def report(self, reporter: Reporter) -> None:
        """Show its last reading, if that is new."""
        file = self.run.out / METRICS_FILE
        size = file.stat().st_size if file.is_file() else 0
        if size == self._size:
            return
        self._size = size
        *_, last = read_records(file) or [{}]
        if "step" in last:
            values = {name: value for name, value in last.items() if name != "step"}
            reporter.report(self.run.seed, int(last["step"]), values)


class _Said(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelno, record.getMessage()))
