"""How fast an action is chosen: against plain eager PyTorch, and how the cost grows; JSON lines.

    python -m benchmarks.selection
    python -m benchmarks.selection --figure docs/images/selection_cost.png

Sizes are the paper's: 3 x 256 Mish, N = 5; observation 17 and action 6 wide. Our side is an
exported bundle as a node runs it, on one thread, with the drawing of its noise; the yardstick
(`yardstick.py`) has one thread, then two. They take turns, so that whatever else the machine does
falls on both; the ratio is the median over the turns of the ratio of their medians. Where memory
comes to lie decides five per cent of either, so it is measured in several processes: a line has
the median over them, and the range of the ratio. The ``cpu`` clock runs while the measured thread
does: on a machine that others use too, it tells what the code takes.
"""

# The process that measures what a robot needs must not import torch.
# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OBSERVATION_SIZE, ACTION_SIZE = 17, 6
PROCESSES, ROUNDS, CALLS = 7, 15, 20
# What threads of the yardstick beside the calling one do is in no clock of its own.
CLOCKS: dict[int, dict[str, Callable[[], int]]] = {
    1: {"wall": time.perf_counter_ns, "cpu": time.thread_time_ns},
    2: {"wall": time.perf_counter_ns},
}
PERCENTILES = {"p50_us": 50, "p95_us": 95, "p99_us": 99, "max_us": 100}
CANDIDATES = (1, 2, 5, 10, 20, 50, 100, 200, 512)
DIFFUSION_STEPS = (1, 2, 5, 10, 20, 50)
OBSERVATION = np.random.default_rng(0).standard_normal(OBSERVATION_SIZE, dtype=np.float32)


def main() -> None:
    """Export a bundle and measure it; each part has a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, help="draw the curves into this file")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        part, bundle, *rest = arguments.part
        PARTS[part](Path(bundle), *rest)
        return
    with tempfile.TemporaryDirectory() as folder:
        bundles = {n: str(export_untrained(Path(folder) / str(n), n)) for n in DIFFUSION_STEPS}
        mean_flow = str(export_untrained(Path(folder) / "mean_flow", 5, "mean_flow"))
        for threads in CLOCKS:
            part = ["compare", bundles[5], mean_flow, str(threads)]
            show(summary([run_part(part) for _ in range(PROCESSES)]))
        show(run_part(["start", bundles[5]]))
        curves = run_part(["curve", bundles[5], "num_candidates", *map(str, CANDIDATES)])
        for n in DIFFUSION_STEPS:
            curves += run_part(["curve", bundles[n], "num_diffusion_steps", "50"])
        show(curves)
    if arguments.figure:
        draw(curves, arguments.figure)


def run_part(part: Sequence[str]) -> list[dict[str, Any]]:
    """Measure in a new process and return its lines."""
    command = [sys.executable, "-m", "benchmarks.selection", "--part", *part]
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in finished.stdout.splitlines()]


def summary(processes: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Make one line of the equal lines of several processes."""
    lines = []
    for same in zip(*processes, strict=True):
        line = dict(same[0])
        for name in (*PERCENTILES, "times_the_yardstick", "load"):
            line[name] = statistics.median(each[name] for each in same)
        ratios = [each["times_the_yardstick"] for each in same]
        lines.append(line | {"ratio_range": [min(ratios), max(ratios)], "processes": len(same)})
    return lines


def show(lines: list[dict[str, Any]]) -> None:
    """Print JSON lines."""
    for line in lines:
        print(json.dumps(line), flush=True)


def export_untrained(folder: Path, num_diffusion_steps: int, kind: str = "diffusion") -> Path:
    """Export a Diffusion-QL policy with random weights; return the bundle's folder.

    ``kind`` is `policy.kind`; a mean flow has no diffusion steps.
    """
    import torch

    from benchmarks.yardstick import with_the_papers_work
    from dql_core.algo.registry import make_agent
    from dql_core.config import TrainConfig
    from dql_core.export.bundle import export_bundle
    from dql_core.normalize import Normalizer
    from dql_core.spec import FieldSpec, PolicySpec
    from dql_core.training.checkpoint import Checkpoint, save_checkpoint

    fields = tuple(FieldSpec(f"observation[{i}]") for i in range(OBSERVATION_SIZE))
    action = tuple(FieldSpec(f"action[{i}]", "", -1.0, 1.0) for i in range(ACTION_SIZE))
    spec = PolicySpec("benchmark", 50.0, fields, action)
    sections: dict[str, Any] = {"policy": {"kind": kind}}
    if kind == "diffusion":
        sections["diffusion"] = {"num_diffusion_steps": num_diffusion_steps}
    config = TrainConfig.model_validate(with_the_papers_work(sections))
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


