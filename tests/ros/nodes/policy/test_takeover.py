"""A person takes over from the policy and hands back, over real topics; the stop wins."""

import itertools
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
import yaml
from lifecycle_msgs.msg import State, Transition
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Joy
from std_msgs.msg import Bool, Float64MultiArray

from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert
from dql_ros.nodes.topics import reliable
from dql_ros.processes import NodeProcess, environment_of
from tests.ros.nodes import scripted_policy_node as scripted
from tests.ros.nodes.arm import NODE, Arm, Told, state_of, trigger
from tests.ros.nodes.robot import SAFE, Robot

pytestmark = pytest.mark.ros
MODULE = "tests.ros.nodes.scripted_policy_node"
ACTION = [scripted.ACTION] * 2
PERSONS = [-1.0, 0.5]
TOPIC = "teleop/commands"
BUTTON = {"topic": "joy", "type": "sensor_msgs/msg/Joy", "path": "buttons.1"}
SWITCH = {"topic": "take", "type": "std_msgs/msg/Bool"}
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
VOLATILE = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE
)
Write = Callable[..., Path]


@pytest.fixture(name="write")
def _write(scara: Path, tmp_path: Path) -> Write:
    """Write the arm's contract with a takeover."""

    def write(*, max_rate: float | None = None, **takeover: Any) -> Path:
        document = yaml.safe_load(scara.read_text())
        if max_rate is not None:
            document["action"][0]["fields"][0]["max_rate"] = max_rate
        document["takeover"] = {"topics": [TOPIC], "max_age_s": 0.4, "ramp_s": 0.0} | takeover
        path = tmp_path / "arm.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return write


class Teleop:
    """A person's program: a joystick, a switch, and commands.

    Attributes:
        says: What it commands each time the robot shows its state; ``None``: nothing.
        flags: What the node said of its commands.
        take: Publishes the switch.
    """

    def __init__(self, robot: Robot, arm: Arm, quality: QoSProfile = BEST_EFFORT) -> None:
        node = robot.probe.node
        self.says: list[float] | None = None
        self.flags = robot.probe.collect(Bool, "intervention")
        self._probe, self._arm = robot.probe, arm
        self._joy = node.create_publisher(Joy, "joy", BEST_EFFORT)
        self.take = node.create_publisher(Bool, "take", quality)
        self._command = node.create_publisher(Float64MultiArray, TOPIC, BEST_EFFORT)
        self._pressed = 0

    def press(self, pressed: bool) -> None:
        self._pressed = int(pressed)
        self.take.publish(Bool(data=pressed))

    def until(self, condition: Callable[[], Any], what: str, **state: Any) -> Any:
        """Show states and do what a person does until ``condition`` gives something true."""

        def done() -> Any:
            self._joy.publish(Joy(buttons=[0, self._pressed]))
            if self.says is not None:
                self._command.publish(Float64MultiArray(data=self.says))
            return condition()

        return self._arm.live(done, what, **state)

    def until_sent(self, row: list[float]) -> None:
        """Go on until the robot is sent this."""
        self.until(lambda: self._arm.last == row, f"{row} to be sent")

    def until_more(self, count: int) -> None:
        """Go on until the robot was sent so many more commands."""
        seen = len(self._arm.commands)
        self.until(lambda: len(self._arm.commands) > seen + count, "more commands")

    def go_on(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end_s, "some time")

    def speak_until(self, process: NodeProcess) -> None:
        """Go on speaking, without states, until a process has ended, and a little longer."""
        assert self.says is not None
        for left in itertools.chain(
            itertools.takewhile(lambda _: not process.wait(0.0), itertools.count()), range(20)
        ):
            self._command.publish(Float64MultiArray(data=self.says))
            self._probe.spin()
            assert left < 10_000


def start(robot: Robot, contract: Path, **parameters: Any) -> NodeProcess:
    common: dict[str, Any] = {"contract": str(contract), "autostart": True}
    return robot.run(MODULE, NODE, **common | parameters)


def begin(robot: Robot, contract: Path, **parameters: Any) -> tuple[NodeProcess, Arm, Told]:
    """Start the node and let the policy drive."""
    process = start(robot, contract, **parameters)
    arm, told = Arm(robot), Told(robot)
    arm.aim(arm.now_ns)
    arm.live(lambda: arm.last == ACTION and told.state == "running", "the policy to drive")
    return process, arm, told


