"""Our agents: trained as `dql train` does, their checkpoints rolled out afterwards."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.suite.measuring import Clock, Plan, Rollouts
from benchmarks.suite.rows import Point, Row
from dql_core.config import TrainConfig
from dql_core.data.dataset import load_dataset
from dql_core.documents import RUN_FILE
from dql_core.errors import ConfigError, DqlError
from dql_core.training.checkpoint import load_checkpoint
from dql_core.training.loop import train
from dql_core.training.run_files import (
    CONFIG_FILE,
    METRICS_FILE,
    append_record,
    checkpoint_folder,
    checkpoint_steps,
    drop_after,
    read_records,
    read_run_info,
)

CLOCK_FILE = "clock.jsonl"


def train_ours(plan: Plan, config: TrainConfig) -> tuple[list[Point], str, int]:
    """Train, or go on with a training that was interrupted, and roll its checkpoints out.

    Returns:
        The curve, why the training failed, if it did, and the number of alarms.

    Raises:
        KeyboardInterrupt: If it is interrupted; what is done stays.
    """
    run, failure = plan.folder / "run", ""
    begun = (run / CONFIG_FILE).is_file()
    stopwatch = Stopwatch(plan.folder / CLOCK_FILE, (checkpoint_steps(run) or [0])[-1])
    try:
        result = train(config, run, stopwatch.report, resume=begun)
        if not result.finished:
            raise KeyboardInterrupt
    except DqlError as cause:
        # Only a training that broke by itself is a result.
        if not (run / RUN_FILE).is_file() or not read_run_info(run).get("failure"):
            raise
        failure = str(cause)
    return roll_out(plan, run), failure, len(read_run_info(run)["q_alarms"])


class Stopwatch:
    """Notes the time at each reading of a training, over all its processes.

    Args:
        path: Where it is noted.
        step: Where the training goes on; what was noted of later steps is dropped.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        drop_after(path, step)
        noted = read_records(path)
        self._before = (noted[-1]["seconds"], noted[-1]["cpu_seconds"]) if noted else (0.0, 0.0)
        self._since = time.perf_counter(), time.process_time()

    def report(self, step: int, _: Mapping[str, float]) -> None:
        """Note the time at a step."""
        wall, computing = self._before
        reading = {
            "step": step,
            "seconds": wall + time.perf_counter() - self._since[0],
            "cpu_seconds": computing + time.process_time() - self._since[1],
        }
        append_record(self._path, reading)


def roll_out(plan: Plan, run: Path) -> list[Point]:
    """Roll the checkpoints of a training out; those that were before are not again."""
    done = plan.folder / "curve.json"
    curve = [Point(**point) for point in json.loads(done.read_text())] if done.is_file() else []
    clocks = {each["step"]: each for each in read_records(plan.folder / CLOCK_FILE)}
    losses = {each["step"]: each.get("critic") for each in read_records(run / METRICS_FILE)}
    rollouts = Rollouts(plan, load_dataset(plan.dataset))
    # An interruption leaves a checkpoint anywhere.
    due = set(plan.steps) & set(clocks) - {point.step for point in curve}
    for step in checkpoint_steps(run):
        if step in due:
            clock = Clock(clocks[step]["seconds"], clocks[step]["cpu_seconds"])
            policy = load_checkpoint(checkpoint_folder(run, step)).policy()
            curve.append(rollouts.point(step, clock, policy, losses.get(step)))
            done.write_text(json.dumps([vars(point) for point in curve]))
            print(f"{plan.name} step {step}: {curve[-1].score:.1f}", flush=True)
    rollouts.close()
    return curve


def choose_otherwise(plan: Plan, selection: Mapping[str, Any], trained: Row, run: Path) -> Point:
    """Roll the last policy of a finished training out, choosing in another way.

    Args:
        plan: What is measured.
        selection: What differs in the section ``selection``.
        trained: The training's row, whose time counts.
        run: The training.

    Raises:
        ConfigError: If it is no longer there, or did not come to its last update.
    """
    last = trained.curve[-1] if trained.curve else None
    if last is None or last.step != plan.updates or last.step not in checkpoint_steps(run):
        raise ConfigError(f"{run}: has no policy of its last update: train {trained.key} again")
    policy = load_checkpoint(checkpoint_folder(run, last.step)).policy(**selection)
    rollouts = Rollouts(plan, load_dataset(plan.dataset))
    clock = Clock(last.seconds, last.cpu_seconds)
    try:
        return rollouts.point(last.step, clock, policy, last.critic_loss)
    finally:
        rollouts.close()


def clean(plan: Plan) -> None:
    """Remove all checkpoints of a finished training but the last, if it came to any."""
    run = plan.folder / "run"
    for step in checkpoint_steps(run)[:-1]:
        shutil.rmtree(checkpoint_folder(run, step))
