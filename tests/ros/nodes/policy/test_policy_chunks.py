"""A policy that decides several actions at once drives an arm while it decides the next ones."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from std_msgs.msg import Bool, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from dql_ros.codecs import StreamDecoder
from dql_ros.contract import load_contract
from dql_ros.nodes.topics import reliable
from tests.ros.nodes.arm import NODE, Arm, Told, trigger
from tests.ros.nodes.policy.chunking_policy_node import CANDIDATES, HORIZON, STEP
from tests.ros.nodes.robot import SAFE, SCARA, Robot
from tests.ros.nodes.test_node_reference import WITH_CHUNKS

pytestmark = pytest.mark.ros
MODULE = "tests.ros.nodes.policy.chunking_policy_node"
BEFORE, AFTER = 0.5, 0.75  # where the shoulder is
SLOW = {"takes_s": 0.25}  # of the contract's periods of 0.1 s: three ticks


@pytest.fixture(name="contract")
def _contract(tmp_path: Path) -> Callable[..., str]:
    """Write the demo robot's contract, in which states stay fresh for as long as is said."""

    def write(max_age_s: float = 1.0) -> str:
        text = SCARA.read_text().replace("command: [0.0, 0.0]", f"command: {SAFE}")
        path = tmp_path / "contract.yaml"
        path.write_text(text.replace("max_age_s: 0.3", f"max_age_s: {max_age_s}"))
        return str(path)

    return write


class Driven:
    """An arm that a node with chunks drives."""

    def __init__(self, robot: Robot, contract: str, **parameters: Any) -> None:
        robot.run(MODULE, NODE, contract=contract, autostart=True, **parameters)
        self.robot, self.arm, self.told = robot, Arm(robot), Told(robot)
        self.arm.aim(self.arm.now_ns)
        self.lives(lambda: self.plays(BEFORE), "the arm to move", BEFORE)

    def lives(self, condition: Callable[[], Any], what: str, shoulder: float) -> None:
        self.arm.live(condition, what, shoulder=shoulder)

    def plays(self, shoulder: float) -> bool:
        """Whether the last command is of a chunk that was decided where the shoulder was there."""
        return bool(self.arm.last) and self.arm.last[0] == shoulder

    def steps(self, since: int) -> list[int]:
        """Which actions of their chunks were sent, since so many commands."""
        return [round(command.data[1] / STEP) for command in self.arm.commands[since:]]

    def goes_on_after(self, interruption: Callable[[], None], *others: float) -> None:
        """Whatever was decided before an interruption is not sent after it."""
        interruption()
        seen = len(self.arm.commands)
        self.lives(lambda: self.plays(AFTER), "the arm to move on", AFTER)
        sent = {command.data[0] for command in self.arm.commands[seen:]}
        assert sent <= {SAFE[0], AFTER, *others}

    def is_safe(self) -> bool:
        return self.arm.last == SAFE


def test_decisions_of_several_periods_cost_no_tick(
    robot: Robot, contract: Callable[..., str]
) -> None:
    driven = Driven(robot, contract(), **SLOW)
    seen = len(driven.arm.commands)
    driven.lives(lambda: len(driven.arm.commands) > seen + 40, "commands", BEFORE)
    steps = driven.steps(seen)
    while steps[0] < 5:  # the first chunk, which is played from its first action on
        assert steps.pop(0) + 1 == steps[0]
    assert set(steps) == {3, 4, 5}, steps
    assert all(after == (before + 1 if before < 5 else 3) for before, after in pairwise(steps))
    driven.lives(lambda: float(driven.told.values["rate (Hz)"]) > 9.5, "the figures", BEFORE)
    values = driven.told.values
    assert set(values) >= WITH_CHUNKS
    assert values["missed ticks"] == values["guard slow_inference"] == "0"
    assert values["execute"] == f"3 of {HORIZON}"
    assert values["ticks to a decision"] == "3"
    assert 3.0 < float(values["decisions (Hz)"]) < 3.7
    assert float(values["inference p50 (ms)"]) > 250
    assert float(values["state to command p50 (ms)"]) < 100


