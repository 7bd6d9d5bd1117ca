"""The same training with several seeds, each in a process of its own, at most one a core.

    python -m dql_core.training.multi_seed OUT RESUME < CONFIG

is such a process: CONFIG is its resolved configuration as JSON; RESUME is 1 to go on with the run
in OUT, else 0. It reports by JSON documents, one a line.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import Field

from dql_core.config import TrainConfig
from dql_core.documents import file_within, read_json
from dql_core.errors import CheckpointError, ConfigError
from dql_core.evaluation.statistics import Estimate, estimate_mean
from dql_core.files import write_text
from dql_core.presets import as_saved
from dql_core.process import ChildProcess, Interruption, log_lines, run_child
from dql_core.strict_yaml import StrictModel, parse
from dql_core.training.action_bounds import AT_BOUNDS
from dql_core.training.loop import train
from dql_core.training.run_files import (
    CONFIG_FILE,
    METRICS_FILE,
    VALIDATION_FILE,
    checkpoint_steps,
    read_best,
    read_records,
)
from dql_core.training.run_folder import require_new

SEEDS_FILE = "seeds.json"
SUMMARY_FILE = "summary.json"
# Of the last line of metrics; the others describe the run rather than its end.
LOSSES = ("imitation", "critic", "q_data")
_POLL_S = 0.2
# A seed and a line that its process wrote, or None when it has no more to say.
Messages = queue.Queue[tuple[int, str | None]]


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def run_seeds(runs: Sequence[SeedRun], reporter: Reporter, at_once: int) -> dict[int, str]:
    """Run all that are not finished; whatever happens, no process is left.

    Args:
        runs: What to run.
        reporter: Shows how they go.
        at_once: Processes at a time.

    Returns:
        By seed, in the order of ``runs``, what each said last if it failed, else nothing. After a
        Ctrl-C those that run save a checkpoint and stop; they and those that did not begin are
        left out.
    """
    waiting = deque(run for run in runs if not run.finished)
    failures: dict[int, str | None] = {run.seed: "" for run in runs if run.finished}
    running: dict[int, _Child] = {}
    messages: Messages = queue.Queue()
    with Interruption() as interruption:
        try:
            while waiting or running:
                if interruption.requested:
                    waiting.clear()
                    for process in running.values():
                        process.interrupt()
                while waiting and len(running) < at_once:
                    run = waiting.popleft()
                    running[run.seed] = _Child(run, messages)
                try:
                    seed, line = messages.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
                if line is not None:
                    _show(seed, line, reporter)
                else:
                    failures[seed] = running.pop(seed).reason()
        finally:
            for process in running.values():
                process.kill()
    ended = {run.seed: failures.get(run.seed) for run in runs}
    return {seed: failure for seed, failure in ended.items() if failure is not None}


@dataclass(frozen=True)
class SeedRun:
    """One of the runs.

    Attributes:
        config: Its configuration.
        out: Its folder.
        resume: Whether it goes on.
    """

    config: TrainConfig
    out: Path
    resume: bool = False

    @property
    def seed(self) -> int:
        """What makes it differ from the others."""
        return self.config.run.seed

    @property
    def finished(self) -> bool:
        """Whether its last checkpoint is there and was measured."""
        steps = self.config.run.steps
        measured = read_records(self.out / VALIDATION_FILE)
        return checkpoint_steps(self.out)[-1:] == [steps] and any(
            record["step"] == steps for record in measured
        )


class Reporter(Protocol):
    """Shows how the runs go."""

    def report(self, seed: int, step: int, metrics: dict[str, float]) -> None:
        """Show a reading."""

    def log(self, seed: int, level: int, text: str) -> None:
        """Show a message of one of `logging`'s levels."""


class _Child(ChildProcess):
    """The process of one of the runs, whose lines go to ``messages``."""

    def __init__(self, run: SeedRun, messages: Messages) -> None:
        super().__init__(
            f"seed {run.seed}",
            [sys.executable, "-m", __name__, str(run.out), str(int(run.resume))],
            on_output=lambda line: messages.put((run.seed, line)),
            has_input=True,
        )
        self._interrupted = False
        self.end_input(run.config.model_dump_json())

    def interrupt(self) -> None:
        """Ask it once to save a checkpoint and stop."""
        if not self._interrupted:
            self.send_signal(signal.SIGINT)
            self._interrupted = True

    def reason(self) -> str | None:
        """Return what it said last if it failed, else ""; None if it was interrupted."""
        self.wait()
        if self.exit_code == 0:
            return ""
        return None if self._interrupted else self.last_words


