"""What goes wrong near a robot; each time it ends safe, and the reason is in /diagnostics."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from geometry_msgs.msg import PointStamped
from lifecycle_msgs.msg import State
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from dql_ros.nodes.topics import reliable, time_message
from dql_ros.processes import NodeProcess
from tests.ros.nodes import scripted_policy_node as scripted
from tests.ros.nodes.arm import NODE, Arm, Told, state_of
from tests.ros.nodes.robot import SAFE, SCARA, Robot

pytestmark = pytest.mark.ros
SECOND_NS = 1_000_000_000
HOUR_NS = 3600 * SECOND_NS
ACTION = [scripted.ACTION] * 2


@pytest.fixture(name="contract")
def _contract(tmp_path: Path) -> Callable[..., str]:
    """Write the demo robot's contract with other rules for faults; return its path."""

    def write(on_fault: str = f"{{command: {SAFE}}}", **replaced: str) -> str:
        text = SCARA.read_text().replace(
            "on_fault: {command: [0.0, 0.0]}", f"on_fault: {on_fault}"
        )
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "contract.yaml"
        path.write_text(text)
        return str(path)

    return write


class Moving:
    """A policy node that moves an arm, and what it tells."""

    def __init__(self, robot: Robot, contract: str, **parameters: Any) -> None:
        self.process: NodeProcess = robot.run(
            "tests.ros.nodes.scripted_policy_node",
            NODE,
            contract=contract,
            autostart=True,
            **parameters,
        )
        self.robot, self.arm, self.told = robot, Arm(robot), Told(robot)
        self.arm.aim(self.arm.now_ns)
        self.arm.live(lambda: self.arm.last == ACTION, "the arm to move")

    def safe_and_told(self, words: str, **state: Any) -> None:
        """Wait, with states of now, for the safe command and the words in /diagnostics."""
        self.arm.live(
            lambda: self.arm.last == SAFE and self.told.said(words), f"'{words}'", **state
        )

    def moves_again(self) -> None:
        self.arm.live(
            lambda: self.arm.last == ACTION and self.told.state == "running", "the arm to move"
        )


@pytest.fixture(name="moving")
def _moving(robot: Robot, contract: Callable[..., str]) -> Moving:
    return Moving(robot, contract())


def test_values_that_are_not_finite(moving: Moving) -> None:
    moving.safe_and_told("'joint_states.position.shoulder' is nan", shoulder=math.nan)
    moving.moves_again()
    moving.safe_and_told("action 'elbow_velocity' is nan", shoulder=scripted.NAN)
    moving.moves_again()
    assert moving.told.count("guard non_finite_observation") > 0
    assert moving.told.count("guard non_finite_action") > 0
    assert moving.process.exit_code is None


def test_a_joint_that_is_renamed_in_mid_run(moving: Moving) -> None:
    moving.safe_and_told("joint 'shoulder' is not in the message", joint="shoulder_joint")
    assert moving.told.count("skipped messages of joint_states") > 0
    moving.arm.live(lambda: moving.told.state == "stale", "the state", joint="shoulder_joint")
    moving.moves_again()


def test_stamps_from_the_future_are_not_used(moving: Moving) -> None:
    moving.safe_and_told("s ahead of this node's clock", ahead_ns=HOUR_NS)
    assert moving.told.count("stamps ahead of joint_states") > 0
    moving.moves_again()


def test_stamps_that_are_ahead_do_not_outlive_their_sensor(moving: Moving) -> None:
    """Else they would become usable one after the other once the sensor has failed."""
    arm = moving.arm
    ahead_ns = 2 * SECOND_NS
    moving.safe_and_told("s ahead of this node's clock", ahead_ns=ahead_ns)
    assert (
        "set 'stamp: receive' for it in the contract"
        in moving.told.diagnostics[-1].status[0].message
    )
    seen, until_ns = len(arm.commands), arm.now_ns + 3 * SECOND_NS
    moving.robot.probe.until(lambda: arm.now_ns > until_ns, "all stamps to be reached")
    assert len(arm.commands) > seen + 10
    assert all(list(command.data) == SAFE for command in arm.commands[seen:])


