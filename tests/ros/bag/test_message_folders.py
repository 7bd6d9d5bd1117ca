"""Definitions that a bag leaves out come from the user's folders."""

import sqlite3
import struct
from pathlib import Path

import pytest

from dql_core.errors import BagError, ConfigError
from dql_ros.bag.reader import Bag, unreadable_remarks
from dql_ros.bag.storage.definitions import Definitions
from dql_ros.bag.storage.message_folders import MessageFolders
from dql_ros.bag.storage.storage import Channel, Definition
from tests.cli_process import dql
from tests.ros.bag.bag_files import FLOAT, SECOND, ramp, write_sqlite
from tests.ros.bag.messages import messages_of

STATE = "px4_msgs/msg/State"
INNER = "float32 level\n"
TEXT = "uint64 timestamp\nuint8 KIND_A = 1\nInner inner\nfloat64 x\n"
IDL = """#include "px4_msgs/msg/Inner.idl"
module px4_msgs { module msg { struct State {
  uint64 timestamp; px4_msgs::msg::Inner inner; double x;
}; }; };
"""
INNER_IDL = "module px4_msgs { module msg { struct Inner { float level; }; }; };"


def payload(value: float) -> bytes:
    return b"\0\1\0\0" + struct.pack("<Qf4xd", 7, 0.5, value)


def bag_of(folder: Path, msgtype: str = STATE) -> Path:
    """A sqlite bag of two topics, whose types it does not define, as up to Humble."""
    path = write_sqlite(folder / "x.db3", ramp(40, period_ns=SECOND // 20), payload=payload)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE topics SET type = ?", (msgtype,))
    return path


def package(root: Path, suffix: str = ".msg", kind: str = "msg") -> Path:
    """A folder of definitions, of a package whose folder is called otherwise."""
    folder = root / "px4-main" / kind
    folder.mkdir(parents=True)
    (folder.parent / "package.xml").write_text("<package><name>px4_msgs</name></package>")
    (folder / f"State{suffix}").write_text(TEXT if suffix == ".msg" else IDL)
    (folder / f"Inner{suffix}").write_text(INNER if suffix == ".msg" else INNER_IDL)
    return folder


@pytest.mark.parametrize("suffix", [".msg", ".idl"])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_package_may_be_named_at_any_level(tmp_path: Path, suffix: str, level: int) -> None:
    folder = [package(tmp_path, suffix), tmp_path / "px4-main", tmp_path][level]
    path = bag_of(tmp_path)
    with Bag(path) as bag:
        assert set(bag.unreadable) == {"/a", "/b"}
        with pytest.raises(BagError, match=f"packages define {STATE}; name a folder .* --msgs"):
            bag.typestore("/a")
    with Bag(path, msgs=[folder]) as bag:
        assert not bag.unreadable
        found = messages_of(bag, frozenset({"/a"}))
    assert [each.message.x for each in found] == [float(index) for index in range(0, 40, 2)]
    assert {each.message.inner.level for each in found} == {0.5}


def test_without_a_package_file_the_folders_name_counts(tmp_path: Path) -> None:
    folder = tmp_path / "share" / "px4_msgs" / "msg"
    folder.mkdir(parents=True)
    (folder / "State.msg").write_text(TEXT)
    (folder / "Inner.msg").write_text(INNER)
    (folder / "Inner.idl").write_text(INNER_IDL)
    (folder / "._State.msg").write_bytes(b"\0\5\x16\7")
    with Bag(bag_of(tmp_path), msgs=[tmp_path / "share"]) as bag:
        assert len(messages_of(bag, frozenset({"/b"}))) == 20


def test_a_folder_counts_more_than_the_distribution_and_less_than_the_bag(tmp_path: Path) -> None:
    folder = tmp_path / "std_msgs" / "msg"
    folder.mkdir(parents=True)
    (folder / "Float64.msg").write_text("float32 low\nfloat32 high")
    for form, names in (("ros2msg", ["data"]), ("", ["low", "high"])):
        definition = Definition(form, "float64 data" if form else "")
        found = Definitions("humble", folders=MessageFolders([folder])).typestore(
            [Channel("/x", FLOAT, "cdr", definition)]
        )
        assert [name for name, _ in found.fielddefs[FLOAT][1]] == names


@pytest.mark.parametrize(
    ("name", "words"),
    [("none", "is no folder of message definitions"), ("empty", "has no .msg or .idl file")],
)
def test_a_folder_without_definitions_is_named(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=f"{name}: {words}"):
        Bag(bag_of(tmp_path), msgs=[tmp_path / name])


def test_a_definition_of_the_users_that_is_none_is_named_with_its_file(tmp_path: Path) -> None:
    folder = package(tmp_path)
    (folder / "Inner.msg").write_text("float32")
    with (
        Bag(bag_of(tmp_path), msgs=[folder]) as bag,
        pytest.raises(BagError, match=r"/Inner\.msg is no definition \(its line 1 is no field"),
    ):
        bag.typestore("/a")


CONTRACT = f"""
robot: r
rate_hz: 10
observation: [{{topic: /a, type: {STATE}, stamp: receive, fields: [{{path: x}}]}}]
action: [{{topic: /b, type: {STATE}, fields: [{{path: x, names: [u], low: 0, high: 100}}]}}]
"""


def test_every_verb_that_reads_bags_takes_them(tmp_path: Path) -> None:
    pytest.importorskip("minari", reason="contract and convert need the extra 'convert'")
    folder, path = package(tmp_path), bag_of(tmp_path)
    contract = tmp_path / "c.yaml"
    contract.write_text(CONTRACT)
    verbs = {
        ("inspect", path): "State",
        ("contract", "check", contract, path): "fits: 1 episode",
        ("convert", contract, path, "--out", tmp_path / "out", "--dry-run"): "1 episode",
    }
    for arguments, words in verbs.items():
        without = dql(*arguments)
        assert "name a folder" in without.stdout + without.stderr
        found = dql(*arguments, "--msgs", folder)
        assert (found.returncode, found.stderr) == (0, "")
        assert words in found.stdout
        assert "name a folder" not in found.stdout
        wrong = dql(*arguments, "--msgs", tmp_path / "none")
        assert wrong.returncode == 2
        assert "none: is no folder of message definitions" in wrong.stdout + wrong.stderr
    draft = tmp_path / "d.yaml"
    dql("contract", "init", path, "--out", draft, "--msgs", folder)
    assert STATE in draft.read_text()


def test_of_a_package_there_is_one_remark() -> None:
    message = "neither the bag nor ROS's standard packages define {}; name a folder that has its "
    message += "package's .msg files, with --msgs"
    types = [f"px4_msgs/msg/T{index}" for index in range(37)]
    topics = [(f"/t{index}", name, 3, message.format(name)) for index, name in enumerate(types)]
    topics.append(("/json", "thing", 2, "it is serialised as 'json'"))
    json_, px4 = unreadable_remarks(topics)
    assert json_ == "/json: its 2 messages cannot be decoded: it is serialised as 'json'"
    assert px4 == (
        "px4_msgs: nobody defines its T0, T1, T10, T11 and 33 more, so that 111 messages on /t0, "
        "/t1, /t2, /t3 and 33 more cannot be decoded; name a folder that has the package's .msg "
        "files, with --msgs"
    )