def test_a_button_takes_over_and_hands_back(robot: Robot, write: Write) -> None:
    """The person's program is no rival, since it commands the node, not the robot."""
    _, arm, told = begin(robot, write(switch=BUTTON))
    person = Teleop(robot, arm)
    person.says = PERSONS
    person.until(lambda: told.count("heard commands of teleop/commands") > 0, "to be heard")
    assert arm.last == ACTION, "who speaks without the button does not command"
    person.press(True)
    person.until(lambda: arm.last == PERSONS and told.state == "takeover", "the person to drive")
    words = "takeover: a person commands the robot, the policy yields"
    assert told.reason == words
    person.until(lambda: told.said(words), "the diagnostics to say so")
    assert told.diagnostics[-1].status[0].level == b"\x01"
    person.says = [9.0, -9.0]
    person.until(lambda: arm.last == [2.0, -2.0], "the person to be kept to the bounds")
    person.until(lambda: told.said("clamped action"), "the guard to be told")
    person.press(False)
    person.until(lambda: arm.last == ACTION and told.state == "running", "the policy to drive")
    person.until(lambda: told.values["person's switch"] == "off", "the diagnostics to follow")
    assert told.count("commands of a person") > 0
    assert not told.said("publishers")
    assert len(person.flags) > 0
    persons = [list(command.data) in (PERSONS, [2.0, -2.0]) for command in arm.commands]
    changes = [key for key, _ in itertools.groupby(persons)]
    assert changes == [False, True, False]
    said = [key for key, _ in itertools.groupby(flag.data for flag in person.flags)]
    assert said == [False, True, False]


def test_whoever_speaks_takes_over_and_silence_hands_back_by_a_ramp(
    robot: Robot, write: Write
) -> None:
    _, arm, told = begin(robot, write(ramp_s=1.0, max_rate=5.0))
    person = Teleop(robot, arm)
    person.says = PERSONS
    person.until(lambda: arm.last == PERSONS, "the person to drive")
    person.says = None
    person.until(lambda: told.state == "running" and arm.last == ACTION, "the policy to drive")
    rows = [list(command.data) for command in arm.commands]
    last = max(index for index, row in enumerate(rows) if row == PERSONS)
    ramp = np.array(rows[last:])
    end = next(index for index, row in enumerate(ramp) if row.tolist() == ACTION)
    assert end in range(8, 13), "a second at 10 Hz"
    steps = np.diff(ramp[: end + 1], axis=0)
    assert (steps[1:] > 0).all(), "its first tick sends what was sent last"
    np.testing.assert_allclose(steps.sum(axis=0), np.array(ACTION) - PERSONS)
    # Also towards the person no step is larger than the contract lets it be.
    assert np.abs(np.diff(np.array(rows)[:, 0])).max() <= 0.5 + 1e-6


def test_the_stop_wins_over_a_person(robot: Robot, write: Write) -> None:
    _, arm, told = begin(robot, write(switch=SWITCH))
    person = Teleop(robot, arm)
    button = robot.probe.node.create_publisher(Bool, f"{NODE}/stop", reliable(1, latched=True))
    person.says = PERSONS
    person.press(True)
    person.until(lambda: arm.last == PERSONS, "the person to drive")
    button.publish(Bool(data=True))
    person.until(lambda: told.state == "stopped" and arm.last == SAFE, "the stop")
    stopped = len(arm.commands)
    person.until(lambda: len(arm.commands) >= stopped + 5, "more commands")
    assert all(list(command.data) == SAFE for command in arm.commands[stopped:])
    assert not person.flags[-1].data
    button.publish(Bool(data=False))
    person.until(lambda: trigger(robot, "reset_stop")[0], "the reset")
    person.until(lambda: arm.last == PERSONS, "the person, who still has the switch, to drive")
    assert trigger(robot, "pause")[0]
    person.until(lambda: told.state == "paused" and arm.last == SAFE, "the pause")
    assert trigger(robot, "resume")[0]
    person.until(lambda: arm.last == PERSONS, "the person to drive")


