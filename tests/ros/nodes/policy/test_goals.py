"""Commands as goals of actions, over ROS, to a controller of our own in another process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from action_msgs.srv import CancelGoal
from lifecycle_msgs.msg import State, Transition
from rcl_interfaces.msg import Log
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from dql_core.data.dataset import load_dataset
from dql_core.errors import visible
from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert
from dql_ros.nodes.topics import reliable
from dql_ros.processes import NodeCommand, NodeProcess
from tests.ros.built_messages import CAN_BUILD, build
from tests.ros.nodes.action_server_node import TROUBLE
from tests.ros.nodes.arm import NODE, Told, state_of, trigger
from tests.ros.nodes.mirroring_policy_node import BROKEN
from tests.ros.nodes.robot import Robot
from tests.ros.nodes.test_node_reference import WITH_GOALS

pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(not CAN_BUILD, reason="builds control_msgs: needs gcc, g++ and the wheels"),
]
# The definitions of ros2_controllers' actions, without their comments.
DEFINITIONS = {
    "msg/GripperCommand.msg": "float64 position\nfloat64 max_effort\n",
    "msg/JointTolerance.msg": (
        "string name\nfloat64 position\nfloat64 velocity\nfloat64 acceleration\n"
    ),
    "msg/JointComponentTolerance.msg": (
        "string joint_name\nuint16 component\nfloat64 position\nfloat64 velocity\n"
        "float64 acceleration\n"
    ),
    "action/GripperCommand.action": (
        "GripperCommand command\n---\n"
        "float64 position\nfloat64 effort\nbool stalled\nbool reached_goal\n---\n"
        "float64 position\nfloat64 effort\nbool stalled\nbool reached_goal\n"
    ),
    "action/FollowJointTrajectory.action": (
        "trajectory_msgs/JointTrajectory trajectory\n"
        "trajectory_msgs/MultiDOFJointTrajectory multi_dof_trajectory\n"
        "JointTolerance[] path_tolerance\nJointComponentTolerance[] component_path_tolerance\n"
        "JointTolerance[] goal_tolerance\nJointComponentTolerance[] component_goal_tolerance\n"
        "builtin_interfaces/Duration goal_time_tolerance\n---\n"
        "int32 error_code\nstring error_string\n---\n"
        "std_msgs/Header header\nstring[] joint_names\n"
        "trajectory_msgs/JointTrajectoryPoint desired\n"
        "trajectory_msgs/JointTrajectoryPoint actual\n"
        "trajectory_msgs/JointTrajectoryPoint error\n"
    ),
}
USES = (
    *("builtin_interfaces", "std_msgs", "trajectory_msgs", "geometry_msgs"),
    *("action_msgs", "unique_identifier_msgs", "service_msgs"),
)
GRIP, FOLLOW = (
    f"control_msgs/action/{name}" for name in ("GripperCommand", "FollowJointTrajectory")
)
ROBOT: dict[str, Any] = {
    "robot": "hand",
    "rate_hz": 20.0,
    "observation": [
        {
            "topic": "joint_states",
            "type": "sensor_msgs/msg/JointState",
            "fields": [{"path": "position", "joints": ["a"], "names": ["seen"]}],
        }
    ],
}
EFFORT, SAFE = 20.0, 0.125
GRIPPER = ROBOT | {
    "action": [
        {
            "topic": "gripper/command",
            "type": "control_msgs/msg/GripperCommand",
            "fields": [
                {"path": "position", "low": -2, "high": 2},
                {"path": "max_effort", "constant": EFFORT},
            ],
            "send_as": {"action": "hand/gripper", "type": GRIP, "min_period_s": 0.2},
        }
    ],
    "on_fault": {"command": [SAFE]},
}
ARM = ROBOT | {
    "action": [
        {
            "topic": "arm/command",
            "type": "trajectory_msgs/msg/JointTrajectory",
            "time_from_start_s": 0.25,
            "fields": [{"path": "points.0.positions", "joints": ["a"], "low": -2, "high": 2}],
            "send_as": {"action": "arm/follow", "type": FOLLOW},
        }
    ],
    "on_fault": {"command": [SAFE]},
}
COMMANDS = (JointTrajectory, "arm/command")
ACTIONS = {"hand/gripper": GRIP, "arm/follow": FOLLOW}


@pytest.fixture(scope="module", name="control_msgs")
def _control_msgs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("control_msgs", DEFINITIONS, USES, tmp_path_factory.mktemp("control") / "build")


@pytest.fixture(name="hand")
def _hand(
    robot: Robot, control_msgs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "Hand":
    monkeypatch.setenv("PYTHONPATH", str(control_msgs), prepend=os.pathsep)
    return Hand(robot, tmp_path)


class Hand:
    """A robot with one controller, and a node that commands it.

    Attributes:
        events: What the controller told, oldest first.
        server: Its process.
        told: What the policy node tells.
        shows: The state that the robot shows; the policy's action.
    """

    def __init__(self, robot: Robot, folder: Path) -> None:
        self.robot, self._folder, self.shows = robot, folder, 1.0
        self.events: list[dict[str, Any]] = []
        self.server: NodeProcess | None = None
        node = robot.probe.node
        self.told = Told(robot)
        self._state = node.create_publisher(JointState, "joint_states", reliable(10))
        self._mood = node.create_publisher(String, "controller/mood", reliable(10))
        self.button = node.create_publisher(Bool, f"{NODE}/stop", reliable(1, latched=True))
        latched = reliable(1000, latched=True)
        node.create_subscription(String, "controller/events", self._note, latched)
        self._log: list[str] = []
        node.create_subscription(Log, "/rosout", self._hear, latched)

    def _note(self, message: Any) -> None:
        self.events.append(json.loads(message.data))

    def _hear(self, log: Any) -> None:
        self._log.append(log.msg)

    def logged(self, words: str) -> bool:
        """Whether any node has these words in its log."""
        return any(words in line for line in self._log)

    def write(self, document: dict[str, Any], **send_as: Any) -> Path:
        """Write a contract, with other keys of ``send_as``."""
        (action,) = document["action"]
        changed = action | {"send_as": action["send_as"] | send_as}
        path = self._folder / "contract.yaml"
        path.write_text(yaml.safe_dump(document | {"action": [changed]}))
        return path

    def serve(self, action: str = "hand/gripper", **parameters: Any) -> None:
        """Start the controller."""
        named = {"action": action, "type": ACTIONS[action], **parameters}
        module = "tests.ros.nodes.action_server_node"
        self.events.clear()
        self.server = self.robot.start_anew(NodeCommand(module, "controller", named))
        self.until(lambda: self.all("up"), "the controller")

    def start(self, contract: Path, node: str = NODE, **parameters: Any) -> NodeProcess:
        """Start the policy node."""
        named = {"contract": str(contract), "autostart": True, **parameters}
        module = "tests.ros.nodes.mirroring_policy_node"
        return self.robot.start_anew(NodeCommand(module, node, named))

    def begin(self, document: dict[str, Any] = GRIPPER, **send_as: Any) -> NodeProcess:
        """Start both, and let the policy drive."""
        (action,) = document["action"]
        self.serve(action["send_as"]["action"])
        process = self.start(self.write(document, **send_as))
        self.until(lambda: self.last == 1.0 and self.told.state == "running", "a goal")
        return process

    def behave(self, mood: str) -> None:
        """Have the controller behave so from now on."""
        self._mood.publish(String(data=mood))
        self.until(lambda: self.all(mood), f"the controller to be {mood}")

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Show states until ``condition`` gives something true, and return that."""

        def shown() -> Any:
            self.show()
            return condition()

        return self.robot.probe.until(shown, what)

    def show(self) -> None:
        """Publish a state."""
        state = JointState(name=["a"], position=[self.shows])
        state.header.stamp = self.robot.probe.node.get_clock().now().to_msg()
        self._state.publish(state)

    def go_on(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end_s, "some time")

    def all(self, what: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["what"] == what]

    @property
    def sent(self) -> list[float]:
        """First numbers of the goals that were accepted."""
        return [event["values"][0] for event in self.all("goal")]

    @property
    def last(self) -> float | None:
        return self.sent[-1] if self.sent else None

    def wait_for_safety(self) -> None:
        """See that the goal before was canceled, and the safe command is the last goal."""
        self.until(lambda: self.last == pytest.approx(SAFE), "the safe goal")
        goals = self.all("goal")
        self.until(
            lambda: (
                goals[-2]["goal"] in {event["goal"] for event in self.all("cancel")}
                or goals[-2]["goal"] in {event["goal"] for event in self.all("replaced")}
            ),
            "the goal before to end",
        )
        assert not self.all("kept")


