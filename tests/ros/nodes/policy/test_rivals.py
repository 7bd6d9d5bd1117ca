"""Another node that commands the same robot: seen, named, and by default not driven beside."""

from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray

from dql_ros.nodes.topics import Rivals, reliable
from tests.ros.nodes import scripted_policy_node as scripted
from tests.ros.nodes.arm import NODE, Arm, Told, state_of
from tests.ros.nodes.robot import SAFE, Robot

pytestmark = pytest.mark.ros
ACTION = [scripted.ACTION] * 2
COMMANDS = "velocity_controller/commands"


def start(robot: Robot, contract: Path, name: str = NODE, **parameters: Any) -> Any:
    module = "tests.ros.nodes.scripted_policy_node"
    return robot.run(module, name, contract=str(contract), **parameters)


def rival_of(robot: Robot) -> Any:
    return robot.probe.node.create_publisher(Float64MultiArray, COMMANDS, reliable(1))


def test_a_rival_that_appears_ends_the_work_safely_and_is_named(robot: Robot, scara: Path) -> None:
    process = start(robot, scara, autostart=True)
    arm, told = Arm(robot), Told(robot)
    arm.aim(arm.now_ns)
    arm.live(lambda: arm.last == ACTION, "the arm to move")
    rival_of(robot)
    # Of two topics, either may be heard first.
    arm.live(lambda: told.state == "inactive" and arm.last == SAFE, "the node to give way")
    words = f"deactivated: '{COMMANDS}' has 2 publishers: /policy, /probe"
    robot.probe.until(lambda: words in process.last_words, "the names")
    arm.live(lambda: words in told.reason, "the names")
    assert state_of(robot) == State.PRIMARY_STATE_INACTIVE
    assert told.diagnostics[-1].status[0].level == b"\x02"


def test_with_a_rival_the_node_does_not_become_active(robot: Robot, scara: Path) -> None:
    rival = rival_of(robot)
    process = start(robot, scara, activation_timeout_s=1.0)
    arm, probe = Arm(robot), robot.probe
    assert probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    arm.aim(arm.now_ns)
    answer = probe.begin_transition(NODE, Transition.TRANSITION_ACTIVATE)
    arm.live(answer.done, "the refusal")
    assert not answer.result().success
    probe.until(
        lambda: "/policy, /probe: stop the other node, or set on_rival" in process.last_words,
        "the names",
    )
    assert not arm.commands
    probe.node.destroy_publisher(rival)
    answer = probe.begin_transition(NODE, Transition.TRANSITION_ACTIVATE)
    arm.live(lambda: arm.last == ACTION, "the arm to move once it is alone")


def test_a_rival_may_be_allowed_and_is_an_error_all_the_same(robot: Robot, scara: Path) -> None:
    rival_of(robot)
    start(robot, scara, autostart=True, on_rival="warn")
    arm, told = Arm(robot), Told(robot)
    arm.aim(arm.now_ns)
    arm.live(lambda: arm.last == ACTION and told.state == "running", "the arm to move")
    arm.live(lambda: told.said("has 2 publishers: /policy, /probe"), "the names")
    assert told.diagnostics[-1].status[0].level == b"\x02"


def test_a_second_policy_node_is_a_rival_once_it_is_configured(robot: Robot, scara: Path) -> None:
    start(robot, scara, autostart=True)
    arm, told = Arm(robot), Told(robot)
    arm.aim(arm.now_ns)
    arm.live(lambda: arm.last == ACTION, "the arm to move")
    start(robot, scara, "other")
    assert robot.probe.change_state("other", Transition.TRANSITION_CONFIGURE)
    arm.live(lambda: arm.last == SAFE and told.said("/other, /policy"), "the first to give way")


def test_a_rival_may_have_the_nodes_own_name(robot: Robot, scara: Path) -> None:
    start(robot, scara, autostart=True)
    arm, told = Arm(robot), Told(robot)
    arm.aim(arm.now_ns)
    arm.live(lambda: arm.last == ACTION, "the arm to move")
    twin = Node(NODE, context=robot.probe.node.context, enable_rosout=False)
    twin.create_publisher(Float64MultiArray, COMMANDS, reliable(1))
    arm.live(lambda: arm.last == SAFE and told.said("/policy, /policy"), "the node to give way")
    twin.destroy_node()


def test_the_bridge_names_those_who_command_its_robot(robot: Robot, pendulum: Path) -> None:
    node = robot.probe.node
    node.create_publisher(Float64MultiArray, "torque", reliable(1))
    told = robot.probe.collect(DiagnosticArray, "/diagnostics")
    bridge = robot.start("sim_bridge", contract=str(pendulum), env="Pendulum-v1", mode="real_time")

    def said(words: str) -> bool:
        return any(words in array.status[0].message for array in told)

    robot.probe.until(lambda: told, "the bridge")
    assert not said("publishers")
    node.create_publisher(Float64MultiArray, "torque", reliable(1))
    robot.probe.until(lambda: said("'torque' has 2 publishers: /probe, /probe"), "the names")
    assert told[-1].status[0].level == b"\x02"
    robot.probe.until(lambda: "2 publishers" in bridge.last_words, "the log to name them")


@pytest.mark.parametrize("second", ["/third", COMMANDS], ids=["a chain", "a swap"])
def test_a_rival_is_seen_through_remappings(robot: Robot, second: str) -> None:
    remaps = ["-r", f"{COMMANDS}:=/elsewhere", "-r", f"/elsewhere:={second}"]
    probe = robot.probe.node
    driver = Node(
        NODE, context=probe.context, cli_args=["--ros-args", *remaps], enable_rosout=False
    )
    driver.create_publisher(Float64MultiArray, COMMANDS, reliable(1))
    rivals = Rivals(driver, [COMMANDS], is_commander=True)
    assert rivals.problem() == ""
    probe.create_publisher(Float64MultiArray, "/elsewhere", reliable(1))
    robot.probe.until(rivals.problem, "the rival")
    assert "/policy, /probe" in rivals.problem()
    driver.destroy_node()
