"""A person labels episodes in each way there is while a recorder runs; then they are converted."""

import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import minari
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Log
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Joy
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger

from dql_core.errors import BagError
from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert
from dql_ros.nodes.topics import reliable
from dql_ros.processes import environment_of
from tests.ros.nodes.recorder.lever import CONTRACT, NODE, Lever
from tests.ros.nodes.robot import Robot

pytestmark = pytest.mark.ros
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LABEL = [sys.executable, "-m", "dql_ros.cli.main", "label"]
JOY = "sensor_msgs/msg/Joy"
OUTCOMES: dict[str, Any] = {
    label: {"topic": "joy", "type": JOY, "path": f"buttons.{number}"}
    for number, label in enumerate(("success", "failure", "discard"))
}
REWARD = {"function": "dql_core.rewards:outcome", "arguments": {"success": 5, "failure": -1}}


class Person:
    """Says when an episode is recorded, and how it went, beside a lever that moves."""

    def __init__(self, robot: Robot, folder: Path) -> None:
        self.lever = Lever(robot, folder)
        document = yaml.safe_load(CONTRACT) | {"outcomes": OUTCOMES, "reward": REWARD}
        document["episode"] = {
            "during": {"topic": "record", "type": "std_msgs/msg/Bool", "path": "data"}
        }
        self.lever.contract.write_text(yaml.safe_dump(document))
        node = robot.probe.node
        self._probe = robot.probe
        self._recorded = node.create_publisher(Bool, "record", reliable(10))
        self._joy = node.create_publisher(Joy, "joy", BEST_EFFORT)
        self.words = node.create_publisher(String, "outcome", reliable(10))
        self.label = node.create_publisher(String, f"{NODE}/label", reliable(10))
        self._buttons = [0, 0, 0]
        self.told = robot.probe.collect(DiagnosticArray, "/diagnostics")

    def begin(self) -> None:
        """Begin an episode that ended before, if one did, and drive for a while."""
        for is_recorded in (False, True):
            self._recorded.publish(Bool(data=is_recorded))
            self.drive(0.15)
        self.drive(0.3)

    def drive(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds

        def is_over() -> bool:
            self._joy.publish(Joy(buttons=self._buttons))
            return time.monotonic() > end_s

        self.lever.move_until(is_over, "time to pass")

    def press(self, button: int) -> None:
        """Hold a button for a while, as long as many messages of the joystick's driver."""
        for pressed in (1, 0):
            self._buttons[button] = pressed
            self.drive(0.2)

    @property
    def labels(self) -> str:
        """What the recorder says that it heard."""
        values = [
            pair.value
            for each in self.told[-5:]
            for status in each.status
            for pair in status.values
            if pair.key == "labels"
        ]
        return values[-1] if values else ""

    def hears(self) -> bool:
        publishers = (self._recorded, self._joy, self.words, self.label)
        return all(each.get_subscription_count() for each in publishers)


@pytest.fixture(name="person")
def _person(robot: Robot, tmp_path: Path) -> Person:
    return Person(robot, tmp_path)


def call(person: Person, kind: Any, service: str, **request: Any) -> tuple[bool, str]:
    probe = person.lever.robot.probe
    answer = probe.call(kind, f"{NODE}/{service}", kind.Request(**request))
    return answer.success, answer.message


def outcomes_of(person: Person, out: Path) -> list[tuple[bool | None, bool, float]]:
    """Convert the recording: of each episode its label, whether it is terminated, its return."""
    convert(Source(load_contract(person.lever.contract), [person.lever.bag]), out)
    return [
        (
            bool(episode.infos["success"][-1]) if episode.infos else None,
            bool(episode.terminations[-1]),
            float(episode.rewards.sum()),
        )
        for episode in minari.MinariDataset(out / "data").iterate_episodes()
    ]


SUCCESS, FAILURE, NOTHING = (True, True, 5.0), (False, True, -1.0), (None, False, 0.0)


def test_services_buttons_and_words_label_episodes(person: Person, tmp_path: Path) -> None:
    """One bag, each way in turn: discarded episodes are in it, and not in the dataset."""
    person.lever.record()
    person.lever.move_until(person.hears, "the recorder to hear all")
    ways: list[tuple[Callable[[], object], Any]] = [
        (lambda: call(person, SetBool, "label_episode", data=True), SUCCESS),
        (lambda: call(person, Trigger, "discard_episode"), None),
        (lambda: call(person, SetBool, "label_episode", data=False), FAILURE),
        (lambda: person.press(0), SUCCESS),
        (lambda: person.press(2), None),
        (lambda: person.press(1), FAILURE),
        (lambda: person.words.publish(String(data="success")), SUCCESS),
        (lambda: person.label.publish(String(data="failure")), FAILURE),
        (lambda: person.label.publish(String(data="what a day")), NOTHING),
    ]
    for say, _ in ways:
        person.begin()
        say()
        person.drive(0.3)
    person.lever.move_until(
        lambda: person.labels == "3 success, 3 failure, 2 discard", "word of the labels"
    )
    answer = call(person, Trigger, "stop")
    assert answer[0], answer[1]
    expected = [result for _, result in ways if result is not None]
    assert outcomes_of(person, tmp_path / "out") == expected


def test_bytes_that_are_no_label_and_long_labels_do_not_end_the_recording(
    person: Person, tmp_path: Path
) -> None:
    person.lever.record()
    person.lever.move_until(person.hears, "the recorder to hear all")
    log = person.lever.robot.probe.collect(Log, "/rosout")
    person.begin()
    person.words.publish(b"\0\1\0\0\xff\xff\xff\x7f")
    person.lever.move_until(
        lambda: any("/outcome: a message cannot be read" in each.msg for each in log), "word of it"
    )
    person.label.publish(String(data="\x1b[2J" * 100_000))
    person.words.publish(String(data="success"))
    person.drive(0.3)
    assert call(person, Trigger, "stop")[0]
    person.label.publish(String(data="\x1b[2J" * 100_000))
    shown = "'" + "\\x1b[2J" * 20 + "' labels nothing: nothing is being recorded"
    person.lever.move_until(lambda: any(shown == each.msg for each in log), "the refusal")
    with pytest.raises(BagError, match="/outcome: a message is no std_msgs/msg/String"):
        outcomes_of(person, tmp_path / "out")


class Keys:
    """`dql label` with a terminal of its own, as over SSH."""

    def __init__(self, person: Person, domain: int) -> None:
        self._person = person
        self._keyboard, terminal = pty.openpty()
        output, given = os.pipe()
        self.process = subprocess.Popen(
            LABEL, env=environment_of(domain), stdin=terminal, stdout=given, stderr=given
        )
        os.close(given)
        os.set_blocking(output, False)
        self._terminal, self._output, self._said = terminal, output, b""

    def press(self, key: str) -> None:
        os.write(self._keyboard, key.encode())

    def await_words(self, words: str) -> None:
        """Go on driving until it has said so."""

        def has_said() -> bool:
            with suppress(BlockingIOError):
                self._said += os.read(self._output, 10_000)
            return words in self._said.decode()

        self._person.lever.move_until(has_said, f"{words!r}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for each in (self._keyboard, self._terminal, self._output):
            os.close(each)


@pytest.fixture(name="keys")
def _keys(person: Person, robot: Robot) -> Iterator[Keys]:
    keys = Keys(person, robot.domain)
    yield keys
    keys.close()


def test_keys_of_a_terminal_label_episodes_at_once(
    person: Person, keys: Keys, tmp_path: Path
) -> None:
    person.lever.record()
    person.lever.move_until(person.hears, "the recorder to hear all")
    keys.await_words("/recorder: s success, f failure, d discard, q end")
    for key, word in (("s", "success"), ("d", "discard"), ("f", "failure")):
        person.begin()
        keys.press("x")  # which is none
        keys.press(key)
        keys.await_words(f"labelled '{word}'")
    person.begin()
    assert call(person, Trigger, "stop")[0]
    keys.press("s")
    keys.await_words("'success' labels nothing: nothing is being recorded")
    keys.press("q")
    person.lever.move_until(lambda: keys.process.poll() is not None, "the end")
    assert keys.process.returncode == 0
    assert outcomes_of(person, tmp_path / "out") == [SUCCESS, FAILURE, NOTHING]


def test_keys_of_a_pipe_are_lines(person: Person, robot: Robot, tmp_path: Path) -> None:
    person.lever.record()
    person.lever.move_until(person.hears, "the recorder to hear all")

    def say(text: str) -> tuple[int, str]:
        person.begin()
        process = subprocess.Popen(
            LABEL,
            env=environment_of(robot.domain),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.close()
        process.stdin = None
        person.lever.move_until(lambda: process.poll() is not None, "the end")
        return process.returncode, process.communicate()[0]

    assert say("s\n") == (0, "labelled 'success'\n")
    assert say("f\nq\ns\n") == (0, "labelled 'failure'\n")
    assert say("") == (0, "")
    code, text = say("cheese\n")
    assert (code, text) == (
        2,
        "dql: 'cheese' is no key of dql label: s success, f failure, d discard, q end\n",
    )
    assert call(person, Trigger, "stop")[0]
    code, text = say("d\n")
    assert (code, text) == (2, "dql: 'discard' labels nothing: nothing is being recorded\n")
    assert outcomes_of(person, tmp_path / "out") == [SUCCESS, FAILURE, NOTHING, NOTHING]


def test_a_recorder_of_another_name_says_that_its_labels_will_not_be_seen(
    person: Person, robot: Robot, tmp_path: Path
) -> None:
    warnings = robot.probe.collect(Log, "/rosout", latched=True)
    contract = str(person.lever.contract)
    robot.run("dql_ros.nodes.recorder_node", "writer", contract=contract, out=str(tmp_path / "w"))
    expected = (
        "labels that this node is given are recorded on '/writer/episode', but the contract's "
        "outcomes.markers is '/recorder/episode': a conversion will not see them"
    )
    robot.probe.until(lambda: expected in {each.msg for each in warnings}, "the warning")


def test_a_button_while_nothing_is_recorded_is_told(person: Person, robot: Robot) -> None:
    warnings = robot.probe.collect(Log, "/rosout", latched=True)
    person.lever.record(record_at_start=False)
    person.lever.move_until(person.hears, "the recorder to hear all")
    person.press(0)
    expected = "'success' by /joy labels nothing: nothing is being recorded"
    person.lever.move_until(lambda: expected in {each.msg for each in warnings}, "the warning")
