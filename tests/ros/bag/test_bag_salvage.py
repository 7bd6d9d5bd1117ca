"""What is left of a damaged bag is read: what stands before the damage, and behind it."""

import random
import re
import sqlite3
import struct
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from mcap.opcode import Opcode
from mcap.writer import CompressionType

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from dql_ros.bag.storage.mcap_records import Record, parse_chunk_head, records_in
from dql_ros.contract import Contract
from dql_ros.convert.convert import ConvertOptions, Source, convert
from dql_ros.tools.contract_check import check_bag
from tests.ros.bag.bag_files import (
    FLOAT,
    SECOND,
    Sent,
    ramp,
    records,
    refused,
    salvaged,
    write_mcap,
    write_ros1,
    write_sqlite,
)

MESSAGES = ramp(400)


def chunked(tmp_path: Path) -> Path:
    """A bag of about ten chunks that are not compressed."""
    return write_mcap(
        tmp_path / "x.mcap", MESSAGES, compression=CompressionType.NONE, chunk_size=2000
    )


def uncompressed_records(path: Path) -> list[tuple[int, Record]]:
    """The message records of a file whose chunks are not compressed: where they lie."""
    data = path.read_bytes()
    found = []
    for chunk in records(path, Opcode.CHUNK):
        head = parse_chunk_head(data[chunk.offset + 9 : chunk.end])
        start = chunk.offset + 9 + head.data_offset
        inner = records_in(memoryview(data)[start : start + head.data_length], 0, head.data_length)
        found += [(start + each.offset, each) for each in inner if each.opcode == Opcode.MESSAGE]
    return found


BREAKS = {
    "its length": lambda data, at: data[: at + 1] + struct.pack("<Q", 1 << 40) + data[at + 9 :],
    "its kind": lambda data, at: data[:at] + b"\xff" + data[at + 1 :],
    "its time": lambda data, at: data[: at + 15] + b"\xff" * 8 + data[at + 23 :],
    "all of it": lambda data, at: data[:at] + bytes(40) + data[at + 40 :],
}


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("has_summary", [True, False])
def test_what_stands_before_a_broken_record_of_a_chunk_is_read(
    tmp_path: Path, broken: str, has_summary: bool
) -> None:
    path = chunked(tmp_path)
    places = uncompressed_records(path)
    chunks = np.array([each.offset for each in records(path, Opcode.CHUNK)])
    data = BREAKS[broken](path.read_bytes(), places[210][0])
    if not has_summary:
        data = data[: records(path, Opcode.DATA_END)[0].offset]
    path.write_bytes(data)
    refused(path, "cannot be read")
    found, losses, _ = salvaged(path)
    mine = np.searchsorted(chunks, [at for at, _ in places])
    following = int(np.flatnonzero(mine > mine[210])[0])
    assert found == [*MESSAGES[:210], *MESSAGES[following:]]
    lost = next(loss for loss in losses if loss.messages)
    assert lost.messages == following - 210
    assert (lost.start_ns, lost.end_ns) == (
        MESSAGES[209].time_ns + 1,
        MESSAGES[following - 1].time_ns,
    )


@pytest.mark.parametrize("zeros", [(9, 600), (9, 49)], ids=["and its data", "alone"])
def test_a_chunk_whose_head_became_zeros_is_lost_and_located(
    tmp_path: Path, zeros: tuple[int, int]
) -> None:
    path = chunked(tmp_path)
    places = uncompressed_records(path)
    chunks = records(path, Opcode.CHUNK)
    inside = [k for k, (at, _) in enumerate(places) if chunks[4].offset < at < chunks[4].end]
    data = bytearray(path.read_bytes())
    begin, end = chunks[4].offset + zeros[0], chunks[4].offset + zeros[1]
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    refused(path, "cannot be read")
    found, losses, _ = salvaged(path)
    assert found == [*MESSAGES[: inside[0]], *MESSAGES[inside[-1] + 1 :]]
    lost = next(loss for loss in losses if loss.messages)
    assert lost.messages == len(inside)
    assert (lost.start_ns, lost.end_ns) == (
        MESSAGES[inside[0]].time_ns,
        MESSAGES[inside[-1]].time_ns,
    )


@pytest.mark.parametrize("compression", [CompressionType.ZSTD, CompressionType.LZ4])
def test_a_compressed_chunk_is_read_up_to_where_it_is_damaged(
    tmp_path: Path, compression: CompressionType
) -> None:
    noise = random.Random(0)
    messages = [Sent("/a", SECOND + index, noise.random()) for index in range(20_000)]
    path = write_mcap(tmp_path / "x.mcap", messages, compression=compression, chunk_size=1 << 22)
    (chunk,) = records(path, Opcode.CHUNK)
    data = bytearray(path.read_bytes())
    middle = (chunk.offset + chunk.end) // 2
    data[middle : middle + 64] = bytes(64)
    path.write_bytes(data)
    found, (loss,), _ = salvaged(path)
    assert 2_000 < len(found) < 12_000
    assert [each.time_ns for each in found] == [each.time_ns for each in messages[: len(found)]]
    assert loss.messages == 20_000 - len(found)


