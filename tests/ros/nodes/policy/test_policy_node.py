"""The policy node as a process, seen from a robot's topics."""

import math
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import JointState

from dql_ros.nodes.topics import reliable
from tests.ros.nodes.arm import NODE, Arm, Told, state_of
from tests.ros.nodes.robot import SAFE, SCARA, Robot

pytestmark = pytest.mark.ros


@pytest.fixture(name="safe")
def _safe(scara: Path, scara_bundle: Path) -> dict[str, Any]:
    """Parameters of a policy node for an arm with a peculiar safe command."""
    return {"contract": str(scara), "policy": str(scara_bundle)}


def test_the_lifecycle_decides_whether_commands_go_out(robot: Robot, safe: dict[str, Any]) -> None:
    robot.start(NODE, **safe, mode="lockstep", seed=0)
    probe, arm = robot.probe, Arm(robot)
    states = probe.states(NODE)
    assert probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    arm.aim(0)
    arm.show(0)
    assert state_of(robot) == State.PRIMARY_STATE_INACTIVE
    assert arm.commands == []
    assert probe.change_state(NODE, Transition.TRANSITION_ACTIVATE)
    first = arm.answered(0)
    probe.until(lambda: "running" in states, "the node to run")
    # The same instant, asked about at once again, is not answered twice.
    arm.show(0)
    second = arm.answered(50_000_000)
    assert [list(command.data) for command in arm.commands] == [first, second]
    assert all(abs(value) <= 2.0 for value in (*first, *second))
    assert probe.change_state(NODE, Transition.TRANSITION_DEACTIVATE)
    probe.until(lambda: len(arm.commands) == 3, "the safe command")
    assert list(arm.commands[-1].data) == SAFE
    arm.show(100_000_000)
    assert state_of(robot) == State.PRIMARY_STATE_INACTIVE
    assert len(arm.commands) == 3
    # It can be cleaned up, configured and activated again; the latched target is still known.
    assert probe.change_state(NODE, Transition.TRANSITION_CLEANUP)
    probe.activate(NODE)
    assert arm.answered(150_000_000) == first


def test_torch_can_compute_the_commands_instead(robot: Robot, safe: dict[str, Any]) -> None:
    commands = []
    for backend in ("onnx", "torch"):
        process = robot.start(
            NODE, **safe, mode="lockstep", seed=0, backend=backend, autostart=True
        )
        arm = Arm(robot)
        arm.aim(0)
        commands.append([arm.answered(0), arm.answered(50_000_000)])
        process.send_signal(signal.SIGINT)
        robot.probe.until(partial(process.wait, 0.0), "the process to end")
    assert commands[1] == [pytest.approx(command, abs=1e-4) for command in commands[0]]


@contextmanager
def hangups(disposition: signal.Handlers) -> Iterator[None]:
    """Let processes that are started meanwhile inherit this, whatever started the tests."""
    before = signal.signal(signal.SIGHUP, disposition)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


# Ctrl-C, the end of a session, Ctrl-\\, Ctrl-Z, a supervisor's watchdog, and what ends all others.
ENDS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGTSTP,
    signal.SIGABRT,
    signal.SIGUSR1,
    signal.SIGALRM,
    signal.SIGRTMIN,
)


@pytest.mark.parametrize("number", ENDS)
def test_the_safe_command_is_the_last_when_the_process_is_told_to_end(
    robot: Robot, safe: dict[str, Any], number: signal.Signals
) -> None:
    """In real time, in mid-motion; the last report is that of the end."""
    with hangups(signal.SIG_DFL):
        process = robot.start(NODE, **safe, seed=0, autostart=True)
    probe, arm, told = robot.probe, Arm(robot), Told(robot)
    arm.aim(probe.node.get_clock().now().nanoseconds)

    def moving() -> bool:
        arm.show(probe.node.get_clock().now().nanoseconds)
        return sum(list(command.data) != SAFE for command in arm.commands) > 5

    probe.until(moving, "the arm to move")
    process.send_signal(number)
    probe.until(lambda: process.wait(0.0), "the process to end")
    assert process.exit_code == 0
    probe.until(lambda: list(arm.commands[-1].data) == SAFE, "the safe command")
    probe.until(lambda: told.values.get("state") == told.state == "inactive", "the last report")
    for _ in range(10):
        probe.spin()
    assert list(arm.commands[-1].data) == SAFE
    assert told.values["state"] == told.state == "inactive"


def test_a_node_under_nohup_outlives_its_terminal(robot: Robot, safe: dict[str, Any]) -> None:
    with hangups(signal.SIG_IGN):
        process = robot.start(NODE, **safe, mode="lockstep", autostart=True)
    arm = Arm(robot)
    arm.aim(0)
    arm.answered(0)
    process.send_signal(signal.SIGHUP)
    for step in range(1, 6):
        arm.answered(step * 50_000_000)
    process.send_signal(signal.SIGINT)
    robot.probe.until(partial(process.wait, 0.0), "the process to end")
    assert process.exit_code == 0


