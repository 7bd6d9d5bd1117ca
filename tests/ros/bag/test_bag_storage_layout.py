import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag, is_storage
from tests.ros.bag.bag_files import (
    FLOAT,
    Sent,
    in_order,
    ramp,
    read,
    read_blocks,
    write_mcap,
    write_metadata,
    write_sqlite,
)

WRITERS: dict[str, Callable[[Path, list[Sent]], Path]] = {
    ".mcap": write_mcap,
    ".db3": write_sqlite,
}


def split(folder: Path, messages: list[Sent], parts: int, suffix: str = ".mcap") -> list[str]:
    """Write a bag in several files and return their names."""
    folder.mkdir()
    length = -(-len(messages) // parts)
    names = []
    for part in range(parts):
        name = f"run_{part}{suffix}"
        WRITERS[suffix](folder / name, messages[part * length : (part + 1) * length])
        names.append(name)
    return names


def compress(file: Path) -> None:
    file.with_name(file.name + ".zstd").write_bytes(
        zstandard.ZstdCompressor().compress(file.read_bytes())
    )
    file.unlink()


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("version", [4, 5, 6, 7, 8, 9])
def test_split_files_of_all_versions_of_the_metadata(
    tmp_path: Path, suffix: str, version: int
) -> None:
    messages = ramp(120)
    names = split(tmp_path / "run", messages, 12, suffix)
    write_metadata(tmp_path / "run", messages, [f"run/{name}" for name in names], version=version)
    assert read(tmp_path / "run") == in_order(read_blocks(tmp_path / "run")) == messages
    with Bag(tmp_path / "run") as bag:
        assert [file.name for file in bag.files] == names
        assert bag.notes == () == bag.losses


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(
        st.tuples(st.sampled_from(["/a", "/b"]), st.integers(0, 40)), min_size=1, max_size=60
    ),
    parts=st.integers(1, 12),
    suffix=st.sampled_from(sorted(WRITERS)),
)
def test_splitting_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[tuple[str, int]],
    parts: int,
    suffix: str,
) -> None:
    messages = [Sent(topic, time, float(index)) for index, (topic, time) in enumerate(values)]
    whole, folder = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("split") / "run"
    split(folder, messages, parts, suffix)
    single = WRITERS[suffix](whole / f"x{suffix}", messages)
    assert sorted(read_blocks(folder)) == sorted(read_blocks(single))
    assert [sent[:2] for sent in read(folder)] == [
        sent[:2] for sent in sorted(messages, key=lambda sent: sent.time_ns)
    ] or sorted(read(folder)) == sorted(messages)


def test_files_that_overlap_in_time_are_merged(tmp_path: Path) -> None:
    messages = ramp(300)
    shuffled = list(messages)
    random.Random(1).shuffle(shuffled)
    for suffix in WRITERS:
        split(tmp_path / suffix, shuffled, 3, suffix)
        assert read(tmp_path / suffix) == messages


@pytest.mark.parametrize("suffix", WRITERS)
def test_compressed_files_alone_and_in_a_folder(tmp_path: Path, suffix: str) -> None:
    messages = ramp(40)
    names = split(tmp_path / "run", messages, 2, suffix)
    for name in names:
        compress(tmp_path / "run" / name)
    write_metadata(
        tmp_path / "run",
        messages,
        [f"{name}.zstd" for name in names],
        compression_format="zstd",
        compression_mode="FILE",
    )
    assert read(tmp_path / "run") == messages
    assert read(tmp_path / "run" / f"run_1{suffix}.zstd") == messages[20:]
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == sorted(
        ["metadata.yaml", *(f"{name}.zstd" for name in names)]
    )
    write_metadata(tmp_path / "run", messages, names)
    assert read(tmp_path / "run") == messages


def test_folder_without_metadata_is_read_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    messages = ramp(110)
    names = split(tmp_path / "run", messages, 11)
    assert read(tmp_path / "run") == messages
    with Bag(tmp_path / "run") as bag:
        assert [file.name for file in bag.files] == names
        assert bag.notes == (
            "has no metadata.yaml; read are the files that are there: " + ", ".join(names),
        )
    write_mcap(tmp_path / "run" / "other_0.mcap", messages)
    with pytest.raises(BagError, match=r"no metadata.yaml and files of 2 recordings \(other_0"):
        Bag(tmp_path / "run")


