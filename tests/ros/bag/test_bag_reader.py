import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys.store import Typestore

from dql_core.documents import file_sha256
from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from dql_ros.bag.storage.reading import read_ahead
from dql_ros.bag.storage.storage import ChannelBlocks, Segment
from tests.ros.bag.messages import messages_of
from tests.ros.bag.sample_writer import SampleWriter

FLOAT = "std_msgs/msg/Float64"


@pytest.fixture
def bag(tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path]) -> Path:
    messages = []
    for index in range(200):
        number = blank(FLOAT)
        number.data = index / 7
        messages.append(("/a" if index % 2 else "/b", FLOAT, 10**18 + index, number))
    return record(tmp_path / "run", messages, silent={"/silent": "std_msgs/msg/Bool"})


def read_all(path: Path) -> list[float]:
    with Bag(path) as opened:
        return [message.message.data for message in messages_of(opened, frozenset(opened.topics))]


def test_messages_come_in_order_with_their_times(bag: Path) -> None:
    with Bag(bag) as opened:
        assert opened.message_count == 200
        assert {topic.name: topic.count for topic in opened.topics.values()} == {
            "/a": 100,
            "/b": 100,
            "/silent": 0,
        }
        messages = list(messages_of(opened, frozenset({"/a", "/b"})))
    assert [message.log_time_ns for message in messages] == [10**18 + i for i in range(200)]
    assert [message.message.data for message in messages] == [i / 7 for i in range(200)]
    assert read_all(bag / "run_0.mcap") == read_all(bag)


def test_only_the_wanted_topics_are_read(bag: Path) -> None:
    with Bag(bag) as opened:
        assert {message.topic for message in messages_of(opened, frozenset({"/b"}))} == {"/b"}
        assert list(messages_of(opened, frozenset({"/silent"}))) == []
        assert list(messages_of(opened, frozenset())) == []


def test_definition_inside_the_bag_counts(tmp_path: Path) -> None:
    with SampleWriter(tmp_path / "own") as writer:
        writer.add_topic("/pose", "my_robot/msg/Pose", definition="float32 x\nbool on")
        writer.write("/pose", b"\0\1\0\0" + b"\0\0\x80\x3f" + b"\1", 5)
    with Bag(tmp_path / "own") as opened:
        (message,) = messages_of(opened, frozenset({"/pose"}))
    assert (message.message.x, message.message.on) == (1.0, True)


def test_sqlite_bags_are_read_with_the_standard_types(
    tmp_path: Path, typestore: Typestore, blank: Callable[[str], Any]
) -> None:
    with Writer(tmp_path / "lite", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        known = writer.add_connection("/x", FLOAT, typestore=typestore)
        unknown = writer.add_connection("/y", "a/msg/B", msgdef="int8 i", rihs01="RIHS01_0")
        writer.write(known, 7, typestore.serialize_cdr(blank(FLOAT), FLOAT))
        writer.write(unknown, 8, b"\0\1\0\0\0")
    with Bag(tmp_path / "lite") as opened:
        assert [m.log_time_ns for m in messages_of(opened, frozenset({"/x"}))] == [7]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda run: run.parent / "rum", r"rum: no such bag \(did you mean '.*/run'\?\)"),
        (lambda run: run / "metadata.yaml", r"metadata.yaml: not a bag; name a rosbag2 folder or"),
        (lambda run: (run / "x.mcap", (run / "x.mcap").touch())[0], r"x.mcap: is empty"),
        (
            lambda run: run.parent,
            r"has no metadata.yaml: it is no rosbag2 folder.*; it holds bags, name them: \S+/run$",
        ),
        (
            lambda run: ((run / "metadata.yaml").write_text("a: ["), run)[1],
            r"run: cannot be read: metadata.yaml is no valid yaml: .*; remove metadata.yaml to",
        ),
        (
            lambda run: ((run / "run_0.mcap").unlink(), run)[1],
            r"run: cannot be read: run_0.mcap, which metadata.yaml names, is missing",
        ),
    ],
)
def test_what_is_no_bag_is_one_clear_error(
    bag: Path, make: Callable[[Path], Path], error: str
) -> None:
    with pytest.raises(BagError, match=error) as raised:
        Bag(make(bag))
    assert "\n" not in str(raised.value)