def test_a_person_who_falls_silent_with_the_switch_gets_the_safe_command(
    robot: Robot, write: Write
) -> None:
    _, arm, told = begin(robot, write(switch=SWITCH))
    person = Teleop(robot, arm)
    person.says = PERSONS
    person.press(True)
    person.until(lambda: arm.last == PERSONS, "the person to drive")
    person.says = None
    person.until(lambda: arm.last == SAFE and told.state == "stale", "the safe command")
    silent = "a person has the switch and commands nothing: no command was heard on"
    person.until(lambda: told.said(f"{silent} '{TOPIC}' for "), "word of the silence")
    assert told.diagnostics[-1].status[0].level == b"\x02"
    person.until(lambda: not person.flags[-1].data, "word that nobody drives")
    silent_from = len(arm.commands)
    person.until(lambda: len(arm.commands) > silent_from + 5, "the silence to last")
    assert ACTION not in [list(each.data) for each in arm.commands[silent_from:]]
    person.says = PERSONS
    person.until(lambda: arm.last == PERSONS and told.state == "takeover", "the person to drive")
    person.press(False)
    person.until(lambda: arm.last == ACTION, "the policy to drive")


def test_a_persons_silence_may_be_the_policys_turn(robot: Robot, write: Write) -> None:
    _, arm, _ = begin(robot, write(switch=SWITCH, when_silent="policy"))
    person = Teleop(robot, arm)
    person.says = PERSONS
    person.press(True)
    person.until(lambda: arm.last == PERSONS, "the person to drive")
    person.says = None
    person.until(lambda: arm.last == ACTION, "the policy to drive")
    assert SAFE not in [list(command.data) for command in arm.commands]


def test_a_person_drives_on_where_the_policy_could_not(robot: Robot, write: Write) -> None:
    """A stream that is stale keeps the policy from acting; the person is only told."""
    _, arm, told = begin(robot, write())
    person = Teleop(robot, arm)
    person.says = PERSONS
    person.until(lambda: arm.last == PERSONS, "the person to drive")
    person.until(
        lambda: told.count("guard stale_stream") > 0 and told.said("stale stream"),
        "the guards to watch",
        joint="another",
    )
    assert arm.last == PERSONS
    assert told.state == "takeover"
    person.says = None
    person.until(lambda: arm.last == SAFE and told.state == "stale", "the fallback", joint="other")


def test_what_a_person_sends_that_is_no_command_is_none(robot: Robot, write: Write) -> None:
    process, arm, told = begin(robot, write(switch=SWITCH))
    person = Teleop(robot, arm)
    person.says = PERSONS
    person.press(True)
    person.until_sent(PERSONS)
    person.says = [float("nan"), 0.0]
    words = f"a person's command is not followed: {TOPIC}: a command of [nan, 0.0] is no command"
    person.until(lambda: arm.last == SAFE and told.said(words), "the safe command")
    robot.probe.until(lambda: words in process.last_words, "the log to name it")
    assert all(np.isfinite(command.data).all() for command in arm.commands)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_safe_command_is_the_last_though_a_person_goes_on(
    robot: Robot, write: Write, number: signal.Signals
) -> None:
    process, arm, _ = begin(robot, write())
    person = Teleop(robot, arm)
    person.says = PERSONS
    person.until(lambda: arm.last == PERSONS, "the person to drive")
    process.send_signal(number)
    person.speak_until(process)
    assert process.exit_code == 0
    assert arm.last == SAFE


def test_what_a_person_sent_to_a_suspended_node_is_not_obeyed(robot: Robot, write: Write) -> None:
    """It waits for the node, and looks new when it is heard; the person may have let go since."""
    process, arm, told = begin(robot, write())
    person = Teleop(robot, arm)
    for _ in range(3):
        person.says = PERSONS
        person.until(lambda: arm.last == PERSONS, "the person to drive")
        process.send_signal(signal.SIGSTOP)
        person.go_on(0.8)
        person.says, suspended = None, len(arm.commands)
        process.send_signal(signal.SIGCONT)
        person.until(lambda: arm.last == ACTION, "the policy to drive")
        assert PERSONS not in [list(command.data) for command in arm.commands[suspended:]]
    person.until(lambda: told.count("delayed commands of a person") > 0, "word of it")


