import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rosbags.highlevel import AnyReader
from rosbags.typesys.store import Typestore

from dql_core.errors import BagError
from dql_core.spec import CONTRACT_KEY
from dql_ros.bag.metadata import TopicMetadata, describe
from dql_ros.bag.reader import Bag
from dql_ros.bag.recorder import (
    LABELS_KEY,
    RECORDING_KEY,
    Recorder,
    RecorderOptions,
    recorders_notes,
)
from dql_ros.bag.sim_time import SimTimeOrder
from tests.ros.bag.messages import messages_of
from tests.ros.broadcasting import TF, Sent, message

SECOND = 1_000_000_000
NOW = 1_750_000_000 * SECOND
MARKERS = "/recorder/episode"
FLAG = b"\0\1\0\0\1"


def options(folder: Path, min_free_bytes: int = 0) -> RecorderOptions:
    return RecorderOptions(
        folder / "bag", "robot: arm\n", MARKERS, flush_ns=SECOND, min_free_bytes=min_free_bytes
    )


def flag(typestore: Typestore, name: str = "/flag") -> TopicMetadata:
    return describe(name, "std_msgs/msg/Bool", (), None, typestore)


def contents(folder: Path) -> list[tuple[str, int]]:
    """Return topic and time after `NOW` of each message, in nanoseconds."""
    with Bag(folder) as bag:
        return [(m.topic, m.log_time_ns - NOW) for m in messages_of(bag, frozenset(bag.topics))]


def custom(folder: Path, key: str) -> object:
    with Bag(folder) as bag:
        assert bag.custom_data[CONTRACT_KEY] == "robot: arm\n"
        return json.loads(bag.custom_data[key])


def test_only_what_comes_between_start_and_stop_is_recorded_in_a_bag_each(
    tmp_path: Path, typestore: Typestore
) -> None:
    recorder = Recorder(options(tmp_path))
    recorder.announce(flag(typestore), latched=False)
    recorder.receive("/flag", FLAG, NOW, NOW)
    for index in range(3):
        assert recorder.start(NOW).name == ("bag", "bag_1", "bag_2")[index]
        recorder.receive("/flag", FLAG, NOW + index, NOW)
        finished = recorder.stop({"/flag": index})
        assert (finished.counts, finished.unwritten) == ({"/flag": 1}, 0)
        recorder.receive("/flag", FLAG, NOW + index, NOW)
        assert contents(finished.path) == [("/flag", index)]
        lost = {"/flag": index} if index else {}
        known = {"lost": lost, "unwritten": 0, "late": 0, "dropped": 0, "error": ""}
        assert custom(finished.path, RECORDING_KEY) == known | {"remarks": []}


@pytest.mark.parametrize("numbered", [False, True])
def test_a_folder_that_exists_is_refused_or_evaded(tmp_path: Path, numbered: bool) -> None:
    (tmp_path / "bag" / "precious").mkdir(parents=True)
    recorder = Recorder(replace(options(tmp_path), numbered=numbered))
    if numbered:
        assert recorder.start(NOW).name == "bag_1"
        recorder.stop({})
    else:
        with pytest.raises(BagError, match="bag: already exists; name another folder"):
            recorder.start(NOW)
    assert [path.name for path in (tmp_path / "bag").iterdir()] == ["precious"]


def test_the_last_message_of_a_latched_topic_is_in_each_bag(
    tmp_path: Path, typestore: Typestore
) -> None:
    recorder = Recorder(options(tmp_path))
    recorder.announce(flag(typestore, "/goal"), latched=True)
    recorder.start(NOW)
    recorder.receive("/goal", FLAG, NOW + 1, NOW + 1)
    recorder.receive("/goal", FLAG, NOW + 2, NOW + 2)
    first = recorder.stop({}).path
    recorder.start(NOW + SECOND)
    second = recorder.stop({}).path
    assert contents(first) == [("/goal", 1), ("/goal", 2)]
    assert contents(second) == [("/goal", SECOND)]