def test_a_gripper_gets_a_goal_where_the_command_changes(hand: Hand) -> None:
    hand.begin()
    hand.until(lambda: hand.told.count("goals of hand/gripper") == 1, "the first to be counted")
    assert hand.all("goal")[0]["values"] == [1.0, EFFORT]
    hand.go_on(1.0)
    assert hand.sent == [1.0]
    hand.shows = 0.5
    hand.until(lambda: hand.last == 0.5, "the next goal")
    assert hand.sent == [1.0, 0.5]
    assert not any(map(hand.told.said, ("refuses", "does not answer", "canceled", "aborted")))
    told = {name for name in hand.told.values if name.startswith("goals ")}
    assert told == {name.replace("ACTION", "hand/gripper") for name in WITH_GOALS}


def test_goals_keep_their_period_and_the_topic_has_every_command(hand: Hand) -> None:
    hand.begin(ARM, min_period_s=0.3)
    heard = hand.robot.probe.collect(*COMMANDS)
    begun_s = time.monotonic()

    def moved_for(seconds: float) -> bool:
        hand.shows = float(np.sin(time.monotonic()))
        return time.monotonic() - begun_s > seconds

    hand.until(lambda: moved_for(3.0), "some time")
    goals = hand.all("goal")
    times_s = [goal["at_s"] for goal in goals if goal["at_s"] > begun_s]
    assert 6 <= len(times_s) <= 11
    assert np.median(np.diff(times_s)) >= 0.28
    assert {tuple(goal["joints"]) for goal in goals} == {("a",)}
    assert {goal["within_s"] for goal in goals} == {0.25}
    assert len(heard) > 30, "of 20 in a second"
    published = {message.points[0].positions[0] for message in heard}
    assert {goal["values"][0] for goal in goals if goal["at_s"] > begun_s + 0.5} <= published
    assert not hand.told.said("canceled"), "a goal that makes way for the next is none to tell of"


