"""All agents on the demo's two-way robot: what they learn, which way they go, and the time taken.

    python -m benchmarks.demo.agents

Each seed has its own demonstrations, trainings and starts; the fast variants of an agent learn
from the same data with the same seed as the plain one. Two trainings run at a time, each a process
on one thread. Prints JSON lines; leaves results/demo_agents.md and docs/images/demo_agents.png.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import tempfile
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.demo.episodes import Episodes, demonstrate
from benchmarks.demo.figure import draw
from benchmarks.demo.findings import DEMONSTRATIONS, Findings
from benchmarks.demo.report import report
from benchmarks.demo.training import Agent, Trained, train_and_drive
from dql_ros.config_files import installed_config

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "demo_agents.md"
FIGURE = ROOT / "docs" / "images" / "demo_agents.png"
SEEDS_A_RUN, DRIVE_SEED = 100_000, 50_000  # as in the demo
AT_A_TIME = 2
_COMPILED, _REDUCED = "run.execution=compiled", "run.precision=bfloat16"
AGENTS = (
    Agent("diffusion_bc", "Diffusion-BC", "scara_bc.yaml"),
    Agent("td3_bc", "TD3+BC", "scara_td3_bc.yaml"),
    Agent("diffusion_ql", "Diffusion-QL", "scara.yaml"),
    Agent("one_step", "Diffusion-QL one_step", "scara_one_step.yaml"),
    Agent(
        "diffusion_ql_compiled",
        "Diffusion-QL, compiled",
        "scara.yaml",
        (_COMPILED,),
        plain="diffusion_ql",
    ),
    Agent(
        "diffusion_ql_bfloat16",
        "Diffusion-QL, compiled bfloat16",
        "scara.yaml",
        (_COMPILED, _REDUCED),
        plain="diffusion_ql",
    ),
    Agent(
        "one_step_bfloat16",
        "Diffusion-QL one_step, compiled bfloat16",
        "scara_one_step.yaml",
        (_COMPILED, _REDUCED),
        plain="one_step",
    ),
)


def main() -> None:
    """Run all seeds, print the figures, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--demonstrations", type=int, default=500)
    parser.add_argument("--episodes", type=int, default=200, help="rollouts of each policy")
    parser.add_argument(
        "--steps", type=int, default=0, help="updates, at least 100, if not the configured ones"
    )
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        findings = run(Path(folder), options)
    facts = {
        "seeds": options.seeds,
        "demonstrations": options.demonstrations,
        "episodes": options.episodes,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "commit": commit(),
        "cpus": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    say(facts=facts, verdicts=findings.verdicts())
    RESULTS.write_text(report(findings, facts))
    draw(findings, FIGURE)


def run(root: Path, options: argparse.Namespace) -> Findings:
    """Demonstrate, train and roll out, two processes at a time."""
    # Of its own, so that the first compilation of each function counts as what it is.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(root / "compiled")
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(AT_A_TIME, context, max_tasks_per_child=1) as processes:
        demonstrated = {
            seed: processes.submit(
                demonstrate, root / f"data-{seed}", seed * SEEDS_A_RUN, options.demonstrations
            )
            for seed in options.seeds
        }
        demonstrations = {seed: future.result() for seed, future in demonstrated.items()}
        trainings = {
            (agent.key, seed): processes.submit(
                train_and_drive,
                installed_config(f"train/{agent.config}"),
                overrides(agent, root / f"data-{seed}", seed, options.steps),
                root / f"{agent.key}-{seed}",
                seed * SEEDS_A_RUN + DRIVE_SEED,
                options.episodes,
            )
            for seed in options.seeds
            for agent in AGENTS
        }
        return Findings(AGENTS, options.seeds, demonstrations, told(demonstrations, trainings))


def overrides(agent: Agent, dataset: Path, seed: int, steps: int) -> tuple[str, ...]:
    """Return what differs from the configuration."""
    fixed = (f"run.seed={seed}", f"data.dataset={dataset}", *agent.overrides)
    return (*fixed, f"run.steps={steps}") if steps else fixed


def told(
    demonstrations: dict[int, Episodes], trainings: dict[tuple[str, int], Future[Trained]]
) -> dict[tuple[str, int], Trained]:
    """Print a line of each result as it comes."""
    for seed, episodes in demonstrations.items():
        say(policy=DEMONSTRATIONS, seed=seed, **summary(episodes))
    results = {}
    for (key, seed), future in trainings.items():
        trained = results[key, seed] = future.result()
        speeds = {name: value for name, value in asdict(trained).items() if name != "episodes"}
        say(policy=key, seed=seed, **summary(trained.episodes), **speeds)
    return results


def summary(episodes: Episodes) -> dict[str, Any]:
    """The figures of some episodes."""
    return {
        "success_rate": episodes.success_rate.to_json(),
        "return": episodes.mean_return.to_json(),
        "inner": episodes.successes_by("inner"),
        "outer": episodes.successes_by("outer"),
    }


def say(**values: Any) -> None:
    """Print one JSON line."""
    print(json.dumps({"benchmark": "demo_agents", **values}), flush=True)


def commit() -> str:
    """The commit that is checked out, with a mark if files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
