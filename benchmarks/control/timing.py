"""Timing of the policy node in real time, against rclpy nodes that do nothing; JSON lines.

    python -m benchmarks.control.timing           # prints lines
    python -m benchmarks.control.timing --keep    # and writes them to benchmarks/results

A process publishes the states of a seven-joint arm at 500 Hz. The policy node runs a bundle of the
paper's size (3 x 256 wide, N = 5) with K = 50 in a process of its own, on the CPU. Its yardsticks
are a bare rclpy node with nothing but a timer at the control rate, for rate and jitter, and one
that answers each state at once with a constant, for latency; each with both of rclpy's
single-threaded executors, of which the better counts. They take turns, each in a new process, at
100 and 200 Hz, and again while another process keeps one core busy. The policy node is measured as
it is, which takes a real-time priority where that is permitted, and without that.

Jitter is how far the time between two ticks is from the period; latency is from the stamp of the
newest state to the departure of its command, by the clock of the process that sends it; a tick
whose inference was dropped for being late counts as one that was never answered.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.control.bare import READY as BARE_READY
from benchmarks.control.robot import (
    START_TIMEOUT_S,
    STATE_HZ,
    export_untrained,
    policy_command,
    write_arm,
)
from benchmarks.control.samples import (
    COLUMNS,
    NONE,
    SAMPLES_VARIABLE,
    Samples,
    column,
    jitter_ns,
    load,
    missed,
    p99_of_all_ms,
    spread_ms,
)
from benchmarks.control.timing_table import Condition, judge, table
from benchmarks.machine import Line, busy_core, keep, machine, show
from dql_ros.processes import NodeCommand, NodeProcess, NodeProcesses, own_domain

RATES_HZ = (100.0, 200.0)
SECONDS, TURNS = 60.0, 4
EXECUTORS = ("single", "events")
SPARE_S = 1.5
# What a node says last when it has begun.
READY = (BARE_READY, "running")
COMMAND = "python -m benchmarks.control.timing --keep"


@dataclass(frozen=True)
class Variant:
    """What is measured.

    Attributes:
        name: ``policy``, or a yardstick and its executor.
        command: How its process is started.
        seconds: For how long, over all turns.
        rate_hz: At which it ticks; ``None`` for at each state.
    """

    name: str
    command: NodeCommand
    seconds: float
    rate_hz: float | None


def main() -> None:
    """Measure under all conditions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    parser.add_argument("--turns", type=int, default=TURNS, help="in which it is taken")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES_HZ, help="in Hz")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    # As a robot's launch file would, for the sake of the others on its computer.
    os.environ["OMP_NUM_THREADS"] = "1"
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundles = {rate: _bundle(folder, rate) for rate in arguments.rates}
        for busy, (rate_hz, (contract, bundle)) in itertools.product(
            (False, True), bundles.items()
        ):
            condition = Condition(rate_hz, busy)
            variants = _variants(contract, bundle, rate_hz, arguments.seconds)
            with busy_core() if busy else nullcontext():
                measured = _measure(variants, arguments.turns, folder)
            lines += [show(line) for line in _lines(condition, variants, measured)]
    if arguments.keep:
        keep("control_timing", lines, table(COMMAND, lines))


def _bundle(folder: Path, rate_hz: float) -> tuple[Path, Path]:
    contract = write_arm(folder, rate_hz)
    return contract, export_untrained(contract, folder)


def _variants(contract: Path, bundle: Path, rate_hz: float, seconds: float) -> list[Variant]:
    variants = []
    for name, own in (("policy", {}), ("policy, normal priority", {"thread_priority": 0})):
        command = policy_command(contract, bundle, "benchmarks.control.policy", **own)
        variants.append(Variant(name, command, seconds, rate_hz))
    share = seconds / len(EXECUTORS)
    for kind, executor in itertools.product(("timer", "echo"), EXECUTORS):
        bare = {"kind": kind, "executor": executor, "rate_hz": rate_hz}
        command = NodeCommand("benchmarks.control.bare", "bare", bare)
        ticks_hz = rate_hz if kind == "timer" else None
        variants.append(Variant(f"{kind}, {executor}", command, share, ticks_hz))
    return variants


def _measure(variants: Sequence[Variant], turns: int, folder: Path) -> dict[str, list[Samples]]:
    """Let the variants take turns; return the rows of each turn, by variant."""
    rows: dict[str, list[Samples]] = {variant.name: [] for variant in variants}
    for _ in range(turns):
        for variant in variants:
            rows[variant.name].append(_one_turn(variant, variant.seconds / turns, folder))
    return rows


def _one_turn(variant: Variant, seconds: float, folder: Path) -> Samples:
    """Run the arm and one node for so long; return the node's rows."""
    path = folder / "samples.npy"
    path.unlink(missing_ok=True)
    os.environ[SAMPLES_VARIABLE] = str(path)
    with own_domain() as domain, NodeProcesses(domain) as processes:
        processes.start(NodeCommand("benchmarks.control.states", "states"))
        node = processes.start(variant.command)
        _await_start(node, processes)
        time.sleep(seconds + SPARE_S)
        processes.check()
        node.stop()
    return load(path, seconds)


def _await_start(node: NodeProcess, processes: NodeProcesses) -> None:
    """Wait until a node says that it has begun."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not node.last_words.startswith(READY):  # a remark may follow at once
        processes.check()
        if time.monotonic() > deadline_s:
            sys.exit(f"waited in vain for {node.name}, which said: {node.last_words}")
        time.sleep(0.1)


def _lines(
    condition: Condition, variants: Sequence[Variant], measured: dict[str, list[Samples]]
) -> list[Line]:
    lines = [_line(condition, variant, measured[variant.name]) for variant in variants]
    return [*lines, judge(condition, lines) | machine()]


def _line(condition: Condition, variant: Variant, turns: list[Samples]) -> Line:
    """Return the figures of one variant over all its turns."""
    spans_s = [(rows[-1, 0] - rows[0, 0]) / 1e9 for rows in turns]
    cpu_s = [(rows[-1, 1] - rows[0, 1]) / 1e9 for rows in turns]
    ticks = sum(len(rows) for rows in turns)
    line: Line = {
        "benchmark": "control_timing",
        **condition.to_json(),
        "variant": variant.name,
        "seconds": round(sum(spans_s), 2),
        "ticks": ticks,
        "achieved_hz": round((ticks - len(turns)) / sum(spans_s), 4),
        "cpu_percent": round(100 * sum(cpu_s) / sum(spans_s), 1),
    }
    if variant.rate_hz is not None:
        period_ns = round(1e9 / variant.rate_hz)
        line["missed"] = sum(missed(rows, period_ns) for rows in turns)
        line |= spread_ms("jitter", np.concatenate([jitter_ns(rows, period_ns) for rows in turns]))
        by_turn = [float(np.percentile(jitter_ns(rows, period_ns), 99)) for rows in turns]
        line["jitter_p99_ms_by_turn"] = [round(value / 1e6, 3) for value in by_turn]
    else:
        line["states_hz"] = STATE_HZ
    together = np.concatenate(turns)
    for name in ("age", "inference", "latency"):
        line |= spread_ms(name, column(together, name))
    if variant.name.startswith("policy"):
        acted = together[together[:, COLUMNS.index("latency")] != NONE]
        line |= spread_ms("tick_to_command", column(acted, "latency") - column(acted, "age"))
        line["latency_p99_of_all_ms"] = p99_of_all_ms(together, "latency")
        line["without_policy_action"] = int((column(together, "running") == 0).sum())
    return line | machine()


if __name__ == "__main__":
    main()