def test_a_small_change_is_no_new_goal_and_without_a_limit_every_command_is(hand: Hand) -> None:
    process = hand.begin(min_change=0.25)
    hand.shows = 1.9
    hand.go_on(0.6)
    assert hand.sent == [1.0], "within a quarter of the range from -2 to 2"
    hand.shows = -0.1
    hand.until(lambda: hand.last == pytest.approx(-0.1), "a goal")
    process.send_signal(signal.SIGINT)
    hand.until(lambda: process.wait(0.0), "the end")
    assert hand.last == pytest.approx(SAFE), "which is within a quarter, too"
    hand.start(hand.write(GRIPPER, min_change=None))
    hand.until(lambda: len(hand.sent) > 6, "goals of the same command")


def test_a_stop_cancels_and_the_safe_command_is_the_last_goal(hand: Hand) -> None:
    hand.begin(min_period_s=2.0)
    probe = hand.robot.probe
    probe.until(lambda: hand.button.get_subscription_count() == 2, "the node to listen")
    pressed_s = time.monotonic()
    hand.button.publish(Bool(data=True))
    hand.wait_for_safety()
    assert hand.all("goal")[-1]["at_s"] - pressed_s < 1.0, "a stop waits for no period"
    first, _ = hand.all("goal")
    assert [event["goal"] for event in hand.all("cancel")] == [first["goal"]]
    hand.go_on(1.0)
    assert hand.sent == [1.0, SAFE]
    hand.button.publish(Bool(data=False))
    probe.until(lambda: trigger(hand.robot, "reset_stop")[0], "the reset")
    hand.until(lambda: hand.last == 1.0 and hand.told.state == "running", "the policy to drive")
    assert len(hand.all("cancel")) == 1, "the safe goal gives way as any"