def test_quick_decisions_come_in_at_their_tick(robot: Robot, contract: Callable[..., str]) -> None:
    driven = Driven(robot, contract(), candidates_hz=10.0, execute=5)
    candidates = robot.probe.collect(Float64MultiArray, f"{NODE}/candidates")
    seen = len(driven.arm.commands)
    driven.lives(lambda: len(driven.arm.commands) > seen + 20, "commands", BEFORE)
    assert set(driven.steps(seen)) == {0, 1, 2, 3, 4}
    driven.lives(lambda: candidates, "candidates", BEFORE)
    assert [dim.size for dim in candidates[-1].layout.dim] == [CANDIDATES, 3]
    assert list(candidates[-1].data) == [BEFORE, 0.0, 0.0] * CANDIDATES


@pytest.mark.parametrize("parameters", [{}, SLOW])
def test_a_stop_in_mid_chunk_ends_it(
    robot: Robot, contract: Callable[..., str], parameters: dict[str, Any]
) -> None:
    driven = Driven(robot, contract(), **parameters)
    button = robot.probe.node.create_publisher(Bool, f"{NODE}/stop", reliable(1, latched=True))

    def stop_and_reset() -> None:
        button.publish(Bool(data=True))
        driven.lives(driven.is_safe, "the safe command", BEFORE)
        seen = len(driven.arm.commands)
        driven.lives(lambda: len(driven.arm.commands) > seen + 9, "the stop to last", AFTER)
        assert all(list(command.data) == SAFE for command in driven.arm.commands[seen:])
        button.publish(Bool(data=False))
        robot.probe.until(lambda: trigger(robot, "reset_stop")[0], "the stop to be reset")

    driven.goes_on_after(stop_and_reset)


@pytest.mark.parametrize("parameters", [{}, SLOW])
def test_a_fault_in_mid_chunk_ends_it(
    robot: Robot, contract: Callable[..., str], parameters: dict[str, Any]
) -> None:
    driven = Driven(robot, contract(), **parameters)
    driven.goes_on_after(lambda: driven.lives(driven.is_safe, "the safe command", math.nan))


def test_a_pause_in_mid_chunk_ends_it(robot: Robot, contract: Callable[..., str]) -> None:
    driven = Driven(robot, contract(), **SLOW)

    def pause_and_resume() -> None:
        trigger(robot, "pause")
        driven.lives(driven.is_safe, "the safe command", AFTER)
        trigger(robot, "resume")

    driven.goes_on_after(pause_and_resume)


@pytest.mark.parametrize("parameters", [{}, SLOW])
def test_a_person_who_takes_over_in_mid_chunk_ends_it(
    robot: Robot, contract: Callable[..., str], parameters: dict[str, Any]
) -> None:
    path = Path(contract())
    path.write_text(
        f"{path.read_text()}\ntakeover: {{topics: [teleop], max_age_s: 0.3, ramp_s: 0}}"
    )
    driven, persons = Driven(robot, str(path), **parameters), [1.0, 1.0]
    teleop = robot.probe.node.create_publisher(Float64MultiArray, "teleop", reliable(1))

    def take_over(shoulder: float) -> Callable[[], None]:
        def obeyed() -> bool:
            teleop.publish(Float64MultiArray(data=persons))
            return driven.arm.last == persons

        return lambda: driven.lives(obeyed, "the person's command", shoulder)

    take_over(BEFORE)()
    driven.goes_on_after(take_over(AFTER), persons[0])
    assert driven.told.count("guard slow_inference") == 0


def test_no_chunk_is_played_on_when_the_states_end(
    robot: Robot, contract: Callable[..., str]
) -> None:
    """A state's last command comes ``max_age_s`` after it, though the chunk is longer."""
    driven = Driven(robot, contract(max_age_s=0.4), execute=4)
    ended_ns = driven.arm.now_ns
    moved_ns = [ended_ns]

    def ends() -> bool:
        if not driven.is_safe():
            moved_ns.append(driven.arm.now_ns)
        return driven.is_safe()

    driven.goes_on_after(lambda: robot.probe.until(ends, "the safe command"))
    assert (moved_ns[-1] - ended_ns) / 1e9 < 0.4 + 0.1 + 0.05
    assert driven.told.said("no fresh observation: 'joint_states'")


