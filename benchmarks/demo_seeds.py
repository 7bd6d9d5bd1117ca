"""The demo's bar on several seeds: is Diffusion-QL above the demonstrations and Diffusion-BC?

Each seed has its own demonstrations, trainings and starts. Demonstrations and rollouts happen in
process, which gives the episodes that lockstep over ROS 2 gives. Prints one JSON line; the results
are in results/demo_seeds.md, with the command that made them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from dql_core.cli.policy_source import load_any_policy
from dql_core.data.dataset import Episode, write_dataset
from dql_core.evaluation.confidence import estimate_mean, estimate_rate
from dql_core.evaluation.rollout import EvaluationResult, evaluate
from dql_core.sim import SCARA_ID
from dql_core.sim.scara_demonstrator import ScaraDemonstrator
from dql_ros.contract import load_contract
from dql_ros.demo.training import CONFIGS, configured_training, run_trainings
from dql_ros.installed_config import installed_config

RESULTS = Path(__file__).parent / "results" / "demo_seeds.md"
DEMONSTRATOR = "demonstrator"
SEEDS_A_RUN, DRIVE_SEED = 100_000, 50_000  # as in the demo


@dataclass(frozen=True)
class Figures:
    """What one policy achieved on one seed.

    Attributes:
        success: Share of successes.
        success_ci95: Its interval.
        mean_return: Mean return.
        return_ci95: Its interval.
    """

    success: float
    success_ci95: tuple[float, float]
    mean_return: float
    return_ci95: tuple[float, float]

    @classmethod
    def of(cls, result: EvaluationResult) -> Figures:
        """Summarise rollouts."""
        rate, mean = estimate_rate(result.successes), estimate_mean(result.returns)
        return cls(rate.mean, (rate.low, rate.high), mean.mean, (mean.low, mean.high))


def main() -> None:
    """Run all seeds, print the figures and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--demonstrations", type=int, default=500)
    parser.add_argument("--episodes", type=int, default=200, help="rollouts of each policy")
    arguments = parser.parse_args()
    started = time.monotonic()
    seeds = {
        seed: run_seed(seed, arguments.demonstrations, arguments.episodes)
        for seed in arguments.seeds
    }
    line = {
        "benchmark": "demo_seeds",
        "meets_the_bar": all(meets_the_bar(policies) for policies in seeds.values()),
        "seeds": {
            seed: {key: vars(figures) for key, figures in policies.items()}
            for seed, policies in seeds.items()
        },
        "demonstrations": arguments.demonstrations,
        "episodes": arguments.episodes,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "commit": commit(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }
    print(json.dumps(line))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(report(seeds, line))


def run_seed(seed: int, demonstrations: int, episodes: int) -> dict[str, Figures]:
    """Demonstrate, train and roll out once."""
    first = seed * SEEDS_A_RUN
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        demonstrated = demonstrate(root / "dataset", first, demonstrations)
        trainings = [configured_training(key, root, seed, first) for key in CONFIGS]
        run_trainings(trainings)
        driven = {
            training.key: evaluate(
                load_any_policy(training.run), SCARA_ID, episodes, first + DRIVE_SEED
            )
            for training in trainings
        }
    return {
        key: Figures.of(result) for key, result in {DEMONSTRATOR: demonstrated, **driven}.items()
    }


def demonstrate(dataset: Path, seed: int, count: int) -> EvaluationResult:
    """Let the scripted operator drive and write the dataset."""
    spec = load_contract(installed_config("contracts/scara.yaml")).policy_spec()
    env, operator = gymnasium.make(SCARA_ID), ScaraDemonstrator(spec)
    rng = np.random.default_rng(seed)
    episodes, successes = [], []
    for index in range(count):
        observation, _ = env.reset(seed=seed + index)
        operator.reset()
        observations, actions, rewards = [observation.astype(np.float32)], [], []
        terminated = truncated = False
        while not (terminated or truncated):
            actions.append(operator.act(observations[-1], rng).action)
            observation, reward, terminated, truncated, info = env.step(
                actions[-1].astype(np.float64)
            )
            observations.append(observation.astype(np.float32))
            rewards.append(float(reward))
        successes.append(bool(info["is_success"]))
        episodes.append(
            Episode(
                np.array(observations), np.array(actions), np.array(rewards), terminated, truncated
            )
        )
    write_dataset(dataset, episodes, spec)
    returns = tuple(float(episode.rewards.sum()) for episode in episodes)
    return EvaluationResult(returns, tuple(map(len, episodes)), tuple(successes))


def meets_the_bar(policies: dict[str, Figures]) -> bool:
    """Whether Diffusion-QL is above the others in success rate and in mean return."""
    best = policies["diffusion_ql"]
    others = (figures for key, figures in policies.items() if key != "diffusion_ql")
    return all(
        best.success > other.success and best.mean_return > other.mean_return for other in others
    )


def report(seeds: dict[int, dict[str, Figures]], line: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = [
        f"| {seed} | {key} | {f.success:.1%} | {f.success_ci95[0]:.1%} to {f.success_ci95[1]:.1%} "
        f"| {f.mean_return:.2f} | {f.return_ci95[0]:.2f} to {f.return_ci95[1]:.2f} |"
        for seed, policies in seeds.items()
        for key, f in policies.items()
    ]
    verdict = "meets" if line["meets_the_bar"] else "does not meet"
    names = " ".join(str(seed) for seed in seeds)
    return "\n".join(
        [
            "# The demo's bar on several seeds",
            "",
            f"    .venv/bin/python benchmarks/demo_seeds.py --seeds {names} "
            f"--demonstrations {line['demonstrations']} --episodes {line['episodes']}",
            "",
            f"Commit {line['commit']}, Python {line['python']}, {line['cpus']} cores, "
            f"{line['minutes']} minutes. Diffusion-QL {verdict} the bar: success rate and mean "
            "return above the demonstrations' and above Diffusion-BC's on every seed.",
            "",
            "| seed | policy | success rate | 95 % interval | mean return | 95 % interval |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def commit() -> str:
    """The commit that is checked out, with a mark if files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
