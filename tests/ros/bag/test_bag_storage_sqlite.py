import random
import shutil
import sqlite3
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from tests.ros.bag.bag_files import (
    SECOND,
    Sent,
    cdr,
    in_order,
    ramp,
    read,
    read_blocks,
    write_sqlite,
)
from tests.ros.bag.messages import messages_of


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["/a", "/b", "/c"]), st.integers(-5, 50)), max_size=80))
def test_rows_in_any_order_come_by_time(
    tmp_path_factory: pytest.TempPathFactory, sent: list[tuple[str, int]]
) -> None:
    messages = [Sent(topic, time, float(index)) for index, (topic, time) in enumerate(sent)]
    path = write_sqlite(tmp_path_factory.mktemp("bag") / "x.db3", messages)
    assert read(path) == in_order(messages)
    assert sorted(read_blocks(path)) == sorted(messages)
    assert read(path, salvage=True) == in_order(messages)
    with Bag(path) as bag:
        assert bag.message_count == len(messages)
        assert bag.losses == ()


def test_many_rows_come_in_several_batches(tmp_path: Path) -> None:
    messages = ramp(20_000)
    random.Random(0).shuffle(messages)
    path = write_sqlite(tmp_path / "x.db3", messages)
    assert in_order(read_blocks(path)) == in_order(messages)
    assert in_order(read_blocks(path, salvage=True)) == in_order(messages)
    with Bag(path) as bag:
        sizes = [sum(map(len, batch.blocks)) for batch in bag.batches(frozenset({"/a"}))]
    assert sum(sizes) == 10_000
    assert len(sizes) >= 3


def test_a_reading_that_is_given_up_may_be_closed_by_any_thread(tmp_path: Path) -> None:
    with Bag(write_sqlite(tmp_path / "x.db3", ramp(20_000))) as bag:
        batches = bag.batches(frozenset({"/a"}))
        next(batches)
        assert isinstance(batches, Generator)
        with ThreadPoolExecutor(1) as other:
            # Raises what closing it raised there.
            other.submit(batches.close).result()


def test_messages_compressed_one_by_one_are_decompressed(tmp_path: Path) -> None:
    messages = ramp(50)
    compress = zstandard.ZstdCompressor().compress
    path = write_sqlite(tmp_path / "x.db3", messages, payload=lambda value: compress(cdr(value)))
    assert read(path) == in_order(read_blocks(path)) == messages


BROKEN = {
    "text": ("data = 'hello'", "has a message without bytes"),
    "a time that is none": ("timestamp = 'soon'", "that are? no whole number"),
    "a fraction of a time": ("timestamp = 1.5", "that are? no whole number"),
    "a topic that is none": ("topic_id = 77", "has 1 messages of topic 77, which it lacks"),
}


@pytest.mark.parametrize(("change", "why"), BROKEN.values(), ids=BROKEN)
def test_rows_that_are_no_messages_are_damage(tmp_path: Path, change: str, why: str) -> None:
    path = write_sqlite(tmp_path / "x.db3", ramp(10))
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE messages SET {change} WHERE id = 4")
    connection.close()
    with pytest.raises(BagError, match=why) as raised:
        read(path)
    assert "\n" not in str(raised.value)
    left = [message for message in ramp(10) if message.value != 3.0]
    assert read(path, salvage=True) == left


def test_database_without_messages_or_without_tables(tmp_path: Path) -> None:
    assert read(write_sqlite(tmp_path / "none.db3", [])) == []
    with sqlite3.connect(tmp_path / "other.db3") as connection:
        connection.execute("CREATE TABLE cats(name TEXT)")
    connection.close()
    for salvage in (False, True):
        with pytest.raises(BagError, match="has no table messages and no table topics"):
            Bag(tmp_path / "other.db3", salvage=salvage)


def killed(tmp_path: Path, work: Callable[[sqlite3.Connection], None]) -> Path:
    """A bag whose recorder was killed while it did some work."""
    path = write_sqlite(tmp_path / "x.db3", ramp(20))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    work(connection)
    folder = tmp_path / "killed"
    folder.mkdir()
    for file in (path, tmp_path / "x.db3-wal"):
        shutil.copyfile(file, folder / file.name)
    connection.close()
    return folder / "x.db3"


def insert(connection: sqlite3.Connection, values: range) -> None:
    for value in values:
        connection.execute(
            "INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)",
            (SECOND + 1000 * value, cdr(value)),
        )


def test_finished_transactions_in_a_write_ahead_log_are_read(tmp_path: Path) -> None:
    def work(connection: sqlite3.Connection) -> None:
        for value in range(20, 30):
            insert(connection, range(value, value + 1))
            connection.commit()

    path = killed(tmp_path, work)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with Bag(path) as bag:
        assert bag.message_count == 30
        assert bag.notes == ("x.db3: read with x.db3-wal, which it needs",)
    assert [message.value for message in read(path)] == list(range(30))
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_unfinished_transaction_in_a_write_ahead_log_is_a_loss(tmp_path: Path) -> None:
    def work(connection: sqlite3.Connection) -> None:
        insert(connection, range(20, 25))
        connection.commit()
        connection.execute("PRAGMA cache_size=2")
        insert(connection, range(25, 2000))

    path = killed(tmp_path, work)
    with pytest.raises(BagError, match=r"x.db3-wal \d+ bytes of it belong to no finished trans"):
        Bag(path)
    assert [message.value for message in read(path, salvage=True)] == list(range(25))
    with Bag(path, salvage=True) as bag:
        (loss,) = bag.losses
    assert loss.file == "x.db3-wal"
    assert loss.bytes is not None
    assert loss.bytes > 4096


def test_damaged_write_ahead_log_is_read_up_to_the_damage(tmp_path: Path) -> None:
    def work(connection: sqlite3.Connection) -> None:
        for value in range(20, 30):
            insert(connection, range(value, value + 1))
            connection.commit()

    path = killed(tmp_path, work)
    log = path.with_name("x.db3-wal")
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    with pytest.raises(BagError, match="belong to no finished transaction"):
        Bag(path)
    found = [message.value for message in read(path, salvage=True)]
    assert found == list(range(len(found)))
    assert 20 < len(found) < 30
    log.write_bytes(b"no log" * 10)
    with pytest.raises(BagError, match=r"x.db3-wal 60 bytes of it belong to no finished trans"):
        Bag(path)
    assert [message.value for message in read(path, salvage=True)] == list(range(20))


def test_salvage_reads_on_both_sides_of_a_damaged_page(tmp_path: Path) -> None:
    messages = ramp(5000)
    path = write_sqlite(tmp_path / "x.db3", messages)
    data = bytearray(path.read_bytes())
    page = data.index(cdr(2500.0)) // 4096 * 4096
    data[page : page + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    with pytest.raises(BagError, match=r"x.db3.*malformed"):
        read(path)
    with Bag(path, salvage=True) as bag:
        found = {
            float(message.message.data) for message in messages_of(bag, frozenset(bag.topics))
        }
        lost = {message.value for message in messages} - found
        assert 0 < len(lost) < 1500
        assert 2500.0 in lost
        (loss,) = bag.losses
    assert loss.file == "x.db3"
    assert loss.reason.startswith("the rows after row ")
