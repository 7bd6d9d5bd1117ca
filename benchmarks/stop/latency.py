"""From the emergency stop to the safe command, whatever becomes of the log; JSON lines.

    python -m benchmarks.stop.latency           # prints lines
    python -m benchmarks.stop.latency --keep    # and writes them to benchmarks/results

The robot, the policy and its rate are those of `benchmarks.control.timing` at 100 Hz: states at
500 Hz, K = 50 candidates, another process that keeps one core busy. This process presses the
button and hears the commands. A stop lasts from just before `true` is published on ``~/stop``
until the safe command has arrived here; it is reset, and the robot moves again, before the next.
Stops come at random phases of the control period.

The yardstick is a bare rclpy node that answers each message on its stop topic with a command, in
the same conditions. The node's log goes to a pipe that is read, to one that is full and that
nobody reads, and to a terminal on which Ctrl-S was pressed; and, with the pipe full, a thread of
the node's process logs a thousand lines a second. In the last condition the policy is stuck for
half a second after each tenth action, computing in Python; the contract's ``hold_s`` lets the
robot go on meanwhile, so that it can be told when it stops.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from std_msgs.msg import Bool, Float64MultiArray
from std_srvs.srv import Trigger

from benchmarks.control.robot import (
    COMMAND_TOPIC,
    POLICY_NODE,
    START_TIMEOUT_S,
    export_untrained,
    policy_command,
    write_arm,
)
from benchmarks.machine import Line, busy_core, keep, machine, markdown_table, show, where
from dql_ros.nodes.base import ClientNode
from dql_ros.nodes.topics import reliable
from dql_ros.processes import NodeCommand, environment_of, own_domain

RATE_HZ, STOPS = 100.0, 1000
STOP_TIMEOUT_S = 30.0
SINKS = ("read", "full pipe", "stopped terminal", "full pipe, flood", "read, policy stuck")
# What hinders the node is in a module of its own.
MODULES = {"flood": "benchmarks.stop.flood", "stuck": "benchmarks.stop.stuck"}
COMMAND = "python -m benchmarks.stop.latency --keep"


def main() -> None:
    """Measure with each fate of the log, and the yardstick."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stops", type=int, default=STOPS, help="in each condition")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    random.seed(0)
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as name, busy_core():
        folder = Path(name)
        contract = write_arm(folder, RATE_HZ)
        holding = folder / "holding.yaml"
        holding.write_text(contract.read_text().replace("on_fault: {", "on_fault: {hold_s: 1.0, "))
        bundles = {path: export_untrained(path, folder) for path in (contract, holding)}
        bare = NodeCommand("benchmarks.control.bare", "bare", {"kind": "stop"})
        latencies = measure(bare, "read", arguments.stops, folder)
        lines.append(show(line_of("bare rclpy node", "read", latencies)))
        for sink in SINKS:
            hindrance = next((MODULES[word] for word in MODULES if word in sink), POLICY_NODE)
            driven = holding if "stuck" in sink else contract
            command = policy_command(driven, bundles[driven], hindrance)
            latencies = measure(command, sink, arguments.stops, folder)
            lines.append(show(line_of("policy_node", sink, latencies)))
    for line in lines:
        line["p50_ratio"] = round(line["p50_ms"] / lines[0]["p50_ms"], 2)
    if arguments.keep:
        keep("stop_latency", lines, table(lines))


