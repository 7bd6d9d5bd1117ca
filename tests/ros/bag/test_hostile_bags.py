"""Bags of somebody who wants to run code, read or delete other files, or fill the memory."""

import os
import shutil
import sqlite3
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mcap.writer import Writer

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from dql_ros.bag.storage.definition_text import types_from_idl, types_from_msg
from dql_ros.bag.storage.storage import DamageError
from tests.ros.bag.bag_files import FLOAT, SECOND, cdr, ramp, read, write_mcap, write_sqlite
from tests.ros.bag.messages import messages_of

MESSAGES = ramp(20)
END_OF_JOURNAL = bytes.fromhex("d9d505f920a163d7")


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


@pytest.mark.parametrize("make", [os.mkfifo, link_to("/dev/zero"), link_to("../real.mcap")])
def test_only_files_of_the_folder_itself_are_read(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    (tmp_path / "run").mkdir()
    real = write_mcap(tmp_path / "real.mcap", MESSAGES)
    make(tmp_path / "run/run_0.mcap")
    with pytest.raises(BagError, match=r"run_0.mcap: is a .*; only regular files in folders"):
        Bag(tmp_path / "run")
    (tmp_path / "by_link.mcap").symlink_to(real)  # which the user names
    assert read(tmp_path / "by_link.mcap") == MESSAGES


@pytest.mark.parametrize("make", [link_to("/etc/passwd"), link_to("/dev/zero")])
def test_metadata_that_are_a_link_are_not_read(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    (tmp_path / "run").mkdir()
    write_mcap(tmp_path / "run/run_0.mcap", MESSAGES)
    make(tmp_path / "run/metadata.yaml")
    if (tmp_path / "run/metadata.yaml").is_file():
        with pytest.raises(
            BagError, match=r"is a link; only regular files .* remove metadata.yaml"
        ):
            Bag(tmp_path / "run")
    assert read(tmp_path / "run", salvage=True) == MESSAGES


def with_metadata(folder: Path, text: str) -> Path:
    folder.mkdir()
    write_mcap(folder / "run_0.mcap", MESSAGES)
    (folder / "metadata.yaml").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "a0: &a0 {k: 1}\n"
            + "".join(
                f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 30)
            ),
            "expands to more than 300,000 values",
        ),
        ("a: &a [*a]", "contains itself"),
        ("[" + "1," * 4_000_000, "expands to more than 300,000 values"),
        ("a: " + "9" * 5000, "has a number of 5000 characters"),
        ("x" * ((1 << 24) + 1), "is larger than 16,777,216 bytes"),
    ],
    ids=lambda value: value[:20],
)
def test_metadata_that_stand_for_too_much_are_soon_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    # As soon as what is just within the limit; how long that takes hangs on what runs beside it.
    within = with_metadata(tmp_path / "within", "[" + "1," * 290_000 + "1]")
    usual_s, _ = refusal(within, ".")
    taken_s, told = refusal(with_metadata(tmp_path / "run", text), words)
    assert taken_s < 3 * usual_s
    assert "\n" not in told


def refusal(bag: Path, words: str) -> tuple[float, str]:
    """Return how long it takes of computing to refuse a bag, and what is said."""
    before = time.process_time()
    with pytest.raises(BagError, match=words) as caught:
        Bag(bag)
    return time.process_time() - before, str(caught.value)


def test_a_key_that_metadata_have_twice_is_told(tmp_path: Path) -> None:
    text = "rosbag2_bagfile_information:\n  version: 9\n  relative_file_paths: [run_0.mcap]\n"
    bag = with_metadata(tmp_path / "run", text + "  version: 8\n  version: 5\n")
    with Bag(bag, salvage=True) as opened:
        assert opened.notes == (
            "metadata.yaml: key 'version' appears twice, in line 2 and in line 4, and 1 more: the "
            "last one counts",
        )


def crashed(path: Path) -> Path:
    """A sqlite bag whose recorder was killed in a transaction."""
    live = write_sqlite(path.with_suffix(".live"), MESSAGES)
    connection = sqlite3.connect(live, isolation_level=None)
    connection.execute("PRAGMA cache_size=1")
    connection.execute("BEGIN IMMEDIATE")
    for index in range(2000):
        row = (1, SECOND * 9 + index, cdr(0.0) + bytes(500))
        connection.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", row)
    for end in ("", "-journal"):
        shutil.copy(f"{live}{end}", f"{path}{end}")
    connection.close()
    return path


