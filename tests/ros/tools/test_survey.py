"""What a survey says of topics that several publish, or that nobody can read."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from mcap.writer import Writer
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_typestore

from dql_core.cli.terminal import Terminal
from dql_ros.bag.reader import Bag
from dql_ros.cli.inspect import inspect
from dql_ros.tools.contract_draft.topic_profile import profile_topics
from dql_ros.tools.survey import survey
from tests.printed import words
from tests.ros.bag.bag_files import (
    FLOAT,
    SECOND,
    cdr,
    ramp,
    write_mcap,
    write_metadata,
    write_ros1,
    write_sqlite,
)

PERIOD_NS = 10_000_000
# Two publishers, one of which is always 0.4 ms behind the other.
TIMES = [SECOND + tick * PERIOD_NS + late for tick in range(3000) for late in (0, 400_000)]


def two_connections(path: Path) -> Path:
    with Ros1Writer(path) as writer:
        store = get_typestore(Stores.ROS1_NOETIC)
        connections = [
            writer.add_connection("/x", FLOAT, typestore=store, callerid=name) for name in "ab"
        ]
        for index, time_ns in enumerate(TIMES):
            writer.write(connections[index % 2], time_ns, struct.pack("<d", 1.0))
    return path


def two_channels(path: Path) -> Path:
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=20_000)
        writer.start(profile="ros2")
        schema = writer.register_schema(FLOAT, "ros2msg", b"float64 data")
        channels = [
            writer.register_channel("/x", "cdr", schema, {"qos": name}) for name in ("a", "b")
        ]
        for index, time_ns in enumerate(TIMES):
            writer.add_message(channels[index % 2], time_ns, cdr(1.0), time_ns)
        writer.finish()  # type: ignore[no-untyped-call]  # the library's gap
    return path


@pytest.mark.parametrize(("write", "name"), [(two_connections, "x.bag"), (two_channels, "x.mcap")])
def test_the_messages_of_two_publishers_are_timed_in_their_order(
    tmp_path: Path, write: Callable[[Path], Path], name: str
) -> None:
    pauses = np.diff(TIMES) / 1e6
    with Bag(write(tmp_path / name)) as bag:
        (topic,) = survey(bag)
        figures = topic.statistics.to_json()
        (profile,) = profile_topics(bag)
    assert figures["count"] == len(TIMES)
    assert figures["median_pause_ms"] == pytest.approx(np.median(pauses))
    distances = np.abs(pauses - np.median(pauses))
    assert figures["jitter_ms"]["max"] == pytest.approx(distances.max())
    assert figures["longest_pause_s"] == pytest.approx(pauses.max() / 1e3)
    assert profile.timing["jitter_ms"] == figures["jitter_ms"]


def broken_ros1(path: Path) -> Path:
    """A topic whose messages are shorter than their type, beside a sound one."""
    store = get_typestore(Stores.ROS1_NOETIC)
    with Ros1Writer(path) as writer:
        good = writer.add_connection("/good", FLOAT, typestore=store)
        bad = writer.add_connection("/bad", FLOAT, msgdef="float64[3] data", md5sum="*")
        for sent in ramp(40):
            connection = good if sent.topic == "/a" else bad
            writer.write(connection, sent.time_ns, struct.pack("<d", sent.value))
    return path


def test_a_topic_that_nobody_can_read_ends_neither_inspect_nor_init(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = broken_ros1(tmp_path / "x.bag")
    with Bag(path) as bag:
        topics = {each.topic.name: each for each in survey(bag)}
        profiles = {each.name: each for each in profile_topics(bag)}
    assert "a message of /bad is no valid std_msgs/msg/Float64" in topics["/bad"].unreadable
    assert topics["/good"].unreadable == ""
    assert [topics[name].statistics.count for name in ("/bad", "/good")] == [20, 20]
    refused = profiles["/bad"].numbers
    assert refused is not None
    assert refused.refusal == topics["/bad"].unreadable
    assert refused.refusal.endswith("; --salvage leaves it out")
    assert profiles["/good"].numbers is not None
    inspect([path])
    assert "- /bad: its 20 messages cannot be decoded: a message of" in words(
        capsys.readouterr().out
    )


def test_definitions_with_remarks_in_other_encodings_are_read(tmp_path: Path) -> None:
    path = write_ros1(tmp_path / "x.bag", ramp(40))
    data = path.read_bytes().replace(b"float64 data", b"float64 d #\xb0")
    path.write_bytes(data)
    with Bag(path) as bag:
        assert [each.unreadable for each in survey(bag)] == ["", ""]
        fields = bag.typestore("/a").fielddefs[FLOAT][1]
    assert [name for name, _ in fields] == ["d"]


def test_what_is_printed_into_a_pipe_is_not_wrapped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "/a/topic/with/a/long/name" * 6
    inspect([write_mcap(tmp_path / "x.mcap", ramp(9, (name,)))])
    lines = capsys.readouterr().out.splitlines()
    assert any(name in line for line in lines)
    assert any(
        "rate: mean without far longer pauses;" in line and line.endswith("median and longest")
        for line in lines
    )
    Terminal().print("word " * 60)
    assert len(capsys.readouterr().out.splitlines()) == 1
    monkeypatch.setenv("COLUMNS", "60")
    Terminal().print("word " * 60)
    assert len(capsys.readouterr().out.splitlines()) > 1


def test_several_bags_are_shown_and_those_that_cannot_be_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [write_mcap(tmp_path / f"{name}.mcap", ramp(9)) for name in "xy"]
    inspect(paths)
    assert words(capsys.readouterr().out).count("messages 9") == 2
    inspect(paths, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert [each["bag"] for each in found] == [str(path) for path in paths]
    with pytest.raises(typer.Exit) as left:
        inspect([paths[0], tmp_path / "none.mcap", paths[1]])
    assert left.value.exit_code == 2
    output = capsys.readouterr()
    assert words(output.out).count("messages 9") == 2
    (line,) = output.err.splitlines()
    assert line.startswith(f"dql: {tmp_path}/none.mcap: no such file or folder (known: ")


def test_the_heading_of_a_salvaged_bag_counts_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sqlite(tmp_path / "x_0.db3", ramp(3000))
    write_metadata(tmp_path, ramp(3000), [path.name])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    inspect([tmp_path], salvage=True, as_json=True)
    document = json.loads(capsys.readouterr().out)
    left = sum(topic["count"] for topic in document["topics"])
    assert 300 < left < 3000
    inspect([tmp_path], salvage=True)
    assert f"messages {left:,} of 3,000 could be read" in words(capsys.readouterr().out)