def test_a_broken_record_of_a_ros1_chunk_costs_what_is_behind_it(tmp_path: Path) -> None:
    path = write_ros1(tmp_path / "x.bag", MESSAGES, chunk_size=4000)
    whole = path.read_bytes()
    marks = [found.start() for found in re.finditer(rb"op=\x02", whole)]
    chunks = [found.start() for found in re.finditer(rb"op=\x05", whole)]
    at = marks[210]
    (end,) = {min(each for each in chunks if each > at)}
    behind = sum(at <= mark < end for mark in marks)
    path.write_bytes(whole[: at - 4] + struct.pack("<I", 1 << 20) + whole[at:])
    refused(path, "cannot be read")
    found, (loss,), _ = salvaged(path)
    assert found == [*MESSAGES[:210], *MESSAGES[210 + behind :]]
    assert loss.messages == behind
    assert loss.start_ns == MESSAGES[209].time_ns + 1


def test_a_ros1_bag_that_breaks_off_in_its_only_chunk_is_read_up_to_there(tmp_path: Path) -> None:
    path = write_ros1(tmp_path / "x.bag", MESSAGES)
    whole = path.read_bytes()
    marks = [found.start() for found in re.finditer(rb"op=\x02", whole)]
    path.write_bytes(whole[: marks[100]])
    refused(path, "cannot be read")
    found, losses, _ = salvaged(path)
    assert found == MESSAGES[:100]
    assert losses


def rows_left(path: Path) -> list[tuple[int, bytes]]:
    """What sqlite itself reads of a file that is shorter than it says."""
    found = []
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        with suppress(sqlite3.DatabaseError):
            for row in connection.execute("SELECT timestamp, data FROM messages"):
                found.append(row)
    return [row for row in found if row[1] is not None]


@pytest.mark.parametrize("share", [0.9, 0.7, 0.41, 0.2])
def test_a_sqlite_file_that_was_cut_is_read_as_far_as_sqlite_can(
    tmp_path: Path, share: float
) -> None:
    messages = ramp(3000)
    path = write_sqlite(tmp_path / "x.db3", messages)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    left = rows_left(path)
    assert len(left) > 300
    refused(path, "database disk image is malformed")
    found, losses, _ = salvaged(path)
    # The one that the cut goes through may be as sqlite fills it up: with zeros.
    assert set(found) <= set(messages)
    assert len(left) - 1 <= len(found) <= len(left)
    assert "cannot be reached" in losses[-1].reason
    with Bag(path, salvage=True) as bag:
        bag.require_topic("/a", "std_msgs/msg/Float64", "state", may_be_silent=False)


def test_a_cut_sqlite_file_with_a_log_beside_it_is_read_without_the_log(tmp_path: Path) -> None:
    path = write_sqlite(tmp_path / "x.db3", ramp(3000))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    path.with_name("x.db3-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(200))
    found, losses, _ = salvaged(path)
    assert len(found) > 300
    assert losses


def test_nothing_that_is_left_is_told_as_lost_and_not_blamed_on_the_contract(
    tmp_path: Path,
) -> None:
    path = chunked(tmp_path)
    path.write_bytes(path.read_bytes()[:400])
    with Bag(path, salvage=True) as bag:
        with pytest.raises(BagError) as caught:
            bag.require_topic("/c", "std_msgs/msg/Float64", "action", may_be_silent=False)
        assert "what is left of it has no topic /c" in str(caught.value)
        assert "x.mcap: is cut off" in str(caught.value)
        assert "correct the contract" not in str(caught.value)


STREAMS = {
    "robot": "r",
    "rate_hz": 1000,
    "observation": [
        {"topic": "/a", "type": FLOAT, "stamp": "receive", "fields": [{"path": "data"}]}
    ],
    "action": [
        {"topic": "/b", "type": FLOAT, "fields": [{"path": "data", "low": 0, "high": 400}]}
    ],
}


def test_a_conversion_of_what_is_not_left_names_what_is_lost(tmp_path: Path) -> None:
    contract = Contract.model_validate(STREAMS)
    path = chunked(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: records(path, Opcode.CHUNK)[0].offset + 300])
    options = ConvertOptions(salvage=True)
    with pytest.raises(BagError) as caught:
        convert(Source(contract, [path]), tmp_path / "out", options)
    (problem,) = check_bag(path, contract, salvage=True).findings.problems
    for text in (str(caught.value), problem):
        assert "of what is left of it" in text
        assert "lost: x.mcap: is cut off: its record at byte" in text
        assert "max_age_s" not in text
        assert "\n" not in text


def test_only_who_can_be_helped_is_told_of_salvage(tmp_path: Path) -> None:
    (tmp_path / "x.mcap").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run_0.db3").touch()
    for path in (tmp_path / "x.mcap", tmp_path / "run", tmp_path / "none.mcap"):
        with pytest.raises(BagError) as caught:
            Bag(path)
        assert "salvage" not in str(caught.value)