def test_all_that_static_transforms_have_sent_is_in_each_bag(
    tmp_path: Path, typestore: Typestore, blank: Callable[[str], Any]
) -> None:
    """They come from several nodes, each of which sends once."""
    recorder = Recorder(options(tmp_path))
    recorder.announce(describe("/tf_static", TF, (), None, typestore), latched=True)
    pose = [0.0] * 6 + [1.0]
    camera, arm = (
        bytes(typestore.serialize_cdr(message(blank, [Sent("base", child, 0, pose)]), TF))
        for child in ("camera", "arm")
    )
    for data in (camera, arm, camera):
        recorder.receive("/tf_static", data, NOW, NOW)
    recorder.start(NOW + SECOND)
    bag = recorder.stop({}).path
    with Bag(bag) as opened:
        found = messages_of(opened, frozenset({"/tf_static"}))
    assert [each.message.transforms[0].child_frame_id for each in found] == ["arm", "camera"]


def test_labels_are_messages_and_are_listed(tmp_path: Path) -> None:
    recorder = Recorder(options(tmp_path))
    recorder.start(NOW)
    recorder.label("success", NOW + 5)
    recorder.label("Ölwechsel", NOW + 7)
    bag = recorder.stop({}).path
    with Bag(bag) as opened:
        texts = [m.message.data for m in messages_of(opened, frozenset({MARKERS}))]
    assert texts == ["success", "Ölwechsel"]
    assert contents(bag) == [(MARKERS, 5), (MARKERS, 7)]
    assert custom(bag, LABELS_KEY) == [
        {"label": "success", "log_time_ns": NOW + 5},
        {"label": "Ölwechsel", "log_time_ns": NOW + 7},
    ]


def test_labels_bear_the_simulated_time_like_everything_else(
    tmp_path: Path, typestore: Typestore
) -> None:
    recorder = Recorder(options(tmp_path), SimTimeOrder(latched=[MARKERS]))
    recorder.announce(flag(typestore), latched=False)
    recorder.start(NOW)
    recorder.receive("/flag", FLAG, NOW + 1, NOW + 1)  # before any clock
    for step in range(3):
        recorder.receive_clock(NOW + step * SECOND, NOW + 10 * step + 10)
        recorder.receive("/flag", FLAG, 0, NOW + 10 * step + 11)
    recorder.label("success", NOW + 25)
    finished = recorder.stop({})
    assert (finished.dropped, finished.unwritten) == (1, 0)
    assert contents(finished.path) == [
        ("/flag", 0),
        ("/flag", SECOND),
        (MARKERS, SECOND),
        ("/flag", 2 * SECOND),
    ]
    assert custom(finished.path, LABELS_KEY) == [{"label": "success", "log_time_ns": NOW + SECOND}]


def test_what_the_recorder_noted_is_told_to_who_reads_the_bag(
    tmp_path: Path, typestore: Typestore
) -> None:
    recorder = Recorder(options(tmp_path))
    recorder.announce(flag(typestore), latched=False)
    recorder.start(NOW)
    bag = recorder.stop({"/flag": 3, "/other": 0}, ["/flag is odd"]).path
    with Bag(bag) as opened:
        assert opened.notes == ("its recorder missed 3 messages of /flag", "/flag is odd")


@pytest.mark.parametrize(
    "text", ["", "no json", "[1]", "{}", '{"lost": 3, "remarks": 4}', "[" * 9999]
)
def test_a_foreign_note_in_a_bag_does_no_harm(text: str) -> None:
    assert list(recorders_notes({RECORDING_KEY: text})) == []


