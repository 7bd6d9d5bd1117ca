"""How fast a simulation in lockstep goes over two processes, against inference alone; JSON lines.

    python -m benchmarks.control.lockstep           # prints lines
    python -m benchmarks.control.lockstep --keep    # and writes them to benchmarks/results

The demo robot in the simulation bridge, one process, is driven over topics by the policy node,
another, with a bundle of the paper's size (3 x 256 wide, N = 5), for K = 1 and K = 50. Steps are
counted from the end of the first episode to that of the last one. Inference alone is the same
bundle asked again and again in a process that does nothing else. They take turns; the ratio is
the median over the turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.control.robot import NUM_CANDIDATES, SCARA, export_untrained
from benchmarks.machine import Line, keep, machine, markdown_table, show, where
from dql_core.runtime.bundle_policy import load_policy
from dql_ros.nodes.closed_loop import policy_driver, run_closed_loop
from dql_ros.sim.result import EpisodeResult

CANDIDATES = (1, NUM_CANDIDATES)
SECONDS, TURNS = 10.0, 5
# An untrained policy never reaches the target, so that every episode has this length.
EPISODE_STEPS = 500
# A first guess of the speed, by which the number of episodes is chosen.
STEPS_PER_S = {1: 1000, NUM_CANDIDATES: 500}
LEAST_STEPS_PER_S, LEAST_SHARE = 1000, 0.6
COMMAND = "python -m benchmarks.control.lockstep --keep"


def main() -> None:
    """Measure for each number of candidates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each turn, about")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        bundle, candidates, seconds = arguments.alone
        print(inference_alone(Path(bundle), int(candidates), float(seconds)))
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        bundle = export_untrained(SCARA, Path(name))
        lines = [
            show(compare(bundle, candidates, arguments.seconds, arguments.turns))
            for candidates in CANDIDATES
        ]
    if arguments.keep:
        keep("control_lockstep", lines, table(lines))


def compare(bundle: Path, candidates: int, seconds: float, turns: int) -> Line:
    """Let lockstep and inference alone take turns; return their speeds."""
    lockstep: list[float] = []
    alone: list[float] = []
    for _ in range(turns):
        lockstep.append(steps_per_s(bundle, candidates, seconds))
        alone.append(alone_in_process(bundle, candidates, seconds / 2))
    shares = [mine / most for mine, most in zip(lockstep, alone, strict=True)]
    share = statistics.median(shares)
    median = statistics.median(lockstep)
    return {
        "benchmark": "control_lockstep",
        "num_candidates": candidates,
        "steps_per_s": round(median, 1),
        "steps_per_s_by_turn": [round(value, 1) for value in lockstep],
        "inference_alone_per_s": round(statistics.median(alone), 1),
        "share_of_inference_alone": round(share, 3),
        "share_range": [round(min(shares), 3), round(max(shares), 3)],
        "met": median >= LEAST_STEPS_PER_S if candidates == 1 else share >= LEAST_SHARE,
        **machine(),
    }


def steps_per_s(bundle: Path, candidates: int, seconds: float) -> float:
    """Drive the demo robot in lockstep for about so many seconds."""
    ends: list[tuple[float, int]] = []

    def note(result: EpisodeResult) -> None:
        ends.append((time.monotonic(), result.length))

    run_closed_loop(
        SCARA,
        policy_driver(bundle, seed=0, num_candidates=candidates),
        episodes=2 + round(seconds * STEPS_PER_S[candidates] / EPISODE_STEPS),
        bridge_parameters={"max_episode_steps": EPISODE_STEPS},
        on_episode=note,
    )
    return sum(length for _, length in ends[1:]) / (ends[-1][0] - ends[0][0])


def alone_in_process(bundle: Path, candidates: int, seconds: float) -> float:
    """Measure `inference_alone` in a new process."""
    part = ["--alone", str(bundle), str(candidates), str(seconds)]
    command = [sys.executable, "-m", "benchmarks.control.lockstep", *part]
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(finished.stdout)


def inference_alone(bundle: Path, candidates: int, seconds: float) -> float:
    """Return how many actions a second the bundle chooses when nothing else is done."""
    policy = load_policy(bundle, num_candidates=candidates)
    observation = np.zeros(len(policy.spec.observation), dtype=np.float32)
    rng = np.random.default_rng(0)
    for _ in range(20):
        policy.act(observation, rng)
    calls, begun_s = 0, time.monotonic()
    while time.monotonic() - begun_s < seconds:
        policy.act(observation, rng)
        calls += 1
    return calls / (time.monotonic() - begun_s)


def table(lines: list[Line]) -> str:
    """Return the page of the results."""
    headings = ("K", "steps/s in lockstep", "inference alone, 1/s", "share", "aim", "load")
    aims = (f"{LEAST_STEPS_PER_S} steps/s", f"{LEAST_SHARE:.0%} of inference alone")
    rows = [
        (
            line["num_candidates"],
            f"{line['steps_per_s']:.0f} ({min(line['steps_per_s_by_turn']):.0f} to "
            f"{max(line['steps_per_s_by_turn']):.0f})",
            f"{line['inference_alone_per_s']:.0f}",
            f"{line['share_of_inference_alone']:.0%} {line['share_range']}",
            f"{aim}: {'met' if line['met'] else '**not met**'}",
            line["load"],
        )
        for line, aim in zip(lines, aims, strict=True)
    ]
    return (
        f"# How fast a simulation in lockstep goes over two processes\n\n    {COMMAND}\n\n"
        f"{where(lines)}\nWhere the load is above the number of cores, everything here had to "
        f"wait for a core at times.\n\n"
        f"The demo robot in the simulation bridge and the policy node are a process each, with "
        f"every state and\ncommand over topics; inference alone is the same bundle in a process "
        f"that does nothing else.\nMedians over {len(lines[0]['steps_per_s_by_turn'])} turns, "
        f"and the range.\n\n{markdown_table(headings, rows)}"
    )


if __name__ == "__main__":
    main()
