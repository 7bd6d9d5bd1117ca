"""The simulated robot as a process; the test answers it in place of a policy."""

import json
import time
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import PointStamped
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64, String
from std_srvs.srv import Trigger

from dql_core.streams import SECOND_NS
from dql_ros.codecs import stamp_ns
from dql_ros.contract import load_contract
from tests.ros.nodes.robot import SCARA, Robot
from tests.ros.nodes.sim_bridge.sim_driver import Driver

pytestmark = pytest.mark.ros
NODE = "sim_bridge"
PERIOD_NS = load_contract(SCARA).period_ns


def nanoseconds(clock: Clock) -> int:
    return int(clock.clock.sec) * SECOND_NS + int(clock.clock.nanosec)


def test_an_episode_in_lockstep_shows_every_step_and_ends_the_process(robot: Robot) -> None:
    driver, probe = Driver(robot), robot.probe
    clocks, rewards = probe.collect(Clock, "/clock"), probe.collect(Float64, "reward")
    terminated = probe.collect(Bool, "terminated")
    truncated = probe.collect(Bool, "truncated")
    episodes = probe.collect(String, f"{NODE}/episode", latched=True)
    process = robot.start(NODE, contract=str(SCARA), episodes=2, seed=7, recorders=0)
    probe.until(lambda: len(episodes) == 2, "two episodes")
    results = [json.loads(message.data) for message in episodes]
    assert [(result["episode"], result["seed"]) for result in results] == [(0, 7), (1, 8)]
    steps = sum(result["length"] for result in results)
    # A state is sent again where its answer takes long.
    probe.until(lambda: len(set(driver.stamps)) == steps + 2, "the last state")
    probe.until(lambda: process.wait(0.0), "the process to end")
    assert process.exit_code == 0
    stamps = list(dict.fromkeys(driver.stamps))
    assert stamps == [index * PERIOD_NS for index in range(steps + 2)]
    assert {tuple(state.name) for state in driver.states} == {("elbow", "shoulder")}
    assert {target.header.frame_id for target in driver.targets} == {"world"}
    assert [stamp_ns(target) for target in driver.targets] == [
        0,
        (results[0]["length"] + 1) * PERIOD_NS,
    ]
    assert sum(message.data for message in rewards) == pytest.approx(
        sum(result["return"] for result in results)
    )
    ends = [one.data or other.data for one, other in zip(terminated, truncated, strict=True)]
    assert len(ends) == steps
    assert [index for index, end in enumerate(ends) if end] == [
        results[0]["length"] - 1,
        steps - 1,
    ]
    assert list(dict.fromkeys(map(nanoseconds, clocks))) == stamps


def test_a_state_without_an_answer_is_shown_again_and_time_stands_still(robot: Robot) -> None:
    driver = Driver(robot)
    driver.answering = False
    robot.start(NODE, contract=str(SCARA), episodes=1)
    robot.probe.until(lambda: len(driver.states) >= 3, "the state to be repeated")
    assert set(driver.stamps) == {0}
    driver.answering = True
    robot.probe.until(lambda: driver.stamps[-1] > PERIOD_NS, "the simulation to go on")
    assert set(driver.stamps) >= {0, PERIOD_NS, 2 * PERIOD_NS}


def test_reset_ends_the_episode_as_truncated_and_begins_another(robot: Robot) -> None:
    driver, probe = Driver(robot, command=(0.0, 0.0)), robot.probe
    episodes = probe.collect(String, f"{NODE}/episode", latched=True)
    robot.start(NODE, contract=str(SCARA), max_episode_steps=1_000_000)
    probe.until(lambda: len(driver.states) > 2, "the simulation to run")
    driver.answering = False
    response = probe.call(Trigger, f"{NODE}/reset", Trigger.Request())
    assert response.success
    driver.answering = True
    result = json.loads(probe.until(lambda: episodes, "the episode's result")[0].data)
    assert (result["terminated"], result["truncated"]) == (False, True)
    assert result["length"] < 1_000_000
    probe.until(lambda: len(driver.targets) > 1, "the next episode")
    assert driver.stamps == sorted(driver.stamps)


def test_the_first_episode_waits_for_the_recorder(robot: Robot) -> None:
    driver, probe = Driver(robot), robot.probe
    robot.start(NODE, contract=str(SCARA), recorders=1)
    probe.until(lambda: probe.node.count_publishers("joint_states") > 0, "the bridge")
    publisher_of_result = f"{NODE}/episode"
    probe.until(lambda: probe.node.count_publishers(publisher_of_result) > 0, "the bridge")
    assert probe.call(Trigger, f"{NODE}/reset", Trigger.Request()).message.startswith("no episode")
    assert driver.states == []
    # A second listener on every topic plays the recorder.
    heard = [
        probe.collect(kind, topic, latched=topic == "target")
        for kind, topic in (
            (JointState, "joint_states"),
            (PointStamped, "target"),
            (Float64, "reward"),
            (Bool, "terminated"),
            (Bool, "truncated"),
            (Clock, "/clock"),
        )
    ]
    probe.until(lambda: all(heard), "a message on every topic")
    assert stamp_ns(heard[0][0]) == 0


def test_real_time_holds_the_last_command(robot: Robot) -> None:
    """Ten times as fast as the wall clock, and without an answer to every state."""
    driver = Driver(robot, command=(1.0, 0.0))
    robot.start(
        NODE,
        contract=str(SCARA),
        mode="real_time",
        real_time_factor=10.0,
        command_timeout_s=0.0,
    )
    robot.probe.until(lambda: driver.stamps, "the simulation to run")
    driver.answering = False
    seen = len(driver.states)
    started = time.monotonic()
    robot.probe.until(lambda: len(driver.states) >= seen + 10, "ten steps")
    # A machine under load may make it slower, never faster.
    assert time.monotonic() - started > 0.5 * 10 * PERIOD_NS / 1e9 / 10
    shoulder = [state.position[state.name.index("shoulder")] for state in driver.states[-9:]]
    moved = np.diff(np.unwrap(shoulder))
    assert moved.max() == pytest.approx(1.0 * PERIOD_NS / 1e9, rel=0.2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"env": "dql_core/ScaraReech-v0"}, "Did you mean: `ScaraReach`"),
        ({"contract": "arm.yaml"}, "arm.yaml: no such file"),
        ({"state_dropp": 0.5}, "sim_bridge has no parameter 'state_dropp' (did you mean"),
        ({"real_time_factor": 0.0}, "parameter 'real_time_factor' of sim_bridge"),
    ],
)
def test_wrong_parameters_end_it_with_one_line(
    robot: Robot, change: dict[str, Any], words: str
) -> None:
    process = robot.start(NODE, **{"contract": str(SCARA), **change})
    assert process.wait(30)
    assert process.exit_code == 2
    assert words in process.last_words