@pytest.mark.parametrize("quality", [reliable(1, latched=True), VOLATILE], ids=["latched", "not"])
def test_a_switch_that_is_on_before_the_start_is_heard_if_it_is_latched(
    robot: Robot, write: Write, quality: QoSProfile
) -> None:
    probe, arm, told = robot.probe, Arm(robot), Told(robot)
    person = Teleop(robot, arm, quality)
    person.says = PERSONS
    person.press(True)
    start(robot, write(switch=SWITCH), autostart=False)
    assert probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    probe.until(person.take.wait_for_all_acked, "the node to hear of it")
    arm.aim(arm.now_ns)
    answer = probe.begin_transition(NODE, Transition.TRANSITION_ACTIVATE)
    person.until(answer.done, "the node to be active")
    latched = quality is not VOLATILE
    first = PERSONS if latched else ACTION
    person.until(lambda: arm.last == first, "commands")
    state = "takeover" if latched else "running"
    person.until(lambda: told.state == state, "word of it")
    if latched:
        assert ACTION not in [list(command.data) for command in arm.commands]
    for pressed, row in ((False, ACTION), (True, PERSONS), (False, ACTION)):
        person.press(pressed)
        person.until_sent(row)


def test_who_speaks_on_the_robots_topic_is_a_rival_as_ever(robot: Robot, write: Write) -> None:
    _, arm, told = begin(robot, write())
    robot.probe.node.create_publisher(
        Float64MultiArray, "velocity_controller/commands", reliable(1)
    )
    arm.live(lambda: told.state == "inactive" and arm.last == SAFE, "the node to give way")
    assert state_of(robot) == State.PRIMARY_STATE_INACTIVE


def test_in_shadow_mode_nobody_takes_over(robot: Robot, write: Write) -> None:
    start(robot, write(), shadow=True)
    arm, told = Arm(robot), Told(robot)
    shadow = robot.probe.collect(Float64MultiArray, f"{NODE}/shadow/velocity_controller/commands")
    arm.aim(arm.now_ns)
    person = Teleop(robot, arm)
    person.says = PERSONS
    person.until(lambda: told.state == "running" and len(shadow) > 5, "the policy to look on")
    assert {tuple(each.data) for each in shadow} <= {tuple(ACTION), tuple(SAFE)}
    assert robot.probe.node.count_subscribers(TOPIC) == 0
    assert not arm.commands


@pytest.mark.parametrize("remap", [f"{TOPIC}:=velocity_controller/commands", "take:=intervention"])
def test_no_remapping_makes_the_node_its_own_commander(
    robot: Robot, write: Write, tmp_path: Path, remap: str
) -> None:
    arguments = [sys.executable, "-m", MODULE, "--ros-args", "-r", f"__node:={NODE}", "-r", remap]
    for each in (f"contract:={write(switch=SWITCH)}", "autostart:=true"):
        arguments += ["-p", each]
    environment = environment_of(robot.domain) | {"ROS_LOG_DIR": str(tmp_path)}
    process = NodeProcess(NODE, arguments, environment)
    try:
        assert process.wait(60)
    finally:
        process.stop()
    given, _, led_to = remap.partition(":=")
    assert process.exit_code == 2
    assert process.last_words == (
        f"a remapping leads '{given}', by which a person takes over, to '/{led_to}', on which "
        f"this node sends: leave it out"
    )


def test_in_lockstep_the_next_command_is_the_persons(robot: Robot, write: Write) -> None:
    """One tick: each state is answered once, by whoever commands by then."""
    start(robot, write(switch=SWITCH), mode="lockstep")
    arm = Arm(robot)
    arm.aim(0)
    person = robot.probe.node.create_publisher(Float64MultiArray, TOPIC, reliable(1))
    switch = robot.probe.node.create_publisher(Bool, "take", reliable(1))
    told = Told(robot)
    stamps = (step * 100_000_000 for step in itertools.count())
    heard = "heard commands of teleop/commands"

    def say(pressed: bool) -> None:
        """Speak, turn the switch, and see that the node has heard both."""
        before, word = told.count(heard), "on" if pressed else "off"
        person.publish(Float64MultiArray(data=PERSONS))
        robot.probe.until(lambda: told.count(heard) > before, "the person to be heard")
        switch.publish(Bool(data=pressed))
        robot.probe.until(lambda: told.values.get("person's switch") == word, "the switch")

    assert arm.answered(next(stamps)) == ACTION
    robot.probe.until(
        lambda: min(each.get_subscription_count() for each in (person, switch)) > 0, "a listener"
    )
    for pressed, expected in ((True, PERSONS), (False, ACTION), (True, PERSONS)):
        say(pressed)
        assert arm.answered(next(stamps)) == expected
    # By the simulator's clock a command is too old after 0.4 s, however long that takes.
    for _ in range(3):
        assert arm.answered(next(stamps)) == PERSONS
    assert arm.answered(next(stamps)) == SAFE