@pytest.mark.parametrize("suffix", WRITERS)
def test_what_macos_puts_beside_each_file_is_no_file_of_the_bag(
    tmp_path: Path, suffix: str
) -> None:
    messages = ramp(40)
    folder = tmp_path / "run"
    names = split(folder, messages, 2, suffix)
    for name in (*names, "metadata.yaml"):
        (folder / f"._{name}").write_bytes(bytes.fromhex("0005160700020000") + bytes(56))
    assert read(folder) == messages
    write_metadata(folder, messages, names)
    with Bag(folder) as bag:
        assert bag.notes == ()
    assert read(folder, salvage=True) == messages
    with pytest.raises(BagError, match="not a bag, but what macOS keeps beside one; leave it out"):
        Bag(folder / f"._{names[0]}")


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("salvage", [False, True])
def test_metadata_that_were_written_too_soon_count_for_nothing(
    tmp_path: Path, suffix: str, salvage: bool
) -> None:
    messages = ramp(40)
    folder = tmp_path / "run"
    names = split(folder, messages, 1, suffix)
    cases = {
        "0 of 20 of /a, 0 of 20 of /b": [("/a", 0), ("/b", 0)],
        "0 of 20 of /b": [("/a", 20)],  # left out
        "7 of 20 of /a": [("/a", 7), ("/b", 20)],
    }
    for words, counts in cases.items():
        topics = [{"topic_metadata": metadata_of(name), "message_count": n} for name, n in counts]
        write_metadata(folder, messages, names, topics_with_message_count=topics)
        assert read(folder, salvage=salvage, topics={"/a", "/b"}) == messages
        with Bag(folder, salvage=salvage) as bag:
            assert bag.topics["/b"].count == 20
            bag.require_topic("/b", FLOAT, "action", may_be_silent=False)
            list(bag.batches(frozenset(bag.topics)))
            assert bag.losses == ()
            assert bag.notes == (f"metadata.yaml counts fewer messages than there are: {words}",)


def metadata_of(topic: str) -> dict[str, str]:
    """What metadata.yaml has of a topic."""
    form = {"serialization_format": "cdr", "offered_qos_profiles": ""}
    return {"name": topic, "type": FLOAT, **form}


def test_topics_without_a_leading_slash_are_those_with_one(tmp_path: Path) -> None:
    plain = ramp(30, ("state", "arm/cmd"))
    expected = [sent._replace(topic=f"/{sent.topic}") for sent in plain]
    for suffix, write in WRITERS.items():
        (tmp_path / suffix).mkdir()
        write(tmp_path / suffix / f"run_0{suffix}", plain)
        assert read(tmp_path / suffix) == expected
        write_metadata(tmp_path / suffix, plain, [f"run_0{suffix}"])
        assert read(tmp_path / suffix) == expected
        with Bag(tmp_path / suffix) as bag:
            assert {name: topic.count for name, topic in bag.topics.items()} == {
                "/state": 15,
                "/arm/cmd": 15,
            }
            assert bag.notes == ()


def test_metadata_that_names_other_files(tmp_path: Path) -> None:
    messages = ramp(40)
    names = split(tmp_path / "run", messages, 2)
    write_metadata(tmp_path / "run", messages, ["before_0.mcap", "before_1.mcap"])
    assert read(tmp_path / "run") == messages
    with Bag(tmp_path / "run") as bag:
        (note,) = bag.notes
    assert note == (
        "metadata.yaml names other files (before_0.mcap, before_1.mcap); read are those that are "
        "there: run_0.mcap, run_1.mcap"
    )
    write_metadata(tmp_path / "run", messages[:20], names[:1])
    assert read(tmp_path / "run") == messages[:20]
    with Bag(tmp_path / "run") as bag:
        assert bag.notes == ("run_1.mcap not read, which metadata.yaml does not name",)


@pytest.mark.parametrize("salvage", [False, True])
@pytest.mark.parametrize("more", [{}, {"relative_file_paths": None}])
@pytest.mark.parametrize("is_counted", [True, False])
def test_metadata_that_names_no_file(
    tmp_path: Path, more: dict[str, None], is_counted: bool, salvage: bool
) -> None:
    messages = ramp(40)
    split(tmp_path / "run", messages, 2)
    write_metadata(tmp_path / "run", messages if is_counted else [], [], **more)
    assert read(tmp_path / "run", salvage=salvage) == messages
    with Bag(tmp_path / "run", salvage=salvage) as bag:
        assert bag.notes[0] == (
            "metadata.yaml names no file; read are those that are there: run_0.mcap, run_1.mcap"
        )
        assert bag.losses == ()


def test_metadata_that_names_its_files_only_one_by_one(tmp_path: Path) -> None:
    messages = ramp(40)
    names = split(tmp_path / "run", messages, 2)
    entries = [{"path": f"run/{name}", "message_count": 20} for name in names]
    write_metadata(tmp_path / "run", messages, [], files=entries)
    assert read(tmp_path / "run") == messages
    with Bag(tmp_path / "run") as bag:
        assert bag.notes == ()


