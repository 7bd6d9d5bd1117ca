"""How fast an update is: ratios against a plain eager PyTorch step, one JSON line a measurement.

    python -m benchmarks.update             # one and two threads, and how the cost grows
    python -m benchmarks.update --threads 1

Sizes are the paper's: batch 256, 3 x 256 Mish, N = 5; observation 17 and action 6 wide. Each
variant and the yardstick (`yardstick.py`) take turns of 20 updates, so that whatever
else the machine does falls on all of them; the ratio is the median over the turns.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.yardstick import Yardstick, with_the_papers_work
from dql_core.algo.diffusion_ql import DiffusionQL
from dql_core.config import TrainConfig
from dql_core.data.transitions import Batch

OBSERVATION_SIZE, ACTION_SIZE, BATCH_SIZE = 17, 6, 256
ROUNDS, UPDATES_A_TURN, WARM_UP = 10, 20, 5
VARIANTS: dict[str, dict[str, Any]] = {
    "eager float32": {"run": {"execution": "eager"}},
    "compiled float32": {"run": {"execution": "compiled"}},
    "compiled bfloat16": {"run": {"execution": "compiled", "precision": "bfloat16"}},
    "eager float32, one_step": {
        "run": {"execution": "eager"},
        "policy": {"policy_gradient": "one_step"},
    },
    "compiled bfloat16, one_step": {
        "run": {"execution": "compiled", "precision": "bfloat16"},
        "policy": {"policy_gradient": "one_step"},
    },
    "compiled float32, mean_flow": {
        "run": {"execution": "compiled"},
        "policy": {"kind": "mean_flow"},
    },
    "compiled bfloat16, mean_flow": {
        "run": {"execution": "compiled", "precision": "bfloat16"},
        "policy": {"kind": "mean_flow"},
    },
}
BATCH_SIZES = (64, 128, 256, 512, 1024)
DIFFUSION_STEPS = (1, 2, 5, 10, 20)
TARGET_SAMPLES = (1, 2, 5, 10)


def main() -> None:
    """Measure in one process for each number of threads: compiled code is made for one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, help="measure with this number of threads only")
    threads = parser.parse_args().threads
    if threads:
        torch.set_num_threads(threads)
        compare(threads)
        return
    for count in (1, 2):
        subprocess.run(
            [sys.executable, "-m", "benchmarks.update", "--threads", str(count)], check=True
        )
    torch.set_num_threads(1)
    cost_curves()


def compare(threads: int) -> None:
    """Let the variants and the yardstick take turns."""
    torch.manual_seed(0)
    yardstick = Yardstick(OBSERVATION_SIZE, ACTION_SIZE)
    updates: dict[str, Callable[[], Any]] = {"yardstick": lambda: yardstick.update(BATCH_SIZE)}
    first_update_s = {"yardstick": 0.0}
    for name, settings in VARIANTS.items():
        updates[name] = updater(settings, BATCH_SIZE)
        begun = time.perf_counter()
        updates[name]()
        first_update_s[name] = time.perf_counter() - begun
    for update in updates.values():
        turn_ms(update, WARM_UP)
    turns = [
        {name: turn_ms(update, UPDATES_A_TURN) for name, update in updates.items()}
        for _ in range(ROUNDS)
    ]
    for name in updates:
        times = [turn[name] for turn in turns]
        ratios = [turn["yardstick"] / turn[name] for turn in turns]
        report(
            variant=name,
            threads=threads,
            median_ms=round(statistics.median(times), 2),
            fastest_ms=round(min(times), 2),
            updates_per_s=round(1e3 / statistics.median(times), 1),
            times_the_yardstick=round(statistics.median(ratios), 2),
            ratio_quartiles=[round(q, 2) for q in statistics.quantiles(ratios, n=4)[::2]],
            first_update_s=round(first_update_s[name], 1),
        )


def cost_curves() -> None:
    """Vary one size at a time around the paper's."""
    eager = {"run": {"execution": "eager"}}
    points: list[tuple[str, int, dict[str, Any], int]] = [
        *(("batch_size", size, eager, size) for size in BATCH_SIZES),
        *(
            ("num_diffusion_steps", n, eager | {"diffusion": {"num_diffusion_steps": n}}, 256)
            for n in DIFFUSION_STEPS
        ),
        *(
            ("max_q_samples", s, eager | {"critic": {"max_q_samples": s}}, 256)
            for s in TARGET_SAMPLES
        ),
    ]
    for name, value, settings, batch_size in points:
        update = updater(settings, batch_size)
        turn_ms(update, WARM_UP)
        times = [turn_ms(update, UPDATES_A_TURN) for _ in range(ROUNDS // 2)]
        report(curve=name, value=value, threads=1, median_ms=round(statistics.median(times), 2))


def updater(
    settings: dict[str, Any], batch_size: int, kind: type[DiffusionQL] = DiffusionQL
) -> Callable[[], Any]:
    """Return the update of a new agent on one batch of random numbers."""
    torch.manual_seed(0)
    config = TrainConfig.model_validate(with_the_papers_work(settings))
    agent = kind(config, OBSERVATION_SIZE, ACTION_SIZE, torch.Generator())
    batch = Batch(
        observation=torch.randn(batch_size, OBSERVATION_SIZE),
        action=torch.rand(batch_size, ACTION_SIZE) * 2 - 1,
        reward=torch.randn(batch_size),
        next_observation=torch.randn(batch_size, OBSERVATION_SIZE),
        bootstrap=torch.ones(batch_size),
    )
    return lambda: agent.update(batch)


def turn_ms(update: Callable[[], Any], count: int) -> float:
    """Return the time of one of ``count`` updates in milliseconds."""
    begun = time.perf_counter()
    for _ in range(count):
        update()
    return (time.perf_counter() - begun) / count * 1e3


def report(**values: Any) -> None:
    """Print one JSON line."""
    machine = {
        "cpus": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    print(json.dumps({"benchmark": "update", **values, **machine}), flush=True)


if __name__ == "__main__":
    main()