def test_in_lockstep_no_command_outlives_a_simulation_that_is_over(
    robot: Robot, write: Write
) -> None:
    start(robot, write(switch=SWITCH), mode="lockstep")
    arm, told = Arm(robot), Told(robot)
    arm.aim(0)
    person = robot.probe.node.create_publisher(Float64MultiArray, TOPIC, reliable(1))
    switch = robot.probe.node.create_publisher(Bool, "take", reliable(1))
    listeners = (person.get_subscription_count, switch.get_subscription_count)
    robot.probe.until(lambda: all(count() for count in listeners), "a listener")
    assert arm.answered(10_000_000_000) == ACTION
    person.publish(Float64MultiArray(data=PERSONS))
    robot.probe.until(lambda: told.count("heard commands of teleop/commands") == 1, "to be heard")
    switch.publish(Bool(data=True))
    robot.probe.until(lambda: told.values.get("person's switch") == "on", "the switch")
    assert arm.answered(10_100_000_000) == PERSONS
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
        assert robot.probe.change_state(NODE, transition)
    arm.aim(0)
    robot.probe.until(lambda: arm.last == SAFE, "the end of the simulation before")
    seen, end_s = len(arm.commands), time.monotonic() + 1.0

    def has_waited() -> bool:
        arm.show(100_000_000)
        return time.monotonic() > end_s

    robot.probe.until(has_waited, "some time")
    assert not arm.commands[seen:], "the person has the switch and has said nothing yet"
    switch.publish(Bool(data=False))
    assert arm.answered(200_000_000) == ACTION


def test_a_recording_says_of_each_action_whose_it_is(
    robot: Robot, write: Write, tmp_path: Path
) -> None:
    """From the topics to the dataset's infos; the recorder needs not be told of any topic."""
    contract = write(switch=BUTTON)
    document = yaml.safe_load(contract.read_text())
    del document["reward"], document["episode"]
    contract.write_text(yaml.safe_dump(document))
    bag = tmp_path / "bag"
    recorder = robot.start("recorder", contract=str(contract), out=str(bag))
    start(robot, contract, autostart=False)
    probe, arm, told = robot.probe, Arm(robot), Told(robot)
    person = Teleop(robot, arm)
    assert probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    sent = ("velocity_controller/commands", "intervention")
    probe.until(
        lambda: min(map(probe.node.count_subscribers, sent)) > 1, "the recorder, beside the test"
    )
    arm.aim(arm.now_ns)
    answer = probe.begin_transition(NODE, Transition.TRANSITION_ACTIVATE)
    person.until(answer.done, "the node to be active")
    person.says = PERSONS
    for pressed in (False, True, False, True, False):
        person.press(pressed)
        person.until_sent(PERSONS if pressed else ACTION)
        person.until_more(8)
    recorder.send_signal(signal.SIGINT)
    person.until(lambda: recorder.wait(0.0), "the recording to be finished")
    assert recorder.exit_code == 0, recorder.last_words
    assert told.state == "running"
    report = convert(Source(load_contract(contract), [bag]), tmp_path / "out")
    assert {"/teleop/commands", "/joy", "/intervention"} <= set(topics_of(bag))
    dataset = minari.MinariDataset(tmp_path / "out" / "data")
    episode = max(dataset.iterate_episodes(), key=lambda each: len(each.actions))
    persons = (episode.actions == np.array(PERSONS, np.float32)).all(axis=1)
    assert [key for key, _ in itertools.groupby(persons)] == [False, True, False, True, False]
    np.testing.assert_array_equal(episode.infos["intervention"][1:], persons)
    assert not any("nobody said" in remark for remark in report["remarks"])


def topics_of(bag: Path) -> list[str]:
    information = yaml.safe_load((bag / "metadata.yaml").read_text())
    listed = information["rosbag2_bagfile_information"]["topics_with_message_count"]
    return [each["topic_metadata"]["name"] for each in listed]