class Button(ClientNode):
    """Stops a node, sees that it has stopped, and lets it go on.

    Attributes:
        safe_ns: When the safe command arrived.
        action_ns: When the last action arrived.
    """

    def __init__(self, domain: int, node: str) -> None:
        super().__init__(domain, "button")
        self.safe_ns = self.action_ns = 0
        self._stop = self.node.create_publisher(Bool, f"{node}/stop", reliable(1, latched=True))
        self._reset = self.node.create_client(Trigger, f"{node}/reset_stop")
        self.node.create_subscription(Float64MultiArray, COMMAND_TOPIC, self._hear, reliable(1000))

    def begin(self, is_bare: bool) -> None:
        """Wait until the node is there, and moves the robot if it is one that can."""
        self.until(lambda: self._stop.get_subscription_count() > 0, START_TIMEOUT_S, "the node")
        if not is_bare:
            self.until(lambda: self.action_ns > 0, START_TIMEOUT_S, "the first action")

    def press(self) -> tuple[float, float]:
        """Stop; return after how many ms the safe command came, and the last action."""
        self.safe_ns, before_ns = 0, time.monotonic_ns()
        self._stop.publish(Bool(data=True))
        self.until(lambda: self.safe_ns > 0, STOP_TIMEOUT_S, "the safe command")
        safe_ms = (self.safe_ns - before_ns) / 1e6
        settled_s = time.monotonic() + 2.0 / RATE_HZ
        self.until(lambda: time.monotonic() > settled_s, STOP_TIMEOUT_S, "two periods")
        return safe_ms, max(0.0, (self.action_ns - before_ns) / 1e6)

    def release(self) -> None:
        """Have the robot move again."""
        self._stop.publish(Bool(data=False))
        moves_from_ns = time.monotonic_ns()
        while self.action_ns < moves_from_ns:
            answer = self._reset.call_async(Trigger.Request())
            self.until(answer.done, STOP_TIMEOUT_S, "the reset")
            again_s = time.monotonic() + 0.1

            def moves(until_s: float = again_s) -> bool:
                return self.action_ns > moves_from_ns or time.monotonic() > until_s

            self.until(moves, STOP_TIMEOUT_S, "an action")

    def until(self, condition: Any, timeout_s: float, what: str) -> None:
        """Spin until something is so."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline_s:
                sys.exit(f"waited in vain for {what}")
            self.spin_once(0.001)

    def _hear(self, command: Any) -> None:
        now_ns = time.monotonic_ns()
        if any(command.data):
            self.action_ns = now_ns
        elif self.safe_ns == 0:
            self.safe_ns = now_ns


def measure(
    command: NodeCommand, sink: str, stops: int, folder: Path
) -> list[tuple[float, float]]:
    """Stop a node so many times; return what `Button.press` did."""
    measured = []
    is_bare = command.node == "bare"
    with ExitStack() as stack:
        domain = stack.enter_context(own_domain())
        environment = environment_of(domain) | {"ROS_LOG_DIR": str(folder / "log")}
        states = NodeCommand("benchmarks.control.states", "states")
        stack.enter_context(running(states, environment, folder, subprocess.DEVNULL))
        output = stack.enter_context(opened(sink))
        stack.enter_context(running(command, environment, folder, output))
        button = stack.enter_context(Button(domain, command.node))
        button.begin(is_bare)
        for _ in range(stops):
            time.sleep(random.random() / RATE_HZ)
            measured.append(button.press())
            if not is_bare:
                button.release()
    return measured


@contextmanager
def running(
    command: NodeCommand, environment: dict[str, str], folder: Path, output: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a node, with this as its stdout and stderr."""
    process = subprocess.Popen(
        command.arguments(folder), env=environment, stdout=output, stderr=output
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def opened(sink: str) -> Iterator[int]:
    """Open what a node's log goes to."""
    if sink.startswith("read"):
        yield subprocess.DEVNULL
        return
    reader, end = os.openpty() if "terminal" in sink else os.pipe()
    if "terminal" in sink:
        termios.tcflow(end, termios.TCOOFF)
    else:
        os.set_blocking(end, False)
        try:
            while True:
                os.write(end, bytes(4096))
        except BlockingIOError:
            os.set_blocking(end, True)
    try:
        yield end
    finally:
        os.close(end)
        os.close(reader)


def line_of(node: str, sink: str, measured: Sequence[tuple[float, float]]) -> Line:
    """Return a condition's figures."""
    safe_ms, action_ms = np.array(measured).T
    p50, p99, largest = np.percentile(safe_ms, (50, 99, 100))
    return {
        "benchmark": "stop_latency",
        "node": node,
        "log": sink,
        "stops": len(measured),
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "max_ms": round(float(largest), 3),
        "over_20_ms": int((safe_ms > 20.0).sum()),
        "last_action_max_ms": round(float(action_ms.max()), 3),
        **machine(),
    }


def table(lines: Sequence[Line]) -> str:
    """Return the results as a page."""
    rows = [
        [
            line["node"],
            line["log"],
            line["stops"],
            f"{line['p50_ms']:.2f} / {line['p99_ms']:.2f} / {line['max_ms']:.2f}",
            line["over_20_ms"],
            f"{line['last_action_max_ms']:.2f}",
            line["p50_ratio"],
        ]
        for line in lines
    ]
    headings = [
        "node",
        "its log",
        "stops",
        "safe command after p50 / p99 / max (ms)",
        "over 20 ms",
    ]
    headings += ["last action after at most (ms)", "median over the yardstick's"]
    return (
        f"# From the emergency stop to the safe command\n\n    {COMMAND}\n\n{where(lines)}\n\n"
        "From the publication of `true` on `~/stop` until the safe command has arrived, on one "
        "machine, at random phases\nof a control period of 10 ms, beside a process that keeps one "
        "core busy; how is said in `benchmarks/stop/latency.py`.\n\n"
        f"{markdown_table(headings, rows)}"
    )


if __name__ == "__main__":
    main()