def compare(bundle: Path, mean_flow: str, threads: str) -> None:
    """Let the bundles and the yardstick take turns, for 50 candidates and for one."""
    import torch

    from benchmarks.yardstick import Yardstick
    from dql_core.export.latency import speed_ratio, time_interleaved

    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    yardstick = Yardstick(OBSERVATION_SIZE, ACTION_SIZE, num_transitions=1)
    plain: dict[int, Callable[[], object]] = {
        50: partial(yardstick.select, OBSERVATION, 50),
        1: partial(yardstick.chain, OBSERVATION),
    }
    for count, choose in plain.items():
        functions = {"yardstick": choose, "bundle": decisions(bundle, count)}
        if threads == "1":
            functions["bundle, torch back end"] = decisions(bundle, count, "torch")
            functions["bundle, mean_flow"] = decisions(Path(mean_flow), count)
        for clock_name, clock in CLOCKS[int(threads)].items():
            times = time_interleaved(functions, rounds=ROUNDS, calls=CALLS, clock=clock)
            for name in functions:
                _, ratio, _ = speed_ratio(times["yardstick"], times[name])
                report(
                    variant=name,
                    num_candidates=count,
                    yardstick_threads=int(threads),
                    clock=clock_name,
                    **percentiles(times[name]),
                    times_the_yardstick=round(ratio, 2),
                )


def curve(bundle: Path, name: str, *counts: str) -> None:
    """Measure a bundle for several numbers of candidates."""
    from dql_core.export.latency import time_interleaved
    from dql_core.runtime.manifest import read_manifest

    steps = read_manifest(bundle).sampler.num_diffusion_steps
    functions = {count: decisions(bundle, int(count)) for count in counts}
    times = time_interleaved(functions, rounds=ROUNDS, calls=10, clock=time.thread_time_ns)
    for count in counts:
        report(
            curve=name,
            num_candidates=int(count),
            num_diffusion_steps=steps,
            clock="cpu",
            **percentiles(times[count]),
        )


def start(bundle: Path) -> None:
    """Measure what a process needs that runs the bundle and nothing else."""
    begun = time.perf_counter()
    decisions(bundle, 50)()
    seconds = time.perf_counter() - begun
    report(first_decision_after_s=round(seconds, 2), peak_memory_mb=peak_memory_mb())


def decisions(bundle: Path, num_candidates: int, backend: str = "onnx") -> Callable[[], object]:
    """Return a function that makes one decision, after the first ones are made."""
    from dql_core.algo.backends import named_backend
    from dql_core.runtime.bundle_policy import load_policy

    policy = load_policy(
        bundle,
        num_candidates=num_candidates,
        backend=named_backend(backend),  # type: ignore[arg-type]
    )
    decide = partial(policy.act, OBSERVATION, np.random.default_rng(0))
    for _ in range(3):
        decide()
    return decide


def percentiles(times_us: NDArray[np.float64]) -> dict[str, int]:
    """Return the percentiles that are reported, in microseconds."""
    values = np.percentile(times_us, list(PERCENTILES.values()))
    return {name: round(float(value)) for name, value in zip(PERCENTILES, values, strict=True)}


def report(**values: Any) -> None:
    """Print one JSON line."""
    machine = {
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }
    print(json.dumps({"benchmark": "selection", **values, **machine}), flush=True)


def peak_memory_mb() -> int:
    """Largest resident size since the process began; getrusage would count its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def draw(curves: list[dict[str, Any]], path: Path) -> None:
    """Draw the time of a decision over K and over N."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    panels = (
        ("num_candidates", "candidates K, with N = 5"),
        ("num_diffusion_steps", "diffusion steps N, with K = 50"),
    )
    for axis, (name, label) in zip(axes, panels, strict=True):
        lines = [line for line in curves if line["curve"] == name]
        x = np.array([line[name] for line in lines], float)
        y = np.array([line["p50_us"] for line in lines]) / 1e3
        slope, offset = np.polyfit(x, y, 1, w=1 / y)
        ends = np.array([0.0, x.max()])
        axis.plot(ends, offset + slope * ends, color="0.7", label=f"{offset:.2f} + {slope:.4f} x")
        axis.plot(x, y, "o", ms=4)
        axis.set(xlabel=label, xlim=0, ylim=0)
        axis.legend(frameon=False)
    axes[0].set_ylabel("time of a decision (ms)")
    figure.savefig(path, dpi=100)


PARTS: dict[str, Callable[..., None]] = {"compare": compare, "curve": curve, "start": start}

if __name__ == "__main__":
    main()
