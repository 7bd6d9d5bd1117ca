"""What people and faults do to the simulated robot while it runs."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger

from dql_core.sim import SCARA_ID
from dql_core.streams import SECOND_NS
from dql_ros.codecs import stamp_ns
from dql_ros.contract import load_contract
from dql_ros.processes import own_domain
from dql_ros.sim.episodes import open_environment
from tests.ros.contract.test_shipped_contracts import CONTRACTS
from tests.ros.nodes.robot import SCARA, Robot
from tests.ros.nodes.sim_bridge.sim_driver import Driver
from tests.ros.sim.test_sim_model import CONTRACT, MODEL

pytestmark = pytest.mark.ros
NODE = "sim_bridge"
PERIOD_NS = load_contract(SCARA).period_ns
TYPES = {int: ParameterType.PARAMETER_INTEGER, str: ParameterType.PARAMETER_STRING}


class Health:
    """The bridge's entry in /diagnostics."""

    def __init__(self, robot: Robot) -> None:
        self._messages = robot.probe.collect(DiagnosticArray, "/diagnostics")

    @property
    def newest(self) -> DiagnosticStatus | None:
        found = [one for message in self._messages for one in message.status]
        own = [one for one in found if one.name == f"{NODE}: simulation"]
        return own[-1] if own else None

    @property
    def figures(self) -> dict[str, str]:
        status = self.newest
        return {} if status is None else {value.key: value.value for value in status.values}


def set_parameter(robot: Robot, name: str, value: int | str) -> Any:
    key = "integer_value" if isinstance(value, int) else "string_value"
    wrapped = ParameterValue(type=TYPES[type(value)], **{key: value})
    request = SetParameters.Request(parameters=[Parameter(name=name, value=wrapped)])
    return robot.probe.call(SetParameters, f"{NODE}/set_parameters", request).results[0]


def pause(robot: Robot, paused: bool) -> None:
    answer = robot.probe.call(SetBool, f"{NODE}/pause", SetBool.Request(data=paused))
    assert answer.success


def trigger(robot: Robot, service: str) -> Any:
    return robot.probe.call(Trigger, f"{NODE}/{service}", Trigger.Request())


def time_ns(health: Health) -> int:
    return round(float(health.figures["simulated time (s)"]) * SECOND_NS)


def test_while_paused_only_the_steps_that_are_asked_for_are_taken(robot: Robot) -> None:
    driver, health, probe = Driver(robot), Health(robot), robot.probe
    robot.start(NODE, contract=str(SCARA))
    probe.until(lambda: len(driver.states) > 2, "the simulation to run")
    assert not trigger(robot, "step").success
    pause(robot, True)
    probe.until(lambda: health.figures.get("state") == "paused", "the pause to be told")
    begin_ns = time_ns(health)
    assert set_parameter(robot, "steps", 3).successful
    for steps in (3, 6):
        assert trigger(robot, "step").message == "3 steps allowed"
        probe.until(lambda: driver.stamps[-1] == begin_ns + steps * PERIOD_NS, "the steps")  # noqa: B023
    pause(robot, False)
    probe.until(lambda: driver.stamps[-1] >= begin_ns + 8 * PERIOD_NS, "the run to go on")
    assert sorted(set(driver.stamps)) == list(range(0, driver.stamps[-1] + 1, PERIOD_NS))


