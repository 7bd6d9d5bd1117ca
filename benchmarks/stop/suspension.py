"""How long a command takes to publish when a subscriber is suspended; JSON lines.

    python -m benchmarks.stop.suspension           # prints lines
    python -m benchmarks.stop.suspension --keep    # and writes them to benchmarks/results

Another process hears four reliable topics of depth 1, on which this one publishes as fast as it
can. At a random moment the other is suspended (SIGSTOP), for 30 ms; the longest ``publish()`` in
that time counts. The yardstick is what Fast DDS does by default, which shares memory; the other
condition is what the nodes do (`dql_ros.transport`).
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import rclpy
from rclpy.node import Node
from rclpy.utilities import get_rmw_implementation_identifier
from std_msgs.msg import Float64MultiArray

from benchmarks.machine import Line, keep, machine, markdown_table, show, where
from dql_ros.nodes.topics import reliable
from dql_ros.processes import environment_of, own_domain
from dql_ros.transport import share_no_memory

SUSPENSIONS = 1000
TOPICS = [f"command_{number}" for number in range(4)]
BUSY_S, SUSPENDED_S, SETTLE_S = (0.02, 0.04), 0.03, 0.01
CONDITIONS = {"shared": "Fast DDS by default", "udp": "as the nodes: UDP only"}
COMMAND = "python -m benchmarks.stop.suspension --keep"
LISTENER = f"""
import rclpy
from std_msgs.msg import Float64MultiArray
rclpy.init()
node = rclpy.create_node("listener")
for topic in {TOPICS}:
    node.create_subscription(Float64MultiArray, topic, lambda _: None, 10)
print("ready", flush=True)
rclpy.spin(node)
"""


def main() -> None:
    """Measure each condition in a process of its own, which reads Fast DDS's profile once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suspensions", type=int, default=SUSPENSIONS, help="in each condition")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    parser.add_argument("--measure", choices=CONDITIONS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(*longest_ms(arguments.measure, arguments.suspensions))
        return
    lines = []
    for condition in CONDITIONS:
        own = [sys.executable, "-m", "benchmarks.stop.suspension", "--measure", condition]
        with own_domain() as domain:
            done = subprocess.run(
                [*own, "--suspensions", str(arguments.suspensions)],
                env=environment_of(domain),
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        lines.append(show(line_of(condition, [float(word) for word in done.stdout.split()])))
    if arguments.keep:
        keep("suspension", lines, table(lines))


def longest_ms(condition: str, suspensions: int) -> list[float]:
    """Return the longest ``publish()`` during each suspension, in milliseconds."""
    listener = subprocess.Popen([sys.executable, "-c", LISTENER], stdout=subprocess.PIPE)
    assert listener.stdout is not None
    listener.stdout.readline()
    if condition == "udp":
        share_no_memory(get_rmw_implementation_identifier())
    rclpy.init()
    node = Node("commander")
    publishers = [node.create_publisher(Float64MultiArray, name, reliable(1)) for name in TOPICS]
    message, longest = Float64MultiArray(data=[1.0] * 6), []
    try:
        while any(publisher.get_subscription_count() == 0 for publisher in publishers):
            time.sleep(SETTLE_S)
        for _ in range(suspensions):
            until_s = time.monotonic() + random.uniform(*BUSY_S)
            while time.monotonic() < until_s:
                for publisher in publishers:
                    publisher.publish(message)
            os.kill(listener.pid, signal.SIGSTOP)
            until_s, worst_s = time.monotonic() + SUSPENDED_S, 0.0
            while time.monotonic() < until_s:
                for publisher in publishers:
                    begun_s = time.monotonic()
                    publisher.publish(message)
                    worst_s = max(worst_s, time.monotonic() - begun_s)
            os.kill(listener.pid, signal.SIGCONT)
            longest.append(worst_s * 1e3)
            time.sleep(SETTLE_S)
    finally:
        listener.kill()
        listener.wait()
        node.destroy_node()
        rclpy.shutdown()
    return longest


def line_of(condition: str, found_ms: Sequence[float]) -> Line:
    """Return what a condition came to."""
    return {
        "benchmark": "suspension",
        "transport": CONDITIONS[condition],
        "suspensions": len(found_ms),
        "over_20_ms": sum(each > 20.0 for each in found_ms),
        "max_ms": round(max(found_ms), 1),
        **machine(),
    }


def table(lines: Sequence[Line]) -> str:
    """Return the results as a page."""
    headings = ["transport", "suspensions", "publish() over 20 ms in", "longest (ms)"]
    keys = ("transport", "suspensions", "over_20_ms", "max_ms")
    rows = [[line[key] for key in keys] for line in lines]
    return (
        f"# Publishing while a subscriber is suspended\n\n    {COMMAND}\n\n{where(lines)}\n\n"
        "The longest `publish()` of a command during each suspension of a busy subscriber; how is "
        "said in\n`benchmarks/stop/suspension.py`.\n\n" + markdown_table(headings, rows)
    )


if __name__ == "__main__":
    main()