def test_a_stop_cancels_all_of_many_goals_that_are_under_way_at_once(hand: Hand) -> None:
    hand.begin(min_period_s=0.05, min_change=None)
    hand.behave("parallel")
    begun = len(hand.sent)
    hand.until(lambda: len(hand.sent) >= begun + 30, "many goals")
    assert trigger(hand.robot, "pause")[0]
    hand.until(lambda: hand.last == pytest.approx(SAFE), "the safe goal")
    goals = [event["goal"] for event in hand.all("goal")[begun:] if event["values"][0] == 1.0]
    newest = set(goals[-31:])  # one that was begun before may be under way, too

    def canceled() -> set[str]:
        return {event["goal"] for event in hand.all("canceled")}

    hand.until(lambda: newest <= canceled(), "all of them to be canceled")
    hand.until(lambda: hand.told.state == "paused", "word of it")
    assert hand.told.count("goals not canceled of hand/gripper") == 0
    assert hand.all("canceled")[-1]["at_s"] - hand.all("cancel")[0]["at_s"] < 2.0


def test_a_pause_and_a_lost_stream_lead_to_the_safe_goal(hand: Hand) -> None:
    hand.begin()
    assert trigger(hand.robot, "pause")[0]
    hand.wait_for_safety()
    assert trigger(hand.robot, "resume")[0]
    hand.until(lambda: hand.last == 1.0, "the policy to drive")
    hand.robot.probe.until(lambda: hand.last == pytest.approx(SAFE), "the fallback's goal")


@pytest.mark.parametrize("end", ["deactivate", signal.SIGINT, signal.SIGTERM])
def test_whatever_ends_the_work_the_safe_goal_is_the_last(hand: Hand, end: Any) -> None:
    process = hand.begin()
    if end == "deactivate":
        assert hand.robot.probe.change_state(NODE, Transition.TRANSITION_DEACTIVATE)
    else:
        process.send_signal(end)
        hand.until(lambda: process.wait(0.0), "the end")
        assert process.exit_code == 0
    hand.wait_for_safety()
    hand.go_on(0.5)
    assert hand.sent == [1.0, SAFE]


def test_a_policy_that_breaks_leaves_the_safe_goal_behind(hand: Hand) -> None:
    process = hand.begin()
    hand.shows = BROKEN
    while not process.wait(0.0):
        hand.show()
        hand.robot.probe.spin()
    assert process.exit_code == 1
    for _ in range(20):
        hand.robot.probe.spin()
    assert hand.sent == [1.0, SAFE]


def test_a_server_that_refuses_is_told_of_and_asked_again(hand: Hand) -> None:
    hand.begin()
    hand.behave("refusing")
    hand.shows = 0.5
    words = f"'hand/gripper' ({GRIP}) refuses goals: see its server's log"
    hand.until(lambda: hand.told.said(words), "the diagnostics to say so")
    assert hand.told.diagnostics[-1].status[0].level == b"\x02"
    hand.until(lambda: hand.logged(words), "the log to say so")
    assert hand.told.count("goals refused of hand/gripper") > 0
    hand.behave("willing")
    hand.until(lambda: hand.last == 0.5, "the goal at last")
    hand.until(lambda: words not in hand.told.diagnostics[-1].status[0].message, "all clear")


def test_the_safe_command_insists_where_another_goal_is_active(hand: Hand) -> None:
    """A server that takes one goal at a time refuses until the other one is canceled."""
    process = hand.begin()
    hand.behave("busy")
    process.send_signal(signal.SIGINT)
    hand.wait_for_safety()
    hand.until(lambda: process.wait(0.0), "the end")
    assert hand.all("refused")
    assert hand.sent == [1.0, SAFE]


def test_a_goal_that_fails_is_told_of_with_its_reason(hand: Hand) -> None:
    hand.begin(ARM)
    hand.behave("failing")
    hand.shows = 0.5
    words = (
        f"'arm/follow' ({FOLLOW}) aborted its last goal ({visible(TROUBLE)}): see its server's log"
    )
    hand.until(lambda: hand.told.said(words), "the diagnostics to say so")
    hand.until(lambda: hand.logged(words), "the log to say so")
    hand.go_on(0.5)
    assert hand.sent.count(0.5) == 1, "what has failed is not tried again by itself"
    assert hand.told.count("goals aborted of arm/follow") == 1