def test_a_state_stream_that_stops_leads_to_the_safe_command_and_is_told(
    robot: Robot, safe: dict[str, Any]
) -> None:
    robot.start(NODE, **safe, seed=0, autostart=True)
    probe, arm = robot.probe, Arm(robot)
    states, diagnostics = probe.states(NODE), probe.collect(DiagnosticArray, "/diagnostics")
    arm.aim(probe.node.get_clock().now().nanoseconds)

    def running() -> bool:
        arm.show(probe.node.get_clock().now().nanoseconds)
        return "running" in states

    probe.until(running, "the node to run")
    probe.until(lambda: states[-1:] == ["stale"], "the node to notice the silence")
    probe.until(lambda: list(arm.commands[-1].data) == SAFE, "the safe command")

    def stale() -> Any:
        levels = {array.status[0].level: array.status[0] for array in diagnostics}
        return levels.get(DiagnosticStatus.ERROR)

    status = probe.until(stale, "a diagnostic of it")
    values = {pair.key: pair.value for pair in status.values}
    assert status.name == "policy: control loop"
    assert "'joint_states' is 0." in status.message
    assert values["state"] == "stale"
    assert int(values["guard stale_stream"]) > 0
    assert int(values["guard published"]) > 0
    assert float(values["age of joint_states (s)"]) > 0.2
    assert float(values["inference p99 (ms)"]) > 0.0


def test_a_message_without_the_joint_is_refused_and_the_arm_not_driven(
    robot: Robot, safe: dict[str, Any]
) -> None:
    process = robot.start(NODE, **safe, seed=0, autostart=True)
    publisher = robot.probe.node.create_publisher(JointState, "joint_states", reliable(10))

    def complains() -> bool:
        publisher.publish(JointState(name=["wrist"], position=[0.0], velocity=[0.0]))
        return "joint 'shoulder' is not in the message" in process.last_words

    robot.probe.until(complains, "a complaint")


def test_an_observation_that_is_not_finite_is_a_fault(robot: Robot, safe: dict[str, Any]) -> None:
    robot.start(NODE, **safe, mode="lockstep", seed=0, autostart=True)
    arm, states = Arm(robot), robot.probe.states(NODE)
    arm.aim(0)
    assert arm.answered(0) != SAFE
    assert arm.answered(50_000_000, shoulder=math.nan) == SAFE
    robot.probe.until(lambda: states[-1:] == ["fault"], "the fault to be told")
    assert arm.answered(100_000_000) != SAFE


def test_relative_topics_follow_the_namespace(robot: Robot, safe: dict[str, Any]) -> None:
    robot.start(NODE, namespace="/left_arm", **safe, mode="lockstep", autostart=True)
    probe = robot.probe
    names = {"/left_arm/joint_states", "/left_arm/target"}

    def listened() -> bool:
        return all(probe.node.count_subscribers(name) == 1 for name in names)

    probe.until(listened, "the subscriptions")
    commands = "/left_arm/velocity_controller/commands"
    assert probe.until(lambda: probe.node.count_publishers(commands), "the publisher") == 1


def test_a_missing_bundle_is_told_and_the_node_stays(robot: Robot, tmp_path: Path) -> None:
    process = robot.start(NODE, contract=str(SCARA), policy=str(tmp_path / "nowhere"))
    assert not robot.probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    robot.probe.until(lambda: "could not configure" in process.last_words, "the reason")
    assert "nowhere" in process.last_words
    assert state_of(robot) == State.PRIMARY_STATE_UNCONFIGURED


def test_a_transition_that_the_state_does_not_have_changes_nothing(
    robot: Robot, safe: dict[str, Any]
) -> None:
    """Here rclpy itself raises, and would never answer."""
    process = robot.start(NODE, **safe, mode="lockstep")
    probe = robot.probe
    client = probe.node.create_client(ChangeState, f"{NODE}/change_state")
    probe.until(client.service_is_ready, "the service")
    for number in (Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE, 0, 99, 255):
        answer = client.call_async(ChangeState.Request(transition=Transition(id=number)))
        probe.until(answer.done, f"the answer to {number}")
        assert not answer.result().success
    probe.until(lambda: "possible are: configure" in process.last_words, "a warning")
    probe.activate(NODE)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"policy": "x"}, "parameter 'contract' of policy is not set"),
        ({"contract": "arm.yaml", "policy": "x"}, "arm.yaml: no such file"),
        (
            {"mode": "realtime"},
            "'mode' of policy is 'realtime', which is not allow.*'real_time'",
        ),
        ({"backend": "tensor"}, "'backend' of policy is 'tensor', which is not allowed"),
        (
            {"contract": str(SCARA), "policy": "x", "device": "gpu"},
            "device is 'gpu': it must be cpu, cuda or cuda:0",
        ),
        ({"max_z_score": -1.0}, "parameter 'max_z_score' of policy: .*range"),
        ({"seed": "zero"}, "parameter 'seed' of policy: .*INTEGER"),
    ],
)
def test_wrong_parameters_end_an_autostarted_node_with_one_line(
    robot: Robot, parameters: dict[str, Any], words: str
) -> None:
    process = robot.start(NODE, autostart=True, **parameters)
    assert process.wait(30)
    assert process.exit_code == 2
    assert re.search(words, process.last_words), process.last_words