def test_a_new_episode_in_mid_chunk_begins_a_new_chunk(
    robot: Robot, contract: Callable[..., str]
) -> None:
    driven = Driven(robot, contract(), execute=7)
    driven.goes_on_after(lambda: driven.arm.aim(driven.arm.now_ns))
    driven.lives(lambda: driven.told.count("chunks ended early") > 0, "a count of it", AFTER)


@pytest.mark.parametrize(
    ("max_age_s", "parameters", "words"),
    [
        (1.0, {"execute": 9}, "execute is 9, but this policy decides 8 actions at once"),
        (1.0, {"execute": 8}, "no time is left to decide the next chunk by what chunks leave"),
        (0.05, {}, "raise max_age_s to two periods at least"),
        (1.0, {"takes_s": 0.45}, "the limit is 400.00 ms"),
        (0.3, {"takes_s": 0.15}, "the limit is 100.00 ms"),
        (
            1.0,
            {"inference_limit_s": 0.45},
            "inference_limit_s is 0.45, longer than what chunks leave (horizon 8, execute 3, "
            "fresh for 10 ticks by max_age_s) of 0.4 s",
        ),
    ],
)
def test_what_chunks_leave_no_time_for_is_refused(
    robot: Robot,
    contract: Callable[..., str],
    max_age_s: float,
    parameters: dict[str, Any],
    words: str,
) -> None:
    process = robot.run(MODULE, NODE, contract=contract(max_age_s), autostart=True, **parameters)
    assert process.wait(30)
    assert process.exit_code == 2
    assert words in process.last_words


TRAJECTORY = """
robot: arm
rate_hz: 10.0
observation:
  - topic: joint_states
    type: sensor_msgs/msg/JointState
    max_age_s: 0.65
    fields: [{path: position, joints: [shoulder, elbow]}]
action:
  - topic: trajectory
    type: trajectory_msgs/msg/JointTrajectory
    time_from_start_s: 0.25
    fields: [{path: points.0.positions, joints: [shoulder, elbow], low: -2, high: 2, max_rate: 9}]
on_fault: {command: [0.125, -0.25]}
"""


@pytest.mark.parametrize(
    ("mode", "send_after_s", "last"),
    # Fresh for six periods: at the latest the seventh action of a chunk is played.
    [("lockstep", 0.0, 6), ("real_time", 0.0, 6), ("real_time", 0.08, 5)],
)
def test_a_trajectory_has_what_is_left_of_the_chunk(
    robot: Robot, tmp_path: Path, mode: str, send_after_s: float, last: int
) -> None:
    (tmp_path / "arm.yaml").write_text(TRAJECTORY)
    contract = str(tmp_path / "arm.yaml")
    settings: dict[str, Any] = {"mode": mode, "execute": 4, "send_after_s": send_after_s}
    robot.run(MODULE, NODE, contract=contract, autostart=True, **settings)
    arm = Arm(robot)
    heard = robot.probe.collect(JointTrajectory, "trajectory")
    arm.live(lambda: len(heard) > 20, "trajectories", shoulder=BEFORE)
    decode = StreamDecoder(load_contract(Path(contract)).action[0])
    for trajectory in heard[5:20]:
        assert decode(trajectory).tolist() == list(trajectory.points[0].positions)
        points = trajectory.points
        dues = [point.time_from_start.nanosec for point in points]
        assert dues == [250_000_000 + index * 100_000_000 for index in range(len(points))]
        steps = [point.positions[1] / STEP for point in points]
        assert all(after == before + 1 for before, after in pairwise(steps))
        assert steps[-1] <= last
        assert len(steps) >= 2
        assert {point.positions[0] for point in points} == {BEFORE}
    button = robot.probe.node.create_publisher(Bool, f"{NODE}/stop", reliable(1, latched=True))
    button.publish(Bool(data=True))
    arm.live(lambda: list(heard[-1].points[0].positions) == SAFE, "the stop", shoulder=BEFORE)
    assert len(heard[-1].points) == 1
