"""An hour of closed loop in real time: memory and rate, minute by minute; JSON lines.

    python -m benchmarks.control.soak                  # prints a line each minute
    python -m benchmarks.control.soak --keep           # and writes them to benchmarks/results
    python -m benchmarks.control.soak --of LOG --keep  # writes those that an earlier run printed
    python -m benchmarks.control.soak --horizon 5      # with chunks of five actions

Gymnasium's Reacher-v5 in the simulation bridge, with the clock on the wall, is driven at 50 Hz by
the policy node with a bundle of the paper's size (3 x 256 wide, N = 5, K = 50): five streams, and
a new episode with a new target each second. A line is printed at the end of each minute, so that
a run that is cut short still has its figures. Growth and drift are slopes of straight lines
through the minutes, without the first ones.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.control.process import cpu_s, open_files, process_memory_mb, threads
from benchmarks.control.robot import REACHER, export_untrained
from benchmarks.machine import Line, keep, machine, markdown_table, show, where
from dql_ros.contract import load_contract
from dql_ros.diagnostics import Report
from dql_ros.nodes.closed_loop import BRIDGE, DRIVER, policy_driver
from dql_ros.nodes.remote import Supervisor
from dql_ros.processes import NodeCommand, NodeProcess, NodeProcesses, own_domain

MINUTES = 60.0
ENVIRONMENT = "Reacher-v5"
START_TIMEOUT_S = 60.0
# Caches fill and allocators settle in the first minutes.
SETTLING_MINUTES = 5
MOST_GROWTH_MB, MOST_DRIFT = 1.0, 0.001
FIGURES = {
    "tick jitter p50 (ms)": "jitter_p50_ms",
    "tick jitter p99 (ms)": "jitter_p99_ms",
    "inference p99 (ms)": "inference_p99_ms",
    "state to command p99 (ms)": "latency_p99_ms",
}
NODES = ("policy", "bridge")
COMMAND = "python -m benchmarks.control.soak --keep"


def main() -> None:
    """Soak, and say what came of it, also if it is cut short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between lines")
    parser.add_argument("--horizon", type=int, default=1, help="actions of a chunk")
    parser.add_argument("--of", type=Path, help="take the lines from this file")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    if arguments.of:
        printed = map(json.loads, arguments.of.read_text().splitlines())
        lines = [line for line in printed if "minute" in line]
    else:
        os.environ["OMP_NUM_THREADS"] = "1"
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        lines = []
        try:
            for line in soak(arguments.minutes * 60, arguments.every, arguments.horizon):
                lines.append(show(line))
        except KeyboardInterrupt:
            print(f"interrupted after {len(lines)} lines", flush=True)
    if len(lines) > 1:
        lines.append(show(verdict(lines)))
        if arguments.keep:
            horizon = lines[0].get("horizon", 1)
            name = "control_soak" if horizon == 1 else f"control_soak_h{horizon}"
            keep(name, lines, table(lines))


def soak(seconds: float, every_s: float, horizon: int) -> Iterator[Line]:
    """Run the loop and yield a line whenever ``every_s`` seconds are over."""
    contract = str(REACHER)
    with tempfile.TemporaryDirectory() as folder:
        bundle = export_untrained(REACHER, Path(folder), horizon)
        common = {"contract": contract, "mode": "real_time"}
        driver = policy_driver(bundle, seed=0)
        driving = {**driver.parameters, **common, "use_sim_time": True, "when_too_slow": "warn"}
        simulation = {**common, "env": ENVIRONMENT, "episodes": 0}
        with (
            own_domain() as domain,
            NodeProcesses(domain) as processes,
            Supervisor(domain, BRIDGE, DRIVER, processes.check) as supervisor,
        ):
            bridge = processes.start(
                NodeCommand("dql_ros.nodes.sim_bridge_node", BRIDGE, simulation)
            )
            policy = processes.start(NodeCommand(driver.module, DRIVER, driving))
            supervisor.bring_up(START_TIMEOUT_S)
            minutes = _Minutes(supervisor, policy, bridge)
            begun_s = time.monotonic()
            for number in range(1, round(seconds / every_s) + 1):
                due_s = begun_s + number * every_s
                while time.monotonic() < due_s:
                    processes.check()
                    supervisor.spin_once(0.0)
                    time.sleep(0.02)
                yield {"horizon": horizon, **minutes.line(time.monotonic() - begun_s)}


class _Minutes:
    """Compares what is told now with what was told a minute ago."""

    def __init__(self, supervisor: Supervisor, policy: NodeProcess, bridge: NodeProcess) -> None:
        self._log = supervisor.log
        self._processes = {"policy": policy, "bridge": bridge}
        self._last: Report | None = None
        self._cpu_s = dict.fromkeys(self._processes, 0.0)
        self._then_s = time.monotonic()

    def line(self, elapsed_s: float) -> Line:
        """Return the figures of the minute that is over."""
        report = self._log.of_node(DRIVER)[-1]
        simulated = self._log.of_node(BRIDGE)[-1]
        self._log.reports.clear()
        line: Line = {
            "benchmark": "control_soak",
            "minute": round(elapsed_s / 60, 2),
            "ticks": _number(report, "ticks"),
            "rate_hz": self._rate_hz(report),
            "missed_ticks": _number(report, "missed ticks"),
            "slow_inferences": _number(report, "guard slow_inference"),
            "steps": _number(simulated, "steps"),
            "periods_lost": _number(simulated, "periods lost"),
            "stops_for_lack_of_a_command": _number(simulated, "stops for lack of a command"),
            "episodes": _number(simulated, "episode"),
        }
        line |= {key: _number(report, name) for name, key in FIGURES.items()}
        self._last = report
        return line | self._process_figures() | machine()

    def _rate_hz(self, report: Report) -> float | None:
        """Ticks over the time between two reports, by the listener's clock."""
        if self._last is None:
            return None
        ticks = _number(report, "ticks") - _number(self._last, "ticks")
        return round(ticks / (report.time_s - self._last.time_s), 4)

    def _process_figures(self) -> Line:
        now_s = time.monotonic()
        line: Line = {}
        for name, process in self._processes.items():
            used_s = cpu_s(process.pid)
            line |= {
                f"{name}_mb": process_memory_mb(process.pid),
                f"{name}_threads": threads(process.pid),
                f"{name}_files": open_files(process.pid),
                f"{name}_cpu_percent": round(
                    100 * (used_s - self._cpu_s[name]) / (now_s - self._then_s), 1
                ),
            }
            self._cpu_s[name] = used_s
        self._then_s = now_s
        return line