def _show(seed: int, line: str, reporter: Reporter) -> None:
    """Show one line of a process; one that is not of `_send` is left out."""
    try:
        message = json.loads(line)
    except ValueError:
        return
    if isinstance(message, dict) and "step" in message:
        reporter.report(seed, message["step"], message["metrics"])
    elif isinstance(message, dict):
        reporter.log(seed, message["level"], message["text"])


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds from the command line, such as ``0,1,2``.

    Raises:
        ConfigError: If one is no number, or is there twice.
    """
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {text}: must be different numbers of at least 0, as in 0,1,2")
    return seeds


class SeedsDocument(StrictModel):
    """What ``seeds.json`` says: with which seeds which configuration is to be run."""

    seeds: tuple[Annotated[int, Field(strict=True, ge=0)], ...]
    config: TrainConfig


def create_seed_folder(
    folder: Path,
    config: TrainConfig,
    seeds: Sequence[int],
    files: Mapping[str, str] | None = None,
) -> None:
    """Make ``folder`` and note in it what is to be run there.

    Args:
        folder: Of all runs.
        config: What is run with each of the seeds.
        seeds: The seeds.
        files: Further texts by the name of their file.

    Raises:
        ConfigError: If it already holds something.
    """
    require_new(folder)
    folder.mkdir(parents=True, exist_ok=True)
    document = SeedsDocument(seeds=tuple(seeds), config=config).model_dump(mode="json")
    write_text(folder / SEEDS_FILE, json.dumps(document, indent=2) + "\n")
    for name, text in (files or {}).items():
        write_text(folder / name, text)


def is_seed_folder(folder: Path) -> bool:
    """Return whether ``folder`` holds several runs instead of one."""
    return (folder / SEEDS_FILE).is_file()


def read_seed_folder(folder: Path) -> tuple[TrainConfig, tuple[int, ...]]:
    """Return what `create_seed_folder` noted.

    Raises:
        CheckpointError: If that is damaged.
    """
    path = folder / SEEDS_FILE
    if not path.is_file():
        raise CheckpointError(f"{folder}: does not hold runs of several seeds (no {SEEDS_FILE})")
    content = read_json(file_within(folder, SEEDS_FILE, CheckpointError), CheckpointError)
    if isinstance(content.get("config"), dict):
        content["config"] = as_saved(content["config"])
    document = parse(content, SeedsDocument, f"{path}: damaged", CheckpointError)
    return document.config, document.seeds


def seed_runs(folder: Path, config: TrainConfig, seeds: Sequence[int]) -> list[SeedRun]:
    """Return the runs of ``folder``, each on one thread; those that were begun go on.

    Raises:
        CheckpointError: If one is a link to somewhere else.
    """
    runs = []
    for seed in seeds:
        out = folder / f"seed-{seed}"
        own = config.run.model_copy(update={"seed": seed, "num_threads": 1})
        if out.is_symlink():
            raise CheckpointError(f"{out}: is a symbolic link: replace it by the real folder")
        begun = (out / CONFIG_FILE).is_file()
        runs.append(SeedRun(config.model_copy(update={"run": own}), out, resume=begun))
    return runs


@dataclass(frozen=True)
class Figure:
    """One number of every run.

    Attributes:
        values: The number by seed; a run that lacks it is left out.
    """

    values: Mapping[int, float]

    @property
    def estimate(self) -> Estimate:
        """Mean and 95 % interval over the seeds."""
        return estimate_mean(list(self.values.values()))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document."""
        values = {str(seed): value for seed, value in self.values.items()}
        return self.estimate.to_json() | {"by_seed": values}


def summarize(runs: Mapping[int, Path]) -> dict[str, Figure]:
    """Return the final figures of finished runs.

    Where they were rolled out: returns and success rates at ``last``, ``best_offline`` and
    ``best_online``. Elsewhere: losses of the last reading, and errors on held-out episodes at
    ``last`` and ``best_offline``.

    Args:
        runs: Run folders by seed.

    Raises:
        CheckpointError: If what a run has measured is damaged.
    """
    by_seed = {seed: _figures(run) for seed, run in runs.items()}
    names = dict.fromkeys(name for figures in by_seed.values() for name in figures)
    return {
        name: Figure({seed: figures[name] for seed, figures in by_seed.items() if name in figures})
        for name in names
    }


def _figures(run: Path) -> dict[str, float]:
    try:
        figures = _rollouts(run) or _losses(run)
        return {name: float(value) for name, value in figures.items()}
    except (LookupError, TypeError, ValueError) as cause:
        raise CheckpointError(
            f"{run}: damaged: {type(cause).__name__}: {cause}; restore it from a copy, "
            f"or train again"
        ) from cause


def _chosen_records(run: Path) -> dict[str, dict[str, Any]]:
    """What was measured at the last checkpoint and at the best ones, by their names."""
    records = {record["step"]: record for record in read_records(run / VALIDATION_FILE)}
    best = {which: chosen.get("step") for which, chosen in read_best(run).items()}
    if best.get("last_healthy") == best.get("last"):
        best.pop("last_healthy", None)
    return {which: records[step] for which, step in best.items() if step in records}


def _rollouts(run: Path) -> dict[str, Any]:
    return {
        f"{name} ({which})": record["online"][key]
        for key, name in (("mean_return", "return"), ("success_rate", "success rate"))
        for which, record in _chosen_records(run).items()
        if key in record.get("online", {})
    }


def _losses(run: Path) -> dict[str, Any]:
    *_, last = read_records(run / METRICS_FILE)
    losses = {f"{name} (last)": last[name] for name in LOSSES if name in last}
    return losses | {
        f"{name.replace('held_out_', 'held-out ').replace('_', ' ')} ({which})": value
        for which, record in _chosen_records(run).items()
        for name, value in record.items()
        if name.startswith("held_out_") or name in AT_BOUNDS
    }


class _JsonLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _send({"level": record.levelno, "text": record.getMessage()})


def _train() -> bool:
    config = TrainConfig.model_validate_json(sys.stdin.read())
    with log_lines(_JsonLines()):
        return train(config, Path(sys.argv[1]), _report, resume=sys.argv[2] == "1").finished


def _report(step: int, metrics: Mapping[str, float]) -> None:
    _send({"step": step, "metrics": dict(metrics)})


def _send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run_child(_train)