def test_a_goal_that_somebody_else_cancels_is_told_of(hand: Hand) -> None:
    hand.begin()
    service = "hand/gripper/_action/cancel_goal"
    hand.robot.probe.call(CancelGoal, service, CancelGoal.Request())  # all of them
    words = f"'hand/gripper' ({GRIP}) canceled its last goal, which this node did not ask for"
    hand.until(lambda: hand.told.said(words), "the diagnostics to say so")
    assert hand.told.count("goals canceled by others of hand/gripper") == 1
    assert hand.sent == [1.0]


def test_a_server_that_does_not_cancel_is_told_of(hand: Hand) -> None:
    hand.begin()
    hand.behave("stubborn")
    assert trigger(hand.robot, "pause")[0]
    hand.until(lambda: hand.all("kept") and hand.last == pytest.approx(SAFE), "the safe goal")
    words = f"'hand/gripper' ({GRIP}) goes on with a goal that was canceled: see its server's log"
    hand.until(lambda: hand.told.said(words), "word of it")
    assert hand.told.count("goals not canceled of hand/gripper") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_dies_and_comes_back_gets_the_command_again(
    hand: Hand, number: signal.Signals
) -> None:
    """Of one that was killed the network knows for a while; its successor is another one."""
    hand.begin()
    assert hand.server is not None
    if number == signal.SIGKILL:
        hand.robot.kill(hand.server)
        hand.shows = 0.5
        hand.until(lambda: hand.told.said("does not answer: see that its server"), "word of it")
        assert hand.told.count("goals unanswered of hand/gripper") > 0
    else:
        hand.server.send_signal(number)
        hand.until(lambda: hand.told.said("no action server of 'hand/gripper'"), "word of it")
        hand.until(lambda: hand.logged("start its controller"), "the log to say so")
    hand.serve()
    hand.until(lambda: hand.last == hand.shows, "the goal again")


def test_without_a_server_the_node_does_not_become_active(hand: Hand) -> None:
    contract = hand.write(GRIPPER)
    process = hand.start(contract, autostart=False, activation_timeout_s=1.0)
    probe = hand.robot.probe
    assert probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    answer = probe.begin_transition(NODE, Transition.TRANSITION_ACTIVATE)
    hand.until(answer.done, "the refusal")
    assert not answer.result().success
    words = (
        f"gave up after 1 s: no action server of 'hand/gripper' ({GRIP}) is there: start its "
        f"controller, or correct 'send_as' in the contract"
    )
    probe.until(lambda: words in process.last_words, "the reason")
    hand.serve()
    answer = probe.begin_transition(NODE, Transition.TRANSITION_ACTIVATE)
    hand.until(answer.done, "the answer")
    hand.until(lambda: hand.last == 1.0, "a goal")


def test_a_server_that_hangs_delays_neither_the_topic_nor_the_end_for_long(hand: Hand) -> None:
    process = hand.begin(ARM)
    assert hand.server is not None
    heard = hand.robot.probe.collect(*COMMANDS)
    hand.until(lambda: heard, "commands")
    hand.server.send_signal(signal.SIGSTOP)
    try:
        asked_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        probe = hand.robot.probe
        probe.until(lambda: heard[-1].points[0].positions[0] == SAFE, "the safe command")
        assert time.monotonic() - asked_s < 1.0
        probe.until(lambda: process.wait(0.0), "the end")
        assert time.monotonic() - asked_s < 6.0
    finally:
        hand.server.send_signal(signal.SIGCONT)
    assert process.exit_code == 0
    words = "the safe command was not accepted as a goal of 'arm/follow'"
    hand.until(lambda: hand.logged(words), "the log to say so")


def test_in_shadow_mode_there_is_no_client_of_any_action(hand: Hand) -> None:
    hand.serve()
    hand.start(hand.write(GRIPPER), shadow=True)
    probe = hand.robot.probe
    hand.until(lambda: hand.told.state == "running", "the policy to look on")
    assert probe.node.get_publishers_info_by_topic(f"{NODE}/shadow/gripper/command")
    clients = {name for name, _ in probe.node.get_client_names_and_types_by_node(NODE, "/")}
    assert not [name for name in clients if "_action" in name]
    hand.shows = 0.5
    hand.go_on(0.5)
    assert trigger(hand.robot, "pause")[0]
    hand.go_on(0.5)
    assert [event["what"] for event in hand.events] == ["up"]