def test_files_of_two_recordings_that_nobody_names_are_not_mixed(tmp_path: Path) -> None:
    messages = ramp(40)
    (name,) = split(tmp_path / "run", messages, 1)
    (tmp_path / "run" / "walk_0.mcap").write_bytes((tmp_path / "run" / name).read_bytes())
    for named, why in (([], "names no file"), (["x.mcap"], r"names other files \(x.mcap\)")):
        write_metadata(tmp_path / "run", messages, named)
        files = r"there are files of 2 recordings \(run_0.mcap, walk_0.mcap\); name one of them"
        with pytest.raises(BagError, match=f"metadata.yaml {why}, and {files}"):
            Bag(tmp_path / "run")


def test_metadata_without_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for named in ([], ["run_0.mcap"]):
        write_metadata(tmp_path / "run", ramp(4), named)
        why = "run_0.mcap, which .* is missing" if named else "there is no file of a recording"
        with pytest.raises(BagError, match=rf"cannot be read: {why}.*; put it into the folder"):
            Bag(tmp_path / "run", salvage=True)


def test_what_a_file_lacks_that_is_not_named_is_not_called_damage_alone(tmp_path: Path) -> None:
    messages = ramp(40)
    names = split(tmp_path / "run", messages, 2)
    write_metadata(tmp_path / "run", messages, names[:1])
    why = r"20 could be read|10 could be read"
    remedy = (
        r"not of run_1.mcap, which .* does not name.*; to read all files, remove metadata.yaml"
    )
    with pytest.raises(BagError, match=rf"(?:{why}).*{remedy}$"):
        read(tmp_path / "run")
    (tmp_path / "run" / "metadata.yaml").unlink()
    assert read(tmp_path / "run") == messages


def test_missing_file_is_an_error_or_a_loss(tmp_path: Path) -> None:
    messages = ramp(40)
    names = split(tmp_path / "run", messages, 4)
    write_metadata(tmp_path / "run", messages, names)
    (tmp_path / "run" / names[1]).unlink()
    named = r"run_1.mcap, which metadata.yaml names, is missing; .* --salvage reads the files that"
    with pytest.raises(BagError, match=named):
        Bag(tmp_path / "run")
    assert read(tmp_path / "run", salvage=True) == messages[:10] + messages[20:]
    with Bag(tmp_path / "run", salvage=True) as bag:
        list(bag.batches(frozenset(bag.topics)))
        (loss,) = bag.losses
    assert (loss.file, loss.reason, loss.messages) == ("run_1.mcap", "is missing", 10)


BAD_METADATA = {
    "a: [": r"metadata.yaml is no valid yaml",
    "- 1": r"metadata.yaml: its content is a list, not a mapping",
    "[" * 1200: r"metadata.yaml is no valid yaml: is nested more than 64",
    "rosbag2_bagfile_information: {version: x}": r"version is 'x', not a count",
    "rosbag2_bagfile_information: {relative_file_paths: 3}": r"_paths is a int, not a list",
    "rosbag2_bagfile_information: {topics_with_message_count: [1]}": r"a topic is a int",
    "!!python/object/apply:os.system [ls]": r"metadata.yaml is no valid yaml: could not determ",
}


@pytest.mark.parametrize(("text", "error"), BAD_METADATA.items(), ids=range(len(BAD_METADATA)))
def test_bad_metadata_is_one_clear_error(tmp_path: Path, text: str, error: str) -> None:
    messages = ramp(10)
    split(tmp_path / "run", messages, 1)
    (tmp_path / "run" / "metadata.yaml").write_text(text)
    with pytest.raises(BagError, match=error) as raised:
        Bag(tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert read(tmp_path / "run", salvage=True) == messages
    with Bag(tmp_path / "run", salvage=True) as bag:
        assert bag.notes[0].startswith("metadata.yaml was passed over: ")


def test_file_is_what_it_begins_as_whatever_its_name(tmp_path: Path) -> None:
    messages = ramp(10)
    write_sqlite(tmp_path / "x.mcap", messages)
    assert read(tmp_path / "x.mcap") == messages
    write_mcap(tmp_path / "x.bag", messages, compression=CompressionType.LZ4)
    assert read(tmp_path / "x.bag") == messages


def test_names_of_bags() -> None:
    names = ["a.mcap", "a.db3", "a.bag", "a.mcap.zstd", "a.db3.zstd", "a.zstd", "a.yaml", "mcap"]
    assert [is_storage(Path(name)) for name in names] == [True] * 5 + [False] * 3
