"""How soon a policy node commands and what memory it needs; JSON lines.

    python -m benchmarks.control.start           # prints lines
    python -m benchmarks.control.start --keep    # and writes them to benchmarks/results

From the start of the process to the first command that another process hears, while that robot's
states come at 500 Hz; the node configures and activates itself. The bundle has the paper's size
(3 x 256 wide, N = 5, K = 50). Memory is the resident one after some seconds of control at 100 Hz,
and at its peak; whether torch was imported is told by the files that the process has mapped.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.utilities import get_rmw_implementation_identifier
from std_msgs.msg import Float64MultiArray

from benchmarks.control.process import process_memory_mb
from benchmarks.control.robot import (
    COMMAND_TOPIC,
    export_untrained,
    policy_command,
    write_arm,
)
from benchmarks.machine import Line, keep, machine, markdown_table, show, where
from dql_ros.processes import NodeCommand, NodeProcess, NodeProcesses, own_domain
from dql_ros.transport import inside

RATE_HZ = 100.0
TURNS, SECONDS = 5, 10.0
MOST_S, MOST_MB = 3.0, 250
TIMEOUT_S = 60.0
COMMAND = "python -m benchmarks.control.start --keep"


def main() -> None:
    """Start the node some times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of control in each turn")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        contract = write_arm(Path(name), RATE_HZ)
        bundle = export_untrained(contract, Path(name))
        lines = [
            show(one_start(contract, bundle, arguments.seconds)) for _ in range(arguments.turns)
        ]
    if arguments.keep:
        keep("control_start", lines, table(lines))


def one_start(contract: Path, bundle: Path, seconds: float) -> Line:
    """Start the robot, then the policy node; return what it took."""
    with own_domain() as domain, NodeProcesses(domain) as processes:
        processes.start(NodeCommand("benchmarks.control.states", "states"))
        with Listener(domain) as listener:
            listener.await_publisher("joint_states")
            begun_s = time.monotonic()
            node = processes.start(policy_command(contract, bundle))
            first_s = listener.await_command(processes) - begun_s
            time.sleep(seconds)
            processes.check()
            return _line(first_s, node)


def _line(first_s: float, node: NodeProcess) -> Line:
    torch = "libtorch" in Path(f"/proc/{node.pid}/maps").read_text()
    resident, peak = (process_memory_mb(node.pid, key) for key in ("VmRSS", "VmHWM"))
    return {
        "benchmark": "control_start",
        "first_command_s": round(first_s, 2),
        "resident_mb": resident,
        "peak_mb": peak,
        "torch_imported": torch,
        "met": {
            "first_command": first_s <= MOST_S,
            "memory": resident <= MOST_MB,
            "no_torch": not torch,
        },
        **machine(),
    }


class Listener:
    """A node in this process that hears the arm's commands."""

    def __init__(self, domain: int) -> None:
        """Join ``domain``."""
        self._heard_s: float | None = None
        self._context = Context()
        with inside(domain, get_rmw_implementation_identifier()):
            rclpy.init(args=[], context=self._context)
            self._node = Node("listener", context=self._context, enable_rosout=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._node.create_subscription(Float64MultiArray, COMMAND_TOPIC, self._note, 1)

    def await_publisher(self, topic: str) -> None:
        """Wait until somebody publishes ``topic``."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not self._node.count_publishers(topic):
            if time.monotonic() > deadline_s:
                raise SystemExit(f"nobody publishes {topic}")
            self._executor.spin_once(timeout_sec=0.05)

    def await_command(self, processes: NodeProcesses) -> float:
        """Wait for the first command and return when it came, in seconds of the steady clock."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while self._heard_s is None:
            processes.check()
            if time.monotonic() > deadline_s:
                raise SystemExit("no command came")
            self._executor.spin_once(timeout_sec=0.05)
        return self._heard_s

    def _note(self, _: Float64MultiArray) -> None:
        self._heard_s = self._heard_s or time.monotonic()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()


def table(lines: list[Line]) -> str:
    """Return the page of the results."""
    first_s = [line["first_command_s"] for line in lines]
    most_s, most_mb = max(first_s), max(line["resident_mb"] for line in lines)
    torch = any(line["torch_imported"] for line in lines)
    median_s = statistics.median(first_s)
    rows = (
        (
            "start to first command",
            f"{median_s:.2f} s ({min(first_s):.2f} to {most_s:.2f})",
            _against(f"{MOST_S:g} s", ok=median_s <= MOST_S),
        ),
        ("resident memory", f"{most_mb} MiB", _against(f"{MOST_MB} MB", ok=most_mb <= MOST_MB)),
        ("at its peak", f"{max(line['peak_mb'] for line in lines)} MiB", ""),
        ("torch imported", "yes" if torch else "no", _against("no", ok=not torch)),
    )
    return (
        f"# Start and memory of the policy node\n\n    {COMMAND}\n\n{where(lines)}\n"
        f"The arm's states come at 500 Hz; the bundle is 3 x 256 wide with N = 5 and K = 50, on "
        f"the CPU.\nThe median of {len(lines)} starts and its range; the most memory of any.\n\n"
        f"{markdown_table(('', 'measured', 'aim'), rows)}"
    )


def _against(aim: str, *, ok: bool) -> str:
    return f"{aim}: {'met' if ok else '**not met**'}"


if __name__ == "__main__":
    main()