def test_a_reset_while_paused_begins_the_episode_of_the_seed_asked_for(robot: Robot) -> None:
    driver, health, probe = Driver(robot, command=(0.0, 0.0)), Health(robot), robot.probe
    episodes = probe.collect(String, f"{NODE}/episode", latched=True)
    robot.start(NODE, contract=str(SCARA), max_episode_steps=1_000_000)
    probe.until(lambda: len(driver.states) > 2, "the simulation to run")
    pause(robot, True)
    assert set_parameter(robot, "reset_seed", 77).successful
    assert trigger(robot, "reset").success
    probe.until(lambda: episodes, "the episode's end")
    probe.until(lambda: len(driver.targets) == 2, "the next episode")
    target = driver.targets[1]
    observation, _ = gymnasium.make(SCARA_ID).reset(seed=77)
    np.testing.assert_array_equal([target.point.x, target.point.y], observation[2:])
    probe.until(lambda: driver.stamps[-1] == stamp_ns(target), "its first state")
    shown = dict(zip(driver.states[-1].name, driver.states[-1].position, strict=True))
    np.testing.assert_array_equal([shown["shoulder"], shown["elbow"]], observation[:2])
    assert driver.stamps == sorted(driver.stamps)
    # It stands still again.
    pause(robot, True)
    probe.until(lambda: time_ns(health) == stamp_ns(target), "the time of the pause")


def test_without_commands_the_robot_stops_and_says_so(robot: Robot) -> None:
    driver, health, probe = Driver(robot, command=(1.0, 0.0)), Health(robot), robot.probe
    robot.start(NODE, contract=str(SCARA), mode="real_time", max_episode_steps=10_000)
    probe.until(lambda: len(driver.states) > 2, "the simulation to run")
    driver.answering = False
    probe.until(lambda: health.figures.get("state") == "stopped", "the robot to stop")
    status = health.newest
    assert status is not None
    assert status.level == DiagnosticStatus.ERROR
    assert status.message == "no command in time: the robot was stopped"
    seen = len(driver.states)
    probe.until(lambda: len(driver.states) > seen + 5, "more states")
    shoulder = [state.position[state.name.index("shoulder")] for state in driver.states[-3:]]
    assert np.abs(np.diff(shoulder)).max() < 1e-3
    driver.answering = True
    probe.until(lambda: health.figures["state"] == "running", "the robot to go on")
    assert int(health.figures["stops for lack of a command"]) >= 1


def test_commands_that_make_no_sense_are_ignored_and_counted(robot: Robot) -> None:
    driver, health, probe = Driver(robot), Health(robot), robot.probe
    process = robot.start(NODE, contract=str(SCARA), mode="real_time")
    probe.until(lambda: len(driver.states) > 2, "the simulation to run")
    driver.send(Float64MultiArray(data=[1.0]))
    driver.send(Float64MultiArray(data=[np.nan, 1.0]))
    probe.until(lambda: health.figures.get("commands malformed") == "1", "the short command")
    probe.until(lambda: health.figures.get("commands not finite") == "1", "the NaN")
    assert process.exit_code is None


def run_with_faults(seed: int) -> list[tuple[int, tuple[float, ...]]]:
    """Stamps and positions of one episode's states."""
    faults: dict[str, Any] = {"state_drop": 0.3, "state_noise": 0.01, "command_drop": 0.2}
    faults |= {"state_latency_ms": 100.0, "state_jitter_ms": 250.0, "command_latency_ms": 150.0}
    with own_domain() as domain, Robot(domain) as robot:
        driver = Driver(robot)
        process = robot.start(NODE, contract=str(SCARA), episodes=1, fault_seed=seed, **faults)
        robot.probe.until(lambda: process.wait(0.0), "the episode to end")
        assert process.exit_code == 0
        newest = {
            stamp: tuple(state.position)
            for stamp, state in zip(driver.stamps, driver.states, strict=True)
        }
        return sorted(newest.items())


def test_faults_in_lockstep_are_the_same_for_the_same_seed() -> None:
    one, same, other = (run_with_faults(seed) for seed in (3, 3, 4))
    assert one == same
    assert one != other
    stamps = [stamp for stamp, _ in one]
    assert set(stamps) < set(range(0, stamps[-1] + 1, PERIOD_NS))


