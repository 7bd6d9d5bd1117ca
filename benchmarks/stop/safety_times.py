"""How long after something has gone wrong the robot gets the safe command; JSON lines.

    python -m benchmarks.stop.safety_times           # prints lines
    python -m benchmarks.stop.safety_times --keep    # and writes them to benchmarks/results

The robot and the policy are those of `benchmarks.control.timing` at 100 Hz, with states every 5 ms
that may be 0.1 s old, and neither hold nor ramp. This process is the robot: it does what goes
wrong, and hears the commands. A time lasts from that until the safe command has arrived after
which no action came. The emergency stop has a benchmark of its own, `benchmarks.stop.latency`.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from benchmarks.control.robot import (
    COMMAND_TOPIC,
    JOINTS,
    STATE_TOPIC,
    export_untrained,
    policy_command,
    write_arm,
)
from benchmarks.machine import Line, keep, machine, markdown_table, show, where
from benchmarks.stop.latency import running
from dql_ros.nodes.base import ClientNode
from dql_ros.nodes.topics import reliable, time_message
from dql_ros.processes import environment_of, own_domain

RATE_HZ, STATE_PERIOD_S, TIMES = 100.0, 0.005, 10
TIMEOUT_S, SETTLED_S = 60.0, 0.1
COMMAND = "python -m benchmarks.stop.safety_times --keep"


class Robot(ClientNode):
    """An arm that shows states, some of them wrong, and hears commands.

    Attributes:
        alter: Changes each state before it is shown; ``None`` while no state is shown.
    """

    def __init__(self, domain: int, process: subprocess.Popen[bytes]) -> None:
        super().__init__(domain, "robot")
        self.alter: Callable[[Any], None] | None = lambda _: None
        self.process = process
        self._heard: list[tuple[int, bool]] = []
        self._shown_s = 0.0
        self._states = self.node.create_publisher(JointState, STATE_TOPIC, 1)
        self.node.create_subscription(Float64MultiArray, COMMAND_TOPIC, self._hear, reliable(1000))

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Show states and listen until something is so."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline_s:
                sys.exit(f"waited in vain for {what}")
            if self.alter is not None and time.monotonic() >= self._shown_s + STATE_PERIOD_S:
                self._show(self.alter)
            self.spin_once(0.001)

    def moves(self) -> None:
        """Wait until actions come."""
        since_ns = time.monotonic_ns()
        self.until(lambda: any(at > since_ns and acts for at, acts in self._heard), "an action")

    def time_to_safety_ms(self, go_wrong: Callable[[], None]) -> float:
        """Do what goes wrong; return how long it took until the last of the commands was safe."""
        self._heard.clear()
        before_ns = time.monotonic_ns()
        go_wrong()

        def is_settled() -> bool:
            now_ns = time.monotonic_ns()
            last_action_ns = max((at for at, acts in self._heard if acts), default=before_ns)
            is_safe = any(at > last_action_ns for at, acts in self._heard if not acts)
            return is_safe and now_ns - last_action_ns > SETTLED_S * 1e9

        self.until(is_settled, "the safe command")
        last_action_ns = max((at for at, acts in self._heard if acts), default=before_ns)
        return (min(at for at, acts in self._heard if at > last_action_ns) - before_ns) / 1e6

    def call(self, kind: Any, service: str, request: Any) -> None:
        """Ask the node for something, without waiting for the answer."""
        client = self.node.create_client(kind, service)
        self.until(client.service_is_ready, service)
        client.call_async(request)

    def _show(self, alter: Callable[[Any], None]) -> None:
        self._shown_s = now_s = time.monotonic()
        state = JointState(name=list(JOINTS))
        state.position = [math.sin(now_s + joint) for joint in range(len(JOINTS))]
        state.velocity = [math.cos(now_s + joint) for joint in range(len(JOINTS))]
        state.header.stamp = time_message(time.time_ns())
        alter(state)
        self._states.publish(state)

    def _hear(self, command: Any) -> None:
        self._heard.append((time.monotonic_ns(), any(command.data)))


def lose_states(robot: Robot) -> None:
    """The encoder fails."""
    robot.alter = None


def altering(change: Callable[[Any], None]) -> Callable[[Robot], None]:
    """Return what goes wrong with each state from now on."""

    def go_wrong(robot: Robot) -> None:
        robot.alter = change

    return go_wrong


def not_a_number(state: Any) -> None:
    """Replace a number."""
    state.position[0] = math.nan


def absurd(state: Any) -> None:
    """Replace a number by one that no joint can have."""
    state.position[0] = 1e3


def ahead(state: Any) -> None:
    """Stamp it by a clock that is 2 s ahead."""
    state.header.stamp.sec += 2


def appear(robot: Robot) -> None:
    """Another node publishes commands."""
    robot.node.create_publisher(Float64MultiArray, COMMAND_TOPIC, reliable(1))


def asking(kind: Any, service: str, request: Any) -> Callable[[Robot], None]:
    """Return a call of a service."""
    return lambda robot: robot.call(kind, service, request)


def sending(number: signal.Signals) -> Callable[[Robot], None]:
    """Return a signal to the process."""
    return lambda robot: robot.process.send_signal(number)


DEACTIVATE = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))

# What goes wrong, and whether the node goes on afterwards.
HAZARDS: dict[str, tuple[Callable[[Robot], None], bool]] = {
    "no more states (max_age_s 0.1)": (lose_states, True),
    "stamps 2 s ahead (max_age_s 0.1)": (altering(ahead), True),
    "a NaN in the state": (altering(not_a_number), True),
    "1e3 rad in the state": (altering(absurd), True),
    "pause": (asking(Trigger, "policy/pause", Trigger.Request()), False),
    "deactivate": (asking(ChangeState, "policy/change_state", DEACTIVATE), False),
    "another node commands the robot": (appear, False),
    "SIGINT (Ctrl-C)": (sending(signal.SIGINT), False),
    "SIGTERM": (sending(signal.SIGTERM), False),
    "SIGQUIT (Ctrl-\\)": (sending(signal.SIGQUIT), False),
    "SIGHUP (lost terminal)": (sending(signal.SIGHUP), False),
    "SIGTSTP (Ctrl-Z)": (sending(signal.SIGTSTP), False),
}


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=TIMES, help="each is done")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contract = write_arm(folder, RATE_HZ)
        bundle = export_untrained(contract, folder)
        for hazard in HAZARDS:
            times_ms = measure(hazard, contract, bundle, arguments.times)
            p50, largest = np.percentile(times_ms, (50, 100))
            lines.append(
                show(
                    {
                        "benchmark": "safety_times",
                        "hazard": hazard,
                        "times": len(times_ms),
                        "p50_ms": round(float(p50), 1),
                        "max_ms": round(float(largest), 1),
                        **machine(),
                    }
                )
            )
    if arguments.keep:
        keep("safety_times", lines, table(lines))


def measure(hazard: str, contract: Path, bundle: Path, times: int) -> list[float]:
    """Let something go wrong so many times; return the milliseconds until the safe command."""
    go_wrong, goes_on = HAZARDS[hazard]
    measured: list[float] = []
    while len(measured) < times:
        with started(contract, bundle) as robot:
            for _ in range(times if goes_on else 1):
                robot.alter = lambda _: None
                robot.moves()
                measured.append(robot.time_to_safety_ms(lambda: go_wrong(robot)))
    return measured


@contextmanager
def started(contract: Path, bundle: Path) -> Iterator[Robot]:
    """Start the policy node, and the robot beside it."""
    with ExitStack() as stack:
        domain = stack.enter_context(own_domain())
        environment = environment_of(domain) | {"ROS_LOG_DIR": str(contract.parent / "log")}
        command = policy_command(contract, bundle)
        process = stack.enter_context(
            running(command, environment, contract.parent, subprocess.DEVNULL)
        )
        yield stack.enter_context(Robot(domain, process))


def table(lines: list[Line]) -> str:
    """Return the results as a page."""
    rows = [
        [line["hazard"], line["times"], f"{line['p50_ms']:.1f} / {line['max_ms']:.1f}"]
        for line in lines
    ]
    headings = ["what goes wrong", "times", "safe command after median / max (ms)"]
    return (
        f"# From what goes wrong to the safe command\n\n    {COMMAND}\n\n{where(lines)}\n\n"
        "At 100 Hz, a control period of 10 ms, without hold and ramp; how is said in "
        "`benchmarks/stop/safety_times.py`.\n\n"
        f"{markdown_table(headings, rows)}"
    )


if __name__ == "__main__":
    main()