def test_every_truncation_is_an_error(bag: Path) -> None:
    storage = bag / "run_0.mcap"
    whole = storage.read_bytes()
    for length in range(1, len(whole), len(whole) // 40):
        storage.write_bytes(whole[:length])
        with pytest.raises(BagError, match="cannot be read"):
            read_all(storage)


def test_a_flipped_bit_in_the_messages_is_an_error(bag: Path) -> None:
    storage = bag / "run_0.mcap"
    data = bytearray(storage.read_bytes())
    data[data.find(b"zstd") + 500] ^= 4
    storage.write_bytes(data)
    with pytest.raises(BagError, match=r"run: cannot be read: run_0.mcap: .*; the bag is damaged"):
        read_all(bag)


def test_messages_that_the_bag_announces_but_does_not_have_are_missed(bag: Path) -> None:
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("message_count: 100", "message_count: 101"))
    with pytest.raises(BagError, match=r"/[ab] has 101 messages by metadata.yaml, but 100 could"):
        read_all(bag)


def test_message_that_is_cut_short_is_named(tmp_path: Path) -> None:
    with SampleWriter(tmp_path / "cut") as writer:
        writer.add_topic("/x", FLOAT)
        writer.write("/x", b"\0\1\0\0\0\0\0", 1)
    with pytest.raises(BagError, match="a message of /x is no std_msgs/msg/Float64"):
        read_all(tmp_path / "cut")


def test_needed_topics_must_be_there_with_their_type_and_messages(bag: Path) -> None:
    with Bag(bag) as opened:
        opened.require_topic("/a", FLOAT, "observation", may_be_silent=False)
        opened.require_topic("/silent", "std_msgs/msg/Bool", "flag", may_be_silent=True)
        with pytest.raises(
            BagError,
            match=r"run: no topic /silence, which .* as flag \(did you mean '/silent'\?\)",
        ):
            opened.require_topic("/silence", FLOAT, "flag", may_be_silent=True)
        with pytest.raises(BagError, match=r"/a is of type std_msgs/msg/Float64, in the contract"):
            opened.require_topic("/a", "std_msgs/msg/Bool", "flag", may_be_silent=False)
        with pytest.raises(BagError, match=r"/silent, .* as the action, has no message"):
            opened.require_topic("/silent", "std_msgs/msg/Bool", "the action", may_be_silent=False)


def test_custom_data_comes_back(tmp_path: Path) -> None:
    with SampleWriter(tmp_path / "b", contract_text="robot: x\n") as writer:
        writer.custom_data["a"] = "b"
    for path in (tmp_path / "b", tmp_path / "b" / "b_0.mcap"):
        with Bag(path) as opened:
            assert opened.custom_data == {"a": "b", "dql_contract": "robot: x\n"}


def test_hash_is_of_the_files_content(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 10**6)
    assert file_sha256(tmp_path / "x") == hashlib.sha256(b"abc" * 10**6).hexdigest()


def test_temporary_copies_are_gone_when_the_bag_is_closed(
    bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    storage = bag / "run_0.mcap"
    compressed = zstandard.ZstdCompressor().compress(storage.read_bytes())
    (bag / "run_0.mcap.zstd").write_bytes(compressed)
    storage.unlink()
    with Bag(bag) as opened:
        assert len(list(folder.iterdir())) == 1
        assert opened.size_bytes == len(compressed)
        assert sum(1 for _ in messages_of(opened, frozenset({"/a", "/b"}))) == 200
    assert list(folder.iterdir()) == []


def test_reading_may_be_left_and_begun_again(bag: Path) -> None:
    with Bag(bag) as opened:
        for batch in opened.batches(frozenset({"/a"})):
            assert {block.topic for block in batch.blocks} == {"/a"}
            break
        assert sum(1 for _ in messages_of(opened, frozenset({"/a"}))) == 100


def test_types_come_from_the_bag_or_from_the_distribution(bag: Path) -> None:
    with Bag(bag) as opened:
        assert set(opened.typestore("/a").fielddefs) >= {FLOAT}
        assert opened.unknown_types == ()
        assert opened.typestore("/a") is opened.typestore("/b")


def test_a_reading_that_is_given_up_waits_for_no_thread() -> None:
    """Python may close it in a thread that is being started, which must not wait for another."""
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[ChannelBlocks]:
        begun.set()
        go_on.wait(60)
        yield from ()

    segments = [
        Segment(0, 1, None, lambda: iter(()), "first", is_small=True),
        Segment(1, 1, None, slow, "second", is_small=True),
    ]
    ahead = read_ahead(segments)
    next(ahead)
    assert begun.wait(60)
    closing = threading.Thread(target=ahead.close, daemon=True)
    closing.start()
    closing.join(20)
    assert not closing.is_alive()
    go_on.set()
