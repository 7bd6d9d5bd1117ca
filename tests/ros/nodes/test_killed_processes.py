"""A process of the control loop is killed in mid-motion: the robot stops, and may go on."""

from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from dql_ros.processes import NodeProcess
from tests.ros.nodes.arm import Told
from tests.ros.nodes.robot import SAFE, Robot

pytestmark = pytest.mark.ros

COMMANDS = "velocity_controller/commands"


def start_policy(robot: Robot, scara: Path, bundle: Path) -> NodeProcess:
    return robot.start(
        "policy",
        contract=str(scara),
        policy=str(bundle),
        autostart=True,
        use_sim_time=True,
        when_too_slow="warn",
    )


def start_bridge(robot: Robot, scara: Path) -> NodeProcess:
    return robot.start(
        "sim_bridge", contract=str(scara), mode="real_time", max_episode_steps=100_000
    )


def bridge_states(robot: Robot) -> list[str]:
    """A list that the states that the bridge tells are appended to."""
    states: list[str] = []

    def note(message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "sim_bridge: simulation":
                states.extend(value.value for value in status.values if value.key == "state")

    robot.probe.node.create_subscription(DiagnosticArray, "/diagnostics", note, 100)
    return states


def test_a_policy_that_is_killed_leaves_a_robot_that_stops_and_its_successor_drives_on(
    robot: Robot, scara: Path, scara_bundle: Path
) -> None:
    probe, states = robot.probe, bridge_states(robot)
    commands = probe.collect(Float64MultiArray, COMMANDS)
    start_bridge(robot, scara)
    policy = start_policy(robot, scara, scara_bundle)
    probe.until(lambda: len(commands) > 10 and "running" in states, "the policy to drive")
    robot.kill(policy)
    states.clear()
    probe.until(lambda: "stopped" in states, "the simulated robot to stop")
    assert list(commands[-1].data) != SAFE, "the policy itself had no time for a last command"
    start_policy(robot, scara, scara_bundle)
    seen = len(commands)
    states.clear()
    probe.until(lambda: len(commands) > seen + 10 and "running" in states, "the successor")


def test_a_policy_whose_robot_is_gone_sends_the_safe_command(
    robot: Robot, scara: Path, scara_bundle: Path
) -> None:
    probe, told = robot.probe, Told(robot)
    commands = probe.collect(Float64MultiArray, COMMANDS)
    states = probe.collect(JointState, "joint_states")
    bridge = start_bridge(robot, scara)
    policy = start_policy(robot, scara, scara_bundle)
    probe.until(lambda: len(commands) > 10 and told.state == "running", "the policy to drive")
    robot.kill(bridge)
    assert states
    probe.until(lambda: list(commands[-1].data) == SAFE, "the safe command")
    probe.until(lambda: told.state == "stale" and told.said("joint_states"), "the reason")
    assert policy.exit_code is None
