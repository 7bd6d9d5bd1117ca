"""Trains several agents at a time, each in a process of its own, and rolls out each checkpoint.

    python -m dql_ros.demo.training ROOT CONFIG OUT CURVE_SEED KEY=VALUE...

runs one of them. OUT is relative to the folder ROOT, which is renamed when the demo is done: the
configuration names the dataset where it will be then, and ROOT holds it until then.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dql_core.config import load_config
from dql_core.data.dataset import load_dataset
from dql_core.errors import DqlError
from dql_core.evaluation.rollout import evaluate
from dql_core.export.policy_source import load_any_policy
from dql_core.process import ChildProcess, ChildProcesses, is_orphan, run_child
from dql_core.training.loop import train
from dql_core.training.run_files import CHECKPOINTS_FOLDER, METRICS_FILE, read_records
from dql_ros.config_files import installed_config
from dql_ros.sim.episodes import BUNDLED_ENVIRONMENT

CONFIGS = {"diffusion_bc": "train/scara_bc.yaml", "diffusion_ql": "train/scara.yaml"}
CURVE_POINTS, CURVE_EPISODES = 8, 20
CURVE_FILE, DATASET = "learning_curve.jsonl", "dataset"
_POLL_S = 0.2


@dataclass(frozen=True)
class Training:
    """One training to run.

    Attributes:
        key: The agent's name in files.
        config: Training configuration.
        overrides: ``section.key=value`` on top of it.
        root: Folder that all other paths are in.
        steps: Updates it takes.
        curve_points: Checkpoints it leaves.
        curve_seed: Seed of their rollouts.
    """

    key: str
    config: Path
    overrides: tuple[str, ...]
    root: Path
    steps: int
    curve_points: int
    curve_seed: int

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.root / "training" / self.key

    @property
    def amount(self) -> int:
        """Work to do, for the progress bar: updates, and rollouts as so many updates."""
        return self.steps + self.curve_points * self._updates_a_point

    def done(self) -> int:
        """Work done."""
        metrics, points = (
            read_records(self.run / METRICS_FILE),
            read_records(self.run / CURVE_FILE),
        )
        updates = metrics[-1]["step"] if metrics else 0
        return int(updates) + len(points) * self._updates_a_point

    def command(self) -> list[str]:
        """Command line of its process."""
        module = [sys.executable, "-m", "dql_ros.demo.training"]
        out = str(self.run.relative_to(self.root))
        arguments = [str(self.root), str(self.config), out, str(self.curve_seed)]
        return [*module, *arguments, *self.overrides]

    @property
    def _updates_a_point(self) -> int:
        return self.steps // 50 or 1


def configured_training(
    key: str, root: Path, seed: int, curve_seed: int, steps: int = 0, home: Path | None = None
) -> Training:
    """Prepare the training of one of the demo's agents on the dataset in ``root``.

    Args:
        key: Which of `CONFIGS`.
        root: Folder that holds ``dataset``.
        home: What ``root`` will be in the end, if something else.
        seed: Seed of the training.
        curve_seed: Seed of the checkpoints' rollouts.
        steps: Updates to take; 0 for the configuration's.
    """
    config = installed_config(CONFIGS[key])
    overrides = [f"run.seed={seed}", f"data.dataset={(home or root).absolute() / DATASET}"]
    if steps:
        overrides.append(f"run.steps={steps}")
    steps = load_config(config, overrides).run.steps
    every = -(-steps // CURVE_POINTS)
    return Training(
        key=key,
        config=config,
        overrides=(*overrides, f"run.checkpoint_every={every}"),
        root=root,
        steps=steps,
        curve_points=-(-steps // every),
        curve_seed=curve_seed,
    )


def run_trainings(
    trainings: Sequence[Training], show: Callable[[Training], None] = lambda _: None
) -> None:
    """Run all at once and wait for all, calling ``show`` now and then; no process is left.

    Raises:
        DqlError: If one fails; the message ends with the last line that it wrote.
    """
    with ChildProcesses() as children:
        running = [
            children.add(partial(ChildProcess, f"training {each.key}", each.command()))
            for each in trainings
        ]
        while any(child.exit_code is None for child in running):
            children.check(DqlError)
            for training in trainings:
                show(training)
            time.sleep(_POLL_S)
        children.check(DqlError)


def main() -> None:
    """Run the process; exits with 2 on a user's mistake, 130 when interrupted."""
    run_child(_train_and_evaluate)


def _train_and_evaluate() -> bool:
    root, config_path, out, seed, *overrides = sys.argv[1:]
    end_with_parent()
    config = load_config(Path(config_path).resolve(), overrides)
    os.chdir(root)
    dataset = load_dataset(DATASET)
    finished = train(config, Path(out), end_with_parent, dataset=dataset).finished
    if finished:
        write_curve(Path(out), int(seed))
    return finished


def write_curve(run: Path, seed: int) -> None:
    """Roll out every checkpoint of ``run`` from the same starts, and write a line of each."""
    with (run / CURVE_FILE).open("w") as file:
        for checkpoint in sorted((run / CHECKPOINTS_FOLDER).iterdir()):
            policy, episodes = load_any_policy(checkpoint), CURVE_EPISODES
            result = evaluate(policy, BUNDLED_ENVIRONMENT, episodes, seed, end_with_parent)
            point = {"step": int(checkpoint.name.removeprefix("step-")), **result.to_json()}
            file.write(json.dumps(point) + "\n")
            file.flush()


def end_with_parent(_step: int = 0, _metrics: Mapping[str, float] | None = None) -> None:
    """End this process if the one that started it is gone."""
    if is_orphan():
        raise KeyboardInterrupt


if __name__ == "__main__":
    main()