def _number(report: Report, key: str) -> float:
    number = report.number(key)
    return 0.0 if number is None else number


def verdict(lines: list[Line]) -> Line:
    """Return growth and drift over the minutes after the first ones."""
    settled = lines[min(SETTLING_MINUTES, len(lines) - 2) :]
    hours = np.array([line["minute"] for line in settled]) / 60
    wanted_hz = load_contract(REACHER).rate_hz
    growth = {f"{name}_growth_mb_per_h": _slope(hours, settled, f"{name}_mb") for name in NODES}
    rates = [line["rate_hz"] for line in settled if line["rate_hz"] is not None]
    timed = [line for line in settled if line["rate_hz"] is not None]
    drift = _slope(np.array([line["minute"] for line in timed]) / 60, timed, "rate_hz")
    error = abs(float(np.mean(rates)) / wanted_hz - 1)
    return {
        "benchmark": "control_soak",
        "horizon": lines[-1].get("horizon", 1),
        "minutes": lines[-1]["minute"],
        "ticks": lines[-1]["ticks"],
        "episodes": lines[-1]["episodes"],
        "missed_percent": round(
            100 * lines[-1]["missed_ticks"] / (lines[-1]["ticks"] + lines[-1]["missed_ticks"]), 4
        ),
        "mean_rate_hz": round(float(np.mean(rates)), 4),
        "rate_drift_hz_per_h": drift,
        **growth,
        "met": {
            "memory": all(value <= MOST_GROWTH_MB for value in growth.values()),
            "rate": error <= MOST_DRIFT,
            "drift": abs(drift) <= MOST_DRIFT * wanted_hz,
        },
        **machine(),
    }


def _slope(hours: NDArray[np.float64], lines: list[Line], key: str) -> float:
    """Return by how much a figure changes in an hour, by least squares."""
    if len(lines) < 2:
        return 0.0
    return round(float(np.polyfit(hours, [line[key] for line in lines], 1)[0]), 4)


def table(lines: list[Line]) -> str:
    """Return the page of the results."""
    *minutes, last = lines
    rows = [
        (
            f"{line['minute']:.0f}",
            f"{line['ticks']:.0f}",
            line["rate_hz"] or "",
            f"{line['missed_ticks']:.0f}",
            f"{line['jitter_p50_ms']} / {line['jitter_p99_ms']}",
            line["inference_p99_ms"],
            line["latency_p99_ms"],
            f"{line['slow_inferences']:.0f}",
            line["policy_mb"],
            line["bridge_mb"],
            f"{line['policy_cpu_percent']:.0f} %",
            f"{line['policy_threads']} / {line['policy_files']}",
            f"{line['periods_lost']:.0f} / {line['stops_for_lack_of_a_command']:.0f}",
            line["load"],
        )
        for line in minutes
    ]
    met = {name: "met" if ok else "**not met**" for name, ok in last["met"].items()}
    growth = (
        f"{last[f'{name}_growth_mb_per_h']} MiB per hour in the {label}"
        for name, label in zip(NODES, ("policy node", "bridge"), strict=True)
    )
    horizon = last.get("horizon", 1)
    title, command = f"{last['minutes']:.0f} minutes of closed loop in real time", COMMAND
    if horizon > 1:
        title += f" with chunks of {horizon} actions"
        command += f" --horizon {horizon}"
    return (
        f"# {title}\n\n    {command}\n\n"
        f"{where(lines)}\nWhere the load is above the number of cores, everything here had to "
        f"wait for a core at times.\n\n"
        f"{ENVIRONMENT} at {load_contract(REACHER).rate_hz:g} Hz, {last['ticks']:.0f} ticks, "
        f"{last['episodes']:.0f} episodes. Jitter, inference and latency are those of the last\n"
        f"1000 ticks of the minute, as the policy node tells them on `/diagnostics`. After the "
        f"first {SETTLING_MINUTES} minutes:\n\n"
        f"* growth of memory: {', '.join(growth)} (aim: at most {MOST_GROWTH_MB:g}): "
        f"{met['memory']}\n"
        f"* mean rate {last['mean_rate_hz']} Hz (aim: within {MOST_DRIFT:.1%}): {met['rate']}; "
        f"missed ticks {last['missed_percent']} %\n"
        f"* drift of the rate {last['rate_drift_hz_per_h']} Hz per hour (aim: within "
        f"{MOST_DRIFT:.1%}): {met['drift']}\n\n"
        f"{markdown_table(_HEADINGS, rows)}"
    )


_HEADINGS = (
    "minute",
    "ticks",
    "rate (Hz)",
    "missed",
    "jitter p50 / p99 (ms)",
    "inference p99 (ms)",
    "state to command p99 (ms)",
    "slow inferences",
    "policy (MiB)",
    "bridge (MiB)",
    "policy's CPU",
    "threads / files",
    "bridge: periods lost / stops",
    "load",
)

if __name__ == "__main__":
    main()
