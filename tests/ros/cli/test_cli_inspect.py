import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcap.writer import Writer

from dql_core.errors import BagError, ContractError, DqlError
from dql_ros.bag.reader import STORAGE_SUFFIXES
from dql_ros.cli.inspect import inspect
from tests.printed import words

ARM = Path(__file__).parents[1] / "arm.yaml"
SECOND = 1_000_000_000
BAGS = Path(__file__).parents[4] / "shared" / "data" / "bags"
RECORDINGS = sorted(
    {file.parent for file in BAGS.rglob("*.*") if file.name.endswith(STORAGE_SUFFIXES[:-1])}
    | set(BAGS.rglob("*.bag"))
)


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


LONG, JOINTS = "/left_arm/velocity_controller/commands", "std_msgs/msg/Float64MultiArray"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            80,
            [
                "/left_arm/velocity_controller/ 20 10 100 0 0.1",
                "commands",
                "std_msgs/Float64MultiArray",
            ],
        ),
        (
            50,
            [
                LONG,
                "std_msgs/Float64MultiArray",
                "count 20; rate 10 Hz; spacing 100 ms; jitter 0 ms;",
                "longest 0.1 s",
            ],
        ),
    ],
)
def test_a_narrow_terminal_breaks_no_word(
    tmp_path: Path,
    record: Callable[..., Path],
    blank: Callable[[str], Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
    expected: list[str],
) -> None:
    messages = [(LONG, JOINTS, SECOND + t * SECOND // 10, blank(JOINTS)) for t in range(20)]
    monkeypatch.setenv("COLUMNS", str(columns))
    inspect([record(tmp_path / "bag", messages)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    shown_lines = [" ".join(line.split()) for line in lines]
    first = shown_lines.index(expected[0])
    assert shown_lines[first : first + len(expected)] == expected


@pytest.fixture
def bag(tmp_path: Path, record: Callable[..., Path], blank: Callable[[str], Any]) -> Path:
    reward, point = "std_msgs/msg/Float64", "geometry_msgs/msg/PointStamped"
    messages = [
        ("/reward", reward, 10 * SECOND + tick * SECOND // 4, blank(reward)) for tick in range(9)
    ]
    for tick in range(11):
        stamped = blank(point)
        log_time_ns = 10 * SECOND + tick * SECOND // 10
        stamp_ns = log_time_ns - 30_000_000 if tick else 0
        stamp_ns -= 200_000_000 if tick == 5 else 0
        stamped.header.stamp.sec, stamped.header.stamp.nanosec = divmod(stamp_ns, SECOND)
        messages.append(("/target", point, log_time_ns, stamped))
    messages.sort(key=lambda message: message[2])
    return record(tmp_path / "bag", messages, silent={"/stop": "std_msgs/msg/Bool"})


def shown(path: Path, capsys: pytest.CaptureFixture[str], *, salvage: bool = False) -> str:
    inspect([path], salvage=salvage)
    return words(capsys.readouterr().out)


def test_bag_shows_topics_types_counts_rates_stamps_and_duration(
    bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(bag, capsys)
    assert "starts 10.000 s (1970-01-01 00:00:10 UTC)" in text
    assert "duration 2.000 s" in text
    assert "messages 20" in text
    assert "/reward 9 4 250 0 0.25 std_msgs/Float64" in text
    assert "/target 11 10 100 0 0.1 30, 230 geometry_msgs/PointStamped" in text
    assert "/stop 0 std_msgs/Bool" in text
    assert "- /stop: has no message" in text
    assert "- /target: 1 of 11 header stamps are zero; 1 of 11 header stamps go backwards" in text


def test_single_file_of_a_bag_is_shown_too(bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = next(bag.glob("*.mcap"))
    assert "/reward 9 4 250" in shown(file, capsys)


def test_json_has_the_figures_of_the_tables(bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect([bag], as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["message_count"] == 20
    assert document["duration_s"] == 2.0
    assert [topic["topic"] for topic in document["topics"]] == ["/reward", "/stop", "/target"]
    reward, stop, target = document["topics"]
    assert (reward["count"], reward["rate_hz"], reward["median_pause_ms"]) == (9, 4.0, 250.0)
    assert reward["stamps"] is None
    assert target["stamps"] == {"backwards": 1, "duplicate": 0, "zero": 1}
    assert target["receive_minus_header_ms"]["p50"] == 30.0
    assert (stop["count"], stop["rate_hz"]) == (0, None)
    assert (document["losses"], document["notes"]) == ([], [])


def test_simulated_stamps_under_a_wall_clock_are_told(
    tmp_path: Path,
    record: Callable[..., Path],
    blank: Callable[[str], Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    point = "geometry_msgs/msg/PointStamped"
    messages = []
    for tick in range(4):
        stamped = blank(point)
        stamped.header.stamp.sec = tick + 1
        messages.append(("/target", point, (1000 + tick) * SECOND, stamped))
    text = shown(record(tmp_path / "bag", messages), capsys)
    assert "other clock" in text
    assert (
        "- /target: header stamps and times of receipt are 999 s apart: they are of different "
        "clocks" in text
    )


def odd_recording(
    path: Path, profile: str, schema: tuple[str, str, bytes], topic: str, encoding: str
) -> Path:
    """Write five messages of a type that nobody knows, one a second."""
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start(profile=profile)
        channel = writer.register_channel(topic, encoding, writer.register_schema(*schema))
        for tick in range(5):
            writer.add_message(channel, tick * SECOND, b"\0\1\0\0", tick * SECOND)
        writer.finish()  # type: ignore[no-untyped-call]  # the library's gap
    return path


def test_topic_of_unknown_type_is_counted_and_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = ("odd_msgs/msg/Odd[red]", "ros2msg", b"")
    path = odd_recording(tmp_path / "odd_0.mcap", "ros2", schema, "/odd[bold]", "cdr")
    text = shown(path, capsys)
    assert "/odd[bold] 5 1 1000 0 1 odd_msgs/Odd[red]" in text
    assert (
        "- odd_msgs: nobody defines its Odd[red], so that 5 messages on /odd[bold] cannot be "
        "decoded; name a folder that has the package's .msg files, with --msgs" in text
    )


def test_messages_in_no_encoding_of_ros_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = ("thing", "jsonschema", b"{}")
    text = shown(odd_recording(tmp_path / "o_0.mcap", "", schema, "/thing", "json"), capsys)
    assert "/thing 5 1 1000 0 1 thing" in text
    assert "- /thing: its 5 messages cannot be decoded: it is serialised as 'json'; cdr" in text


def test_damaged_bag_is_refused_and_salvaged_with_its_losses(
    bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = next(bag.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[:-60])
    with pytest.raises(BagError, match="--salvage reads what is left of it"):
        inspect([bag])
    text = shown(bag, capsys, salvage=True)
    assert "/reward 9 4 250" in text
    assert "has no end" in text
    assert "/stop: has no message" in text
    assert text.count("has no message") == 1
    file.write_bytes(file.read_bytes()[:200])
    assert f"- lost: 20 messages of {file.name}" in shown(bag, capsys, salvage=True)


def test_a_bag_does_not_wait_for_what_only_checkpoints_need(bag: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dql_ros.cli.inspect import inspect\n"
        "inspect([Path(sys.argv[1])]); assert 'torch' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(bag)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_options_for_bags_are_refused_for_other_things() -> None:
    with pytest.raises(DqlError, match=r"arm.yaml: is no bag; --json, --salvage and"):
        inspect([ARM], as_json=True)


def test_contract_shows_streams_fields_and_the_safe_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = shown(ARM, capsys)
    assert "robot arm" in text
    assert "control rate 20 Hz" in text
    assert "joint_states sensor_msgs/JointState best_effort, volatile 0.2 s" in text
    assert "target geometry_msgs/PointStamped reliable, transient_local none (latched)" in text
    assert "1 elbow_velocity rad/s -2 to 2" in text
    assert "hold for 0 s, then send 0, 0" in text


def test_unfinished_recording_is_told(tmp_path: Path) -> None:
    (tmp_path / "bag_0.mcap").write_bytes(b"\x89MCAP0\r\n")
    with pytest.raises(BagError, match=r"bag_0.mcap: has no end: the recorder was stopped"):
        inspect([tmp_path])


def test_yaml_that_is_no_contract_is_told(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("robto: arm\n")
    with pytest.raises(ContractError, match="unknown key 'robto'"):
        inspect([tmp_path / "other.yaml"])


def test_unknown_thing_is_told_with_what_can_be_inspected(tmp_path: Path) -> None:
    with pytest.raises(DqlError, match=r"is nothing that 'dql inspect' knows; it shows bags .*"):
        inspect([tmp_path])


def test_missing_path_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(DqlError, match=r"no such file or folder \(did you mean '.*/bundle'"):
        inspect([tmp_path / "bundel"])


@pytest.mark.realdata
@pytest.mark.skipif(not BAGS.is_dir(), reason="no recordings in ../shared/data/bags")
@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: str(path.relative_to(BAGS)))
def test_every_recording_of_others_is_surveyed_whole(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect([recording], as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["message_count"] > 0
    assert sum(topic["count"] for topic in document["topics"]) == document["message_count"]
    assert document["losses"] == []
    assert str(recording.name) in shown(recording, capsys)