def test_a_clock_that_stops_does_not_keep_states_fresh(
    robot: Robot, contract: Callable[..., str]
) -> None:
    """The states go on, and their stamps; what the node would drive on is a second old."""
    clock = robot.probe.node.create_publisher(Clock, "/clock", reliable(10))
    robot.run(
        "tests.ros.nodes.scripted_policy_node",
        NODE,
        contract=contract(),
        autostart=True,
        use_sim_time=True,
    )
    arm = Arm(robot)
    start_ns, begun_ns = 100 * SECOND_NS, arm.now_ns
    arm.aim(start_ns)

    def live(condition: Callable[[], bool], *, ticking: bool) -> Callable[[], bool]:
        def shown() -> bool:
            now_ns = start_ns + arm.now_ns - begun_ns
            if ticking:
                clock.publish(Clock(clock=time_message(now_ns)))
            arm.show(now_ns)
            return condition()

        return shown

    robot.probe.until(live(lambda: arm.last == ACTION, ticking=True), "the arm to move")
    robot.probe.until(live(lambda: arm.last == SAFE, ticking=False), "the safe command")
    seen, until_ns = len(arm.commands), arm.now_ns + 3 * SECOND_NS
    robot.probe.until(live(lambda: arm.now_ns > until_ns, ticking=False), "some seconds")
    assert all(list(command.data) == SAFE for command in arm.commands[seen:])
    robot.probe.until(live(lambda: arm.last == ACTION, ticking=True), "the arm to move again")


@pytest.mark.parametrize("absurd", [1e3, 1e30])
def test_what_no_sensor_can_have_measured_is_not_acted_on(
    robot: Robot, scara: Path, scara_bundle: Path, absurd: float
) -> None:
    robot.start(NODE, contract=str(scara), policy=str(scara_bundle), autostart=True)
    arm, told = Arm(robot), Told(robot)
    arm.aim(arm.now_ns)
    arm.live(lambda: arm.commands and arm.last != SAFE, "the arm to move")
    arm.live(
        lambda: arm.last == SAFE and told.count("guard impossible_observation") > 0,
        "the safe command",
        shoulder=absurd,
    )
    assert told.said("observation 'joint_states.position.shoulder' = 1")
    arm.live(lambda: arm.last != SAFE, "the arm to move again")


def test_the_contracts_limits_of_observations_are_obeyed(
    robot: Robot, contract: Callable[..., str]
) -> None:
    limited = {
        "joints: [shoulder, elbow], unit: rad}": "joints: [shoulder, elbow], unit: rad, high: 1.9}"
    }
    moving = Moving(robot, contract(**limited))
    moving.safe_and_told("= 2 is beyond the contract's limits [-inf, 1.9]", shoulder=2.0)
    moving.moves_again()


def test_a_publishers_clock_that_is_set_back(moving: Moving) -> None:
    moving.safe_and_told("no fresh observation: 'joint_states'", ahead_ns=-HOUR_NS)
    moving.moves_again()


def test_a_clock_that_jumps_back(robot: Robot, contract: Callable[..., str]) -> None:
    """The clock of a simulation that begins anew; without it the node would wait for hours."""
    clock = robot.probe.node.create_publisher(Clock, "/clock", reliable(10))
    robot.run(
        "tests.ros.nodes.scripted_policy_node",
        NODE,
        contract=contract(),
        autostart=True,
        use_sim_time=True,
    )
    arm, told = Arm(robot), Told(robot)
    now_ns = 100 * SECOND_NS
    arm.aim(now_ns)

    def simulated(condition: Callable[[], bool]) -> Callable[[], bool]:
        def shown() -> bool:
            nonlocal now_ns
            now_ns += SECOND_NS // 50
            clock.publish(Clock(clock=time_message(now_ns)))
            arm.show(now_ns)
            return condition()

        return shown

    robot.probe.until(simulated(lambda: arm.last == ACTION), "the arm to move")
    now_ns = 5 * SECOND_NS
    robot.probe.until(simulated(lambda: arm.last == SAFE), "the safe command")
    # The target is of the time before the jump, and was not sent again.
    words = "'target' never came"
    robot.probe.until(simulated(lambda: told.said(words)), "word of it")
    arm.aim(now_ns)
    robot.probe.until(simulated(lambda: arm.last == ACTION), "the arm to move again")
    robot.probe.until(simulated(lambda: told.count("clock jumps") == 1), "a count of it")


def test_an_inference_that_stalls_does_not_delay_the_safe_command(moving: Moving) -> None:
    arm, told = moving.arm, moving.told
    arm.live(lambda: arm.last == SAFE, "the safe command", shoulder=scripted.STALL)
    sent = len(arm.commands)
    # While the policy is stuck, ticks and commands go on.
    arm.live(lambda: len(arm.commands) >= sent + 3, "more of them", shoulder=scripted.STALL)
    assert all(list(command.data) == SAFE for command in arm.commands[sent:])
    moving.moves_again()
    arm.live(lambda: told.count("guard slow_inference") > 0, "a count of it")
    assert told.said("inference has not answered for")


@pytest.mark.parametrize("mode", ["real_time", "lockstep"])
def test_a_crash_of_the_policy_ends_the_process_after_the_safe_command(
    robot: Robot, contract: Callable[..., str], mode: str
) -> None:
    moving = Moving(robot, contract(), mode=mode)
    arm = moving.arm
    while not moving.process.wait(0.0):
        arm.show(arm.now_ns, scripted.CRASH)
        moving.robot.probe.spin()
    assert moving.process.exit_code == 1
    for _ in range(20):
        moving.robot.probe.spin()
    assert arm.last == SAFE
    broke = "the policy failed: ZeroDivisionError('the policy broke')"
    assert moving.told.said(f"{broke}; this node ends: see its log, then start it again")


