"""What `dql inspect` says of clocks and publishers: a line for a topic that is odd."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags import rosbag1
from rosbags.typesys import Stores, get_typestore

from dql_ros.cli.inspect import inspect
from dql_ros.contract import QualityOfService
from dql_ros.tools.topic_clock import TopicClock
from tests.printed import words
from tests.ros.bag.sample_writer import SampleWriter
from tests.ros.tools.draft_samples import SECOND, Messages, commands, joints

Fill = Callable[..., Any]
Clock = Callable[[float], float]
REPEATED = "nothing is measured after it was received"


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


def remarks(bag: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    inspect([bag])
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("- ")]


def faults(bag: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, list[dict[str, Any]]]:
    inspect([bag], as_json=True)
    document = json.loads(capsys.readouterr().out)
    return {each["topic"]: each["clock_faults"] for each in document["topics"]}


@pytest.mark.parametrize(
    ("stamp", "remark"),
    [
        (lambda at_s: at_s - 0.001, ""),
        (
            lambda at_s: at_s + 1.0,
            f"message 1: the header stamp is 1.000 s ahead of its receipt (limit 0.01 s): "
            f"{REPEATED} (so it is with 400 of 400 messages)",
        ),
        (
            lambda at_s: at_s - 5.0,
            "header stamps are usually 5 s before their receipt: two clocks differ, or messages "
            "take so long",
        ),
        (
            lambda at_s: at_s - 3600.0,
            "header stamps and times of receipt are 3600 s apart: they are of different clocks",
        ),
        (lambda at_s: -100.0, "400 of 400 header stamps are zero"),
        (
            lambda at_s: at_s - 0.501 + 0.5 * (at_s > 3.999),
            "from here on the receipt is 0.001 s after the header stamp, before it was 0.501 s",
        ),
        (
            lambda at_s: at_s - 0.001 - 0.5 * (at_s > 3.999),
            "the header stamp is 0.480 s before that of an earlier message",
        ),
    ],
    ids=["right", "ahead", "late", "other", "zero", "moved", "back"],
)
def test_header_stamps_that_cannot_be_right_are_a_line(
    fill: Fill,
    recorded: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    stamp: Clock,
    remark: str,
) -> None:
    lines = remarks(recorded(joints(fill) + commands(fill), stamp=stamp), capsys)
    assert len(lines) == bool(remark)
    for line in lines:
        assert line.startswith("- /joint_states: ")
        assert remark in line
        assert "set 'stamp" not in line
        assert "contract" not in line


def test_nanoseconds_beyond_a_second_are_counted(
    fill: Fill, robot_types: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with SampleWriter(tmp_path / "bag") as writer:
        topic, kind, *_ = joints(fill)[0]
        writer.add_topic(topic, kind)
        for index, (_, _, at_s, message) in enumerate(joints(fill)):
            sec, nanosec = divmod(round((100 + at_s) * SECOND), SECOND)
            message.header.stamp.sec = sec
            message.header.stamp.nanosec = nanosec + SECOND * (index % 40 == 3)
            content = robot_types.serialize_cdr(message, kind)
            writer.write(topic, content, round((100.001 + at_s) * SECOND))
    (line,) = remarks(tmp_path / "bag", capsys)
    assert "message 4: header.stamp.nanosec is 1060000000, but a second has 1000000000 " in line
    assert line.endswith("(so it is with 10 of 400 messages)")
    (fault,) = faults(tmp_path / "bag", capsys)["/joint_states"]
    assert (fault["kind"], fault["messages"], fault["first"]) == ("no_time", 10, 4)


def test_a_recorders_clock_that_was_set_back_is_a_line(
    fill: Fill, recorded: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    bag = recorded(joints(fill), clock=lambda at_s: at_s - 3.0 * (at_s > 3.999))
    line = next(each for each in remarks(bag, capsys) if "/joint_states" in each)
    assert "message 201: it was received 2.980 s before the one before it" in line
    assert "so the recorder's clock was set back" in line
    assert "cut the recording" not in line
    kinds = [fault["kind"] for fault in faults(bag, capsys)["/joint_states"]]
    assert "set_back" in kinds


def test_a_clock_that_is_set_back_all_the_time_does_not_end_inspect(
    fill: Fill, recorded: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    topic, kind, _, message = commands(fill)[0]
    messages: Messages = [(topic, kind, 0.01 * index, message) for index in range(2200)]
    bag = recorded(messages, clock=lambda at_s: at_s % 0.02)
    assert any("set back more than 1000 times" in line for line in remarks(bag, capsys))


def test_what_is_wrong_is_counted_not_kept() -> None:
    clock = TopicClock("/joint_states")
    times = np.arange(10_000, dtype=np.int64) * 1_000_000 + SECOND
    ahead = np.where(np.arange(10_000) % 2, 50_000_000, -1_000_000)
    for begin in range(0, 10_000, 1000):
        part = slice(begin, begin + 1000)
        clock.add(times[part], times[part] + ahead[part])
        assert not clock._clock.faults
    (fault,) = clock.finish().to_json()
    assert (fault["kind"], fault["messages"], fault["first"]) == ("ahead", 5000, 2)


def test_several_publishers_are_said(
    fill: Fill, robot_types: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    qos = QualityOfService(reliability="reliable")
    with SampleWriter(tmp_path / "two") as writer:
        for topic, offers in (("/joint_states", [qos, qos]), ("/other", [qos])):
            writer.add_topic(topic, "sensor_msgs/msg/JointState", offers)
        log = "rcl_interfaces/msg/Log"
        writer.add_topic("/rosout", log, [qos, qos])
        writer.write("/rosout", robot_types.serialize_cdr(fill(log), log), 100 * SECOND)
        for topic in ("/joint_states", "/other"):
            for _, kind, at_s, message in joints(fill, topic)[:9]:
                content = robot_types.serialize_cdr(message, kind)
                writer.write(topic, content, round((100 + at_s) * SECOND))
    lines = remarks(tmp_path / "two", capsys)
    assert "- /joint_states: has 2 publishers; each may fill it in another way" in lines
    assert not [line for line in lines if "/other: has" in line or "/rosout" in line]


def test_connections_of_ros1_are_publishers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = get_typestore(Stores.ROS1_NOETIC)
    kind = "std_msgs/msg/Float64"
    with rosbag1.Writer(tmp_path / "two.bag") as writer:
        twins = [
            writer.add_connection("/a", kind, typestore=store, callerid=name) for name in "xy"
        ]
        for index in range(8):
            message = store.types[kind](float(index))
            content = store.serialize_ros1(message, kind)
            writer.write(twins[index % 2], SECOND + index * SECOND // 10, content)
    inspect([tmp_path / "two.bag"])
    assert "- /a: has 2 publishers" in words(capsys.readouterr().out)