def test_in_lockstep_commands_go_by_the_topic_alone(hand: Hand) -> None:
    hand.serve("arm/follow")
    hand.start(hand.write(ARM), mode="lockstep")
    heard = hand.robot.probe.collect(*COMMANDS)
    hand.until(lambda: heard, "an answer to a state")
    words = "in lockstep commands go out on 'arm/command' only, not as goals of 'arm/follow'"
    hand.until(lambda: hand.logged(words), "word of it")
    assert [event["what"] for event in hand.events] == ["up"]


def test_another_client_of_the_action_is_a_rival(hand: Hand) -> None:
    hand.begin()
    hand.start(hand.write(GRIPPER), node="other", autostart=False)
    assert hand.robot.probe.change_state("other", Transition.TRANSITION_CONFIGURE)
    hand.until(lambda: hand.told.state == "inactive", "the node to give way")
    words = "'hand/gripper' has 2 clients: /other, /policy: stop the other node"
    hand.until(lambda: words in hand.told.reason, "the names")
    hand.wait_for_safety()
    assert state_of(hand.robot) == State.PRIMARY_STATE_INACTIVE


def test_a_person_commands_by_goals_too(hand: Hand) -> None:
    document = ARM | {"takeover": {"topics": ["teleop"], "max_age_s": 0.4, "ramp_s": 0.0}}
    hand.begin(document)
    teleop = hand.robot.probe.node.create_publisher(JointTrajectory, "teleop", reliable(1))

    def is_obeyed() -> bool:
        point = JointTrajectoryPoint(positions=[-0.75])
        teleop.publish(JointTrajectory(joint_names=["a"], points=[point]))
        return hand.last == -0.75

    hand.until(is_obeyed, "the person's goal")
    hand.until(lambda: hand.last == 1.0, "the policy to drive again")


@pytest.mark.parametrize(
    ("send_as", "told"),
    [
        ({}, ""),
        (
            {"type": FOLLOW},
            f"gripper/command: a goal of '{FOLLOW}' has no parts of the type "
            f"'control_msgs/msg/GripperCommand', but must have one",
        ),
        (
            {"type": "control_msgs/action/GripperComand"},
            "gripper/command: action type 'control_msgs/action/GripperComand' is not installed",
        ),
    ],
)
def test_a_goal_without_such_a_part_is_found_before_anything_runs(
    hand: Hand, send_as: dict[str, str], told: str
) -> None:
    contract = hand.write(GRIPPER, **send_as)
    command = [sys.executable, "-m", "dql_ros.cli.main", "contract", "check", str(contract)]
    check = subprocess.run(command, capture_output=True, text=True, check=False)
    said = " ".join((check.stdout + check.stderr).split())
    assert check.returncode == 0, "a robot has what this machine has not"
    assert told in said
    assert ("the policy node refuses it" in said) == bool(told)
    if told:
        process = hand.start(contract)
        while not process.wait(0.0):
            hand.robot.probe.spin()
        assert process.exit_code == 2
        assert told.partition(": ")[2] in process.last_words


def test_what_was_sent_as_goals_is_recorded_and_converted(hand: Hand, tmp_path: Path) -> None:
    """From the topic, since goals are in no bag."""
    contract = hand.write(ARM)
    recorder = hand.robot.start("recorder", contract=str(contract), out=str(tmp_path / "bag"))
    hand.begin(ARM)
    for shown in (1.0, 0.5, -0.25):
        hand.shows = shown
        hand.until(lambda: hand.last == hand.shows, "a goal")
        hand.go_on(0.5)
    recorder.send_signal(signal.SIGINT)
    hand.until(lambda: recorder.wait(0.0), "the recording to be finished")
    convert(Source(load_contract(contract), [tmp_path / "bag"]), tmp_path / "out")
    episodes = load_dataset(tmp_path / "out").episodes
    actions = np.concatenate([episode.actions[:, 0] for episode in episodes])
    assert set(hand.sent) == set(actions.tolist()) == {1.0, 0.5, -0.25}