@pytest.mark.parametrize("max_file_bytes", [0, 200])
def test_each_type_of_a_topic_has_a_channel_of_its_own(
    tmp_path: Path, typestore: Typestore, max_file_bytes: int
) -> None:
    """In every file, and in rosbags' and MCAP's eyes too."""
    recorder = Recorder(replace(options(tmp_path), max_file_bytes=max_file_bytes))
    text = describe("/flag", "std_msgs/msg/String", (), None, typestore)
    recorder.announce(flag(typestore), latched=False)
    recorder.announce(replace(text, alias="/flag (text)"), latched=False)
    bag = recorder.start(NOW)
    message = typestore.types[text.msgtype](data="x" * 100)
    data = bytes(typestore.serialize_cdr(message, text.msgtype))
    for index in range(6):
        recorder.receive("/flag", FLAG, NOW + 2 * index, NOW)
        recorder.receive("/flag (text)", data, NOW + 2 * index + 1, NOW)
        recorder.advance(NOW + (index + 1) * SECOND)
    finished = recorder.stop({})
    assert finished.counts == {"/flag": 6, "/flag (text)": 6}
    assert (len(list(bag.glob("*.mcap"))) > 1) == bool(max_file_bytes)
    assert contents(bag) == [("/flag", index) for index in range(12)]
    with AnyReader([bag]) as reader:
        counts = {each.msgtype: each.msgcount for each in reader.connections}
        kinds = [each.msgtype for each, _, _ in reader.messages()]
    assert counts == {"std_msgs/msg/Bool": 6, "std_msgs/msg/String": 6}
    assert kinds == ["std_msgs/msg/Bool", "std_msgs/msg/String"] * 6
    with Bag(bag) as opened:
        opened.require_topic("/flag", "std_msgs/msg/Bool", "stop", may_be_silent=False)
        opened.require_topic("/flag", "std_msgs/msg/String", "stop", may_be_silent=False)
        with pytest.raises(
            BagError, match="of type std_msgs/msg/Bool and std_msgs/msg/String, in"
        ):
            opened.require_topic("/flag", "std_msgs/msg/Int8", "stop", may_be_silent=False)


def test_what_cannot_be_done_now_is_refused(tmp_path: Path) -> None:
    recorder = Recorder(options(tmp_path))
    with pytest.raises(BagError, match="nothing is being recorded"):
        recorder.stop({})
    with pytest.raises(BagError, match="'success' labels nothing: nothing is being recorded"):
        recorder.label("success", NOW)
    recorder.start(NOW)
    with pytest.raises(BagError, match=r"already recording into .*bag; stop that first"):
        recorder.start(NOW)
    recorder.stop({})


def test_a_nearly_full_disk_ends_the_recording_in_good_order(
    tmp_path: Path, typestore: Typestore
) -> None:
    recorder = Recorder(options(tmp_path, min_free_bytes=1 << 62))
    recorder.announce(flag(typestore), latched=False)
    recorder.start(NOW)
    recorder.receive("/flag", FLAG, NOW, NOW)
    recorder.advance(NOW)
    assert not recorder.is_recording
    recorder.receive("/flag", FLAG, NOW, NOW)
    finished = recorder.stop({})
    assert "MB left, under the limit of" in finished.error
    assert (finished.counts, finished.unwritten) == ({"/flag": 1}, 1)
    assert contents(finished.path) == [("/flag", 0)]
    told = custom(finished.path, RECORDING_KEY)
    assert isinstance(told, dict)
    assert (told["error"], told["unwritten"]) == (finished.error, 1)
    with pytest.raises(BagError, match="nothing is being recorded"):
        recorder.label("success", NOW)


def test_what_came_is_on_the_disk_after_a_while(tmp_path: Path, typestore: Typestore) -> None:
    recorder = Recorder(options(tmp_path))
    recorder.announce(flag(typestore), latched=False)
    recorder.start(NOW)
    recorder.advance(NOW)
    before = recorder.size_bytes
    recorder.receive("/flag", FLAG, NOW, NOW)
    recorder.advance(NOW + SECOND // 2)
    assert recorder.size_bytes == before
    recorder.advance(NOW + SECOND)
    assert recorder.size_bytes > before
    recorder.stop({})