def test_in_real_time_states_arrive_as_late_as_asked_for(robot: Robot) -> None:
    driver, probe = Driver(robot), robot.probe
    clock_ns: list[int] = [0]
    lateness: list[int] = []

    def on_clock(clock: Clock) -> None:
        clock_ns[0] = clock.clock.sec * SECOND_NS + clock.clock.nanosec

    def on_state(state: JointState) -> None:
        lateness.append(clock_ns[0] - stamp_ns(state))

    probe.node.create_subscription(Clock, "/clock", on_clock, 1000)
    probe.node.create_subscription(JointState, "joint_states", on_state, 1000)
    robot.start(
        NODE, contract=str(SCARA), mode="real_time", real_time_factor=4.0, state_latency_ms=350.0
    )
    probe.until(lambda: len(lateness) > 20, "states")
    assert driver.states
    # The clock ticks every 100 ms: three or four times before the state, less on a slow machine.
    assert PERIOD_NS <= np.median(lateness) <= 4 * PERIOD_NS


def test_a_simulation_that_cannot_keep_up_says_so(robot: Robot) -> None:
    """Hopper at a hundred times its own speed, by itself."""
    health, probe = Health(robot), robot.probe
    process = robot.start(
        NODE,
        contract=str(CONTRACTS / "hopper.yaml"),
        env="Hopper-v5",
        mode="real_time",
        real_time_factor=100.0,
        wait_for_policy=False,
    )
    probe.until(lambda: health.figures.get("state") == "behind", "the simulation to fall behind")
    status = health.newest
    assert status is not None
    assert status.level == DiagnosticStatus.WARN
    assert "lower real_time_factor" in status.message
    assert int(health.figures["periods lost"]) > 0
    assert 0.0 < float(health.figures["real-time factor"]) < 98.0
    assert process.exit_code is None


def test_a_robot_of_an_mjcf_file_moves_as_the_model_does(robot: Robot, tmp_path: Path) -> None:
    model, path = tmp_path / "cart.xml", tmp_path / "cart.yaml"
    model.write_text(MODEL)
    path.write_text(CONTRACT)
    contract, probe = load_contract(path), robot.probe
    states = probe.collect(JointState, "joint_states")
    hold = probe.node.create_publisher(JointState, "arm_controller/commands", 10)
    push = probe.node.create_publisher(Float64MultiArray, "commands", 10)
    for stream in contract.observation:
        kind = __import__(f"{stream.type.split('/')[0]}.msg", fromlist=["msg"])
        probe.collect(getattr(kind, stream.type.split("/")[-1]), stream.topic)
    robot.start(NODE, contract=str(path), env=str(model), keyframe="tilted", max_episode_steps=50)
    environment = open_environment(str(model), contract)
    observation, _ = environment.reset(options={"keyframe": "tilted"})
    for step in range(20):
        probe.until(lambda: len({stamp_ns(state) for state in states}) > step, "a state")  # noqa: B023
        shown = states[-1]
        assert shown.name == ["hinge", "rail"]
        np.testing.assert_allclose(shown.position[0], np.deg2rad(observation[0]), atol=1e-12)
        np.testing.assert_allclose(shown.velocity, observation[1:3], atol=1e-9)
        assert np.isnan(shown.position[1])
        hold.publish(JointState(name=["hinge"], position=[0.5]))
        push.publish(Float64MultiArray(data=[2.0]))
        observation, *_ = environment.step(np.array([np.rad2deg(0.5), 2.0]))
    refused = set_parameter(robot, "keyframe", "upright")
    assert not refused.successful
    assert "no keyframe 'upright'" in refused.reason


def test_an_episode_is_filmed(robot: Robot, tmp_path: Path) -> None:
    driver, out = Driver(robot), tmp_path / "film.mp4"
    process = robot.start(
        NODE, contract=str(SCARA), episodes=1, max_episode_steps=8, video=str(out)
    )
    robot.probe.until(lambda: process.wait(0.0), "the episode to end")
    assert process.exit_code == 0
    assert driver.states
    if "the video could not be made" in process.last_words:
        pytest.skip(process.last_words)
    # A slow machine renders on when the bridge has ended.
    robot.probe.until(out.is_file, "the film")
    assert list(tmp_path.iterdir()) == [out]