def test_a_journal_makes_sqlite_delete_no_other_file(tmp_path: Path) -> None:
    bag, victim = crashed(tmp_path / "x.db3"), tmp_path / "victim"
    assert read(bag, salvage=True) == MESSAGES
    victim.write_text("precious")
    name = str(victim).encode()
    page = struct.pack(">I", 0x40000000 // 4096 + 1)
    end = struct.pack(">II", len(name), sum(name)) + END_OF_JOURNAL
    with (tmp_path / "x.db3-journal").open("ab") as journal:
        journal.write(page + name + end)
    for salvage in (False, True):
        with pytest.raises(BagError, match=r"a journal .* that names another file to delete"):
            Bag(bag, salvage=salvage)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("end", ["-wal", "-journal"])
def test_side_files_that_are_links_are_not_followed(tmp_path: Path, end: str) -> None:
    bag = write_sqlite(tmp_path / "x.db3", MESSAGES)
    (tmp_path / f"x.db3{end}").symlink_to("/dev/zero")
    with pytest.raises(BagError, match=f"has a x.db3{end} that is a link"):
        Bag(bag)


FOREIGN_TABLES = {
    "generated": "CREATE TABLE messages(id INTEGER, topic_id INTEGER, timestamp INTEGER, "
    "data BLOB GENERATED ALWAYS AS (zeroblob(1000000000)) VIRTUAL)",
    "virtual": "CREATE VIRTUAL TABLE messages USING fts5(id, topic_id, timestamp, data)",
}


@pytest.mark.parametrize("kind", FOREIGN_TABLES)
def test_tables_whose_rows_are_made_out_of_nothing_are_refused(tmp_path: Path, kind: str) -> None:
    bag = write_sqlite(tmp_path / "x.db3", MESSAGES)
    with sqlite3.connect(bag) as connection:
        connection.execute("DROP TABLE messages")
        connection.execute(FOREIGN_TABLES[kind])
    with pytest.raises(BagError, match="table messages that is virtual or has generated columns"):
        Bag(bag)


def test_a_view_in_place_of_the_table_is_refused(tmp_path: Path) -> None:
    bag = write_sqlite(tmp_path / "x.db3", MESSAGES)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    with sqlite3.connect(bag) as connection:
        connection.execute("DROP TABLE messages")
        connection.execute(
            f"CREATE VIEW messages AS {endless} SELECT i AS id, 1 AS topic_id, i AS timestamp, "
            f"zeroblob(16) AS data FROM n"
        )
    with pytest.raises(BagError, match="has no table messages"):
        Bag(bag)


def types(count: int, line: str) -> str:
    return "\n".join(line.format(i=i) for i in range(count))


DEFINITIONS = {
    "array of texts": ("string[300000000] a", "its array a has 300000000 elements"),
    "array of messages": (
        f"B[300000000] b\n{'=' * 80}\nMSG: a/msg/B\nint32 x",
        "its array b has 300000000 elements",
    ),
    "many arrays": (types(100, "string[100] a{i}"), "its array a20 has 100 elements"),
    "array of numbers": ("float64[4000000000] a", "its array a has 4e\\+09 elements"),
    "negative array": ("float64[-5] a", "its array a has -5 elements"),
    "many fields": (types(3000, "float64 a{i}"), "it has over 2000 fields"),
    "type's name": (
        f"int32 x\n{'=' * 80}\nMSG: __import__/msg/B\nint32 x",
        "it has names of other characters",
    ),
    "long": ("#" * (1 << 20) + "\nfloat64 a", "it is over a megabyte long"),
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_definitions_that_ask_for_too_much_are_soon_refused(name: str) -> None:
    text, words = DEFINITIONS[name]
    before = time.process_time()
    with pytest.raises(DamageError, match=words):
        types_from_msg(text, "a/msg/A")
    assert time.process_time() - before < 2


def idl(constant: str) -> str:
    members = f"const long X = {constant}; struct A {{ double x[X]; }};"
    return f"module a {{ module msg {{ {members} }}; }};"


def test_constants_of_idl_are_values_and_names() -> None:
    assert types_from_idl(idl("(3)"))["a/msg/A"][1] == [("x", (3, ((1, ("float64", 0)), 3)))]
    before = time.process_time()
    assert types_from_idl(idl("(" * 14 + "3" + ")" * 14))
    for bomb in ("1 << 100000000000", "1 << 2000000000", "9 * 9", "(" * 3000 + "1" + ")" * 3000):
        with pytest.raises(Exception, match=r"Could not parse|maximum recursion depth"):
            types_from_idl(idl(bomb))
    assert time.process_time() - before < 2


def test_a_bag_with_such_a_definition_is_inspected_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start(profile="ros2")
        schema = writer.register_schema("a/msg/A", "ros2msg", b"string[300000000] a")
        bad = writer.register_channel("/bad", "cdr", schema)
        good = writer.register_channel(
            "/good", "cdr", writer.register_schema(FLOAT, "ros2msg", b"float64 data")
        )
        for channel in (bad, good):
            writer.add_message(channel, SECOND, cdr(1.0), SECOND)
        writer.finish()  # type: ignore[no-untyped-call]  # the library's gap
    with Bag(path) as bag:
        assert [topic.name for topic in bag.unknown_types] == ["/bad"]
        assert [each.message.data for each in messages_of(bag, frozenset({"/good"}))] == [1.0]
        with pytest.raises(BagError, match="its array a has 300000000 elements"):
            bag.typestore("/bad")
