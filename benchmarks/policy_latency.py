"""How long one decision takes on one CPU thread, and what the process needs: one JSON line each.

The networks have the paper's size (3 x 256, N = 5) and HalfCheetah's widths (17 and 6); the
weights are random, since the time does not depend on them. The export is measured in this
process, the policy in one of its own that never imports torch.
"""

# The measuring process must not import what the export needs.
# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

OBSERVATION_SIZE, ACTION_SIZE = 17, 6
CANDIDATES = (1, 10, 50, 100)
WARM_UP, REPEATS = 50, 1000


def main() -> None:
    """Export a policy and measure it in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    with tempfile.TemporaryDirectory() as folder:
        bundle = export_random(Path(folder))
        subprocess.run([sys.executable, __file__, "--measure", str(bundle)], check=True)


def export_random(folder: Path) -> Path:
    """Export an untrained Diffusion-QL policy; return the bundle's folder."""
    import torch

    from dql_core.algo.agent import make_agent
    from dql_core.config import TrainConfig
    from dql_core.export.bundle import export_bundle
    from dql_core.normalize import Normalizer
    from dql_core.spec import FieldSpec, PolicySpec
    from dql_core.training.checkpoint import Checkpoint, save_checkpoint

    fields = tuple(FieldSpec(f"observation[{i}]") for i in range(OBSERVATION_SIZE))
    action = tuple(FieldSpec(f"action[{i}]", "", -1.0, 1.0) for i in range(ACTION_SIZE))
    spec = PolicySpec("benchmark", 50.0, fields, action)
    config = TrainConfig()
    torch.manual_seed(0)
    checkpoint = Checkpoint(
        spec=spec,
        config=config,
        normalizer=Normalizer.for_actions_only(
            OBSERVATION_SIZE, [-1.0] * ACTION_SIZE, [1.0] * ACTION_SIZE
        ),
        agent=make_agent(config, spec, torch.Generator()),
        batches=torch.Generator(),
    )
    save_checkpoint(folder / "run", checkpoint)
    export_bundle(folder / "run", folder / "bundle")
    return folder / "bundle"


def measure(bundle: Path) -> None:
    """Time the load and single decisions of a bundle."""
    started = time.perf_counter()
    from dql_core.runtime.policy import load_policy

    load_policy(bundle)
    loaded_s = time.perf_counter() - started
    for num_candidates in CANDIDATES:
        policy = load_policy(bundle, num_candidates=num_candidates)
        rng = np.random.default_rng(0)
        observation = rng.standard_normal(OBSERVATION_SIZE, dtype=np.float32)
        times_us = np.empty(REPEATS)
        for repeat in range(-WARM_UP, REPEATS):
            begun = time.perf_counter_ns()
            policy.act(observation, rng)
            if repeat >= 0:
                times_us[repeat] = (time.perf_counter_ns() - begun) / 1e3
        report(num_candidates, times_us, loaded_s)


def report(num_candidates: int, times_us: NDArray[np.float64], loaded_s: float) -> None:
    """Print one measurement."""
    p50, p95, p99 = np.percentile(times_us, [50, 95, 99])
    line = {
        "benchmark": "policy_latency",
        "num_candidates": num_candidates,
        "p50_us": round(p50),
        "p95_us": round(p95),
        "p99_us": round(p99),
        "max_us": round(times_us.max()),
        "import_and_load_s": round(loaded_s, 2),
        "peak_memory_mb": peak_memory_mb(),
        "cpus": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }
    print(json.dumps(line))


def peak_memory_mb() -> int:
    """Largest resident size since the process began; getrusage would count its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


if __name__ == "__main__":
    main()
