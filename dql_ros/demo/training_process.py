"""A training as a process of its own: trains, then rolls out each checkpoint.

    python -m dql_ros.demo.training_process ROOT CONFIG OUT ENV EPISODES SEED KEY=VALUE...

OUT and the dataset named by the configuration are relative to the folder ROOT, which is renamed
when the demo is done: only such paths last.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from dql_core.config import load_config
from dql_core.evaluation.rollout import evaluate
from dql_core.export.policy_source import load_any_policy
from dql_core.process import is_orphan, run_child
from dql_core.training.loop import train
from dql_core.training.run_files import CHECKPOINTS_FOLDER

CURVE_FILE = "learning_curve.jsonl"


def main() -> None:
    """Run the process; exits with 2 on a user's mistake, 130 when interrupted."""
    run_child(_train_and_evaluate)


def _train_and_evaluate() -> bool:
    root, config_path, out, env, episodes, seed, *overrides = sys.argv[1:]
    end_with_parent()
    config = load_config(Path(config_path).resolve(), overrides)
    os.chdir(root)
    finished = train(config, Path(out), end_with_parent).finished
    if finished:
        write_curve(Path(out), env, int(episodes), int(seed))
    return finished


def write_curve(run: Path, env: str, episodes: int, seed: int) -> None:
    """Roll out every checkpoint of ``run`` and write what came of it, one line each.

    Args:
        run: The run's folder.
        env: Gymnasium id.
        episodes: Number of episodes a checkpoint.
        seed: Episode i starts from ``seed + i``, for every checkpoint alike.
    """
    with (run / CURVE_FILE).open("w") as file:
        for checkpoint in sorted((run / CHECKPOINTS_FOLDER).iterdir()):
            result = evaluate(
                load_any_policy(checkpoint), env, episodes, seed, lambda _: end_with_parent()
            )
            point = {"step": int(checkpoint.name.removeprefix("step-")), **result.to_json()}
            file.write(json.dumps(point) + "\n")
            file.flush()


def end_with_parent(_step: int = 0, _metrics: Mapping[str, float] | None = None) -> None:
    """End this process if the one that started it is gone."""
    if is_orphan():
        raise KeyboardInterrupt


if __name__ == "__main__":
    main()