def test_commands_beyond_the_bounds_are_cut_and_told(moving: Moving) -> None:
    arm, told = moving.arm, moving.told
    arm.live(lambda: arm.last == [2.0, 2.0], "the bounds", shoulder=scripted.BEYOND)
    arm.live(lambda: told.said("clamped action"), "word of it", shoulder=scripted.BEYOND)
    assert all(abs(value) <= 2.0 for command in arm.commands for value in command.data)


def test_a_burst_and_a_loss_of_messages_are_survived(moving: Moving) -> None:
    arm = moving.arm
    seen = len(arm.commands)

    def burst() -> bool:
        for _ in range(50):
            arm.show(arm.now_ns)
        return len(arm.commands) >= seen + 10

    arm.live(burst, "commands in a burst of states")
    turns = iter(range(10**9))

    def lossy() -> bool:
        if next(turns) % 10 >= 3:
            arm.show(arm.now_ns)
        return len(arm.commands) >= seen + 30

    moving.robot.probe.until(lossy, "commands in spite of losses")
    assert arm.last == ACTION


def test_one_of_two_streams_that_stops(
    robot: Robot, contract: Callable[..., str], tmp_path: Path
) -> None:
    path = contract(**{"latched: true  # sent once an episode": "max_age_s: 0.5"})
    robot.run("tests.ros.nodes.scripted_policy_node", NODE, contract=path, autostart=True)
    arm, told = Arm(robot), Told(robot)
    target = robot.probe.node.create_publisher(PointStamped, "target", reliable(10))

    def both() -> bool:
        message = PointStamped()
        message.header.stamp = time_message(arm.now_ns)
        target.publish(message)
        return arm.last == ACTION

    arm.live(both, "the arm to move")
    arm.live(lambda: arm.last == SAFE and told.said("'target' is 0."), "the loss to be told")
    assert not told.said("'joint_states' is")
    arm.live(both, "the arm to move again")


def test_hold_ramp_and_deactivation(robot: Robot, contract: Callable[..., str]) -> None:
    rules = f"{{hold_s: 0.5, ramp_s: 1.0, command: {SAFE}, deactivate_after_s: 2.0}}"
    moving = Moving(robot, contract(rules))
    arm, told = moving.arm, moving.told
    before = len(arm.commands)
    robot.probe.until(lambda: told.state == "inactive", "the node to deactivate itself")
    words = "deactivated: no fresh observation: 'joint_states' is"
    robot.probe.until(lambda: arm.last == SAFE and told.said(words), "the safe command")
    assert state_of(robot) == State.PRIMARY_STATE_INACTIVE
    way = [command.data[0] for command in arm.commands[before:]]
    assert way == sorted(way, reverse=True)
    # Some were held, some lay between, and the ramp was no jump.
    assert way.count(ACTION[0]) >= 3
    assert len([value for value in way if SAFE[0] < value < ACTION[0]]) >= 3


def test_no_command_is_farther_from_the_one_before_than_the_contract_allows(
    robot: Robot, contract: Callable[..., str]
) -> None:
    moving = Moving(robot, contract(**{"high: 2.0}": "high: 2.0, max_rate: 5.0}"}))
    arm = moving.arm
    moving.safe_and_told("no fresh observation", ahead_ns=-HOUR_NS)
    sent = [SAFE[0], *(command.data[0] for command in arm.commands)]
    steps = [abs(after - before) for before, after in pairwise(sent)]
    assert max(steps) == pytest.approx(0.5, abs=1e-5)
    assert moving.told.count("guard slew_limited_action") > 0


def test_endpoints_with_another_quality_of_service_are_told(
    robot: Robot, contract: Callable[..., str]
) -> None:
    """The target is not latched by its publisher, and a listener wants latched commands."""
    path = contract()
    robot.run(
        "tests.ros.nodes.scripted_policy_node",
        NODE,
        contract=path,
        autostart=True,
        activation_timeout_s=0.0,
    )
    probe, told = robot.probe, Told(robot)
    volatile = QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
    )
    probe.node.create_publisher(PointStamped, "target", volatile)
    probe.node.create_subscription(
        Float64MultiArray, "velocity_controller/commands", print, reliable(1, latched=True)
    )
    states = probe.node.create_publisher(JointState, "joint_states", reliable(1))
    probe.until(lambda: states.get_subscription_count() > 0, "the node")
    probe.until(lambda: told.count("QoS incompatibilities") == 2, "both to be told")
    assert told.said("of 'target' use another durability than the contract")
    assert told.said("of 'velocity_controller/commands' use another durability")
    assert told.state == "waiting"
