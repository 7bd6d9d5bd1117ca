"""A definition without a field, of a type that nobody else knows, was most likely left out."""

import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mcap.writer import Writer
from rosbags.rosbag1 import Writer as Ros1Writer

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from dql_ros.cli.inspect import inspect
from dql_ros.contract import Contract
from dql_ros.convert.convert import ConvertOptions, Source, convert
from dql_ros.tools.contract_check import check_bag
from dql_ros.tools.contract_draft.topic_profile import Profiler
from tests.printed import words
from tests.ros.bag.bag_files import FLOAT, Sent, cdr, ramp, write_sqlite

THING = "my_msgs/msg/Thing"
REMEDY = "name a folder that has its package's .msg files, with --msgs"
TEXTS = ("\\\n\\\n", "# nothing\n# at all", "", " \n")
MESSAGES = ramp(80, ("/thing", "/cmd"), 50_000_000)


def in_mcap(path: Path, text: str, payload: Callable[[Sent], bytes]) -> Path:
    path = path.with_suffix(".mcap")
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start(profile="ros2", library="test")
        schemas = {"/thing": (THING, text), "/cmd": (FLOAT, "float64 data")}
        channels = {
            topic: writer.register_channel(
                topic, "cdr", writer.register_schema(name, "ros2msg", definition.encode())
            )
            for topic, (name, definition) in schemas.items()
        }
        for sent in MESSAGES:
            writer.add_message(channels[sent.topic], sent.time_ns, payload(sent), sent.time_ns)
        writer.finish()  # type: ignore[no-untyped-call]  # the library's gap
    return path


def in_sqlite(path: Path, text: str, payload: Callable[[Sent], bytes]) -> Path:
    path = write_sqlite(path.with_suffix(".db3"), MESSAGES)
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(
            "CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);"
            "INSERT INTO schema VALUES (4, 'jazzy');"
            "CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT NOT NULL,"
            " encoding TEXT NOT NULL, encoded_message_definition TEXT NOT NULL,"
            " type_description_hash TEXT NOT NULL);"
        )
        database.execute(
            "INSERT INTO message_definitions VALUES (1, ?, 'ros2msg', ?, '')", (THING, text)
        )
        database.execute("UPDATE topics SET type = ? WHERE name = '/thing'", (THING,))
        for number, sent in enumerate(MESSAGES, start=1):
            database.execute("UPDATE messages SET data = ? WHERE id = ?", (payload(sent), number))
    return path


def in_ros1(path: Path, text: str, payload: Callable[[Sent], bytes]) -> Path:
    path = path.with_suffix(".bag")
    with Ros1Writer(path) as writer:
        connections = {
            "/thing": writer.add_connection("/thing", THING, msgdef=text, md5sum="*"),
            "/cmd": writer.add_connection("/cmd", FLOAT, msgdef="float64 data", md5sum="*"),
        }
        for sent in MESSAGES:
            content = payload(sent)[4:] if payload(sent) != EMPTY else b""
            writer.write(connections[sent.topic], sent.time_ns, content)
    return path


EMPTY = b"\0\1\0\0\0"
WRITERS = (in_mcap, in_sqlite, in_ros1)


def full(sent: Sent) -> bytes:
    return cdr(sent.value)


def without_content(sent: Sent) -> bytes:
    return EMPTY if sent.topic == "/thing" else cdr(sent.value)


def contract(**more: Any) -> Contract:
    observed = {"topic": "/thing", "type": THING, "stamp": "receive"}
    commanded = {"topic": "/cmd", "type": FLOAT}
    document = {
        "robot": "r",
        "rate_hz": 10.0,
        "observation": [{**observed, "fields": [{"path": "data", "names": ["x"]}]}],
        "action": [{**commanded, "fields": [{"path": "data", "low": 0, "high": 99}]}],
    }
    return Contract.model_validate({**document, **more})


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("text", TEXTS)
def test_the_remedy_is_named_and_works(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    write: Callable[..., Path],
    text: str,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    bag = write(tmp_path / "x", text, full)
    inspect([bag])
    remark = "- my_msgs: nobody defines its Thing, so that 40 messages on /thing cannot be decoded"
    assert remark in words(capsys.readouterr().out)
    (problem,) = check_bag(bag, contract()).findings.problems
    assert problem == (
        f"{bag}: /thing cannot be read: neither the bag nor ROS's standard packages define "
        f"{THING}; {REMEDY}"
    )
    for salvage in (False, True):
        with pytest.raises(BagError) as refused:
            convert(Source(contract(), [bag]), tmp_path / "no", ConvertOptions(salvage=salvage))
        assert str(refused.value) == problem
    profiler = Profiler()
    with Bag(bag) as opened:
        profiler.add(opened)
    (note,) = profiler.losses
    assert note.startswith(f"{bag}: {remark.removeprefix('- ')}")
    (tmp_path / "my_msgs" / "msg").mkdir(parents=True)
    (tmp_path / "my_msgs" / "msg" / "Thing.msg").write_text("float64 data\n")
    options = ConvertOptions(msgs=(tmp_path / "my_msgs",))
    assert convert(Source(contract(), [bag]), tmp_path / "out", options)["totals"]["episodes"] == 1


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("salvage", [False, True])
def test_a_type_without_fields_is_an_event(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    write: Callable[..., Path],
    salvage: bool,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    bag = write(tmp_path / "x", "# says only that it came", without_content)
    rules = contract(
        observation=[
            {"topic": "/cmd", "type": FLOAT, "stamp": "receive", "fields": [{"path": "data"}]}
        ],
        action=[
            {
                "topic": "/cmd",
                "type": FLOAT,
                "fields": [{"path": "data", "names": ["u"], "low": 0, "high": 99}],
            }
        ],
        episode={"start": {"topic": "/thing", "type": THING}},
    )
    report = convert(Source(rules, [bag]), tmp_path / "out", ConvertOptions(salvage=salvage))
    assert report["totals"]["episodes"] > 30
    assert report["totals"]["losses"] == 0
    inspect([bag], salvage=salvage)
    assert "cannot be decoded" not in words(capsys.readouterr().out)


def test_a_standard_type_within_a_definition_does_not_depend_on_its_text(tmp_path: Path) -> None:
    bar = "=" * 80
    text = f"geometry_msgs/Vector3 at\n{bar}\nMSG: geometry_msgs/Vector3\n# left out\n"
    bag = in_mcap(tmp_path / "x", text, lambda sent: cdr(sent.value) + struct.pack("<2d", 1, 2))
    with Bag(bag) as opened:
        fields = opened.typestore("/thing").get_msgdef("geometry_msgs/msg/Vector3").fields
    assert [name for name, _ in fields] == ["x", "y", "z"]
