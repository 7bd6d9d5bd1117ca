"""Each kind of damage: one clear error, and with salvage all that is left and what is lost."""

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from mcap.opcode import Opcode
from mcap.writer import CompressionType

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag, Loss
from dql_ros.bag.storage.mcap_records import MAGIC, records_in
from tests.ros.bag.bag_files import (
    ramp,
    read,
    records,
    refused,
    salvaged,
    write_mcap,
    write_metadata,
    write_ros1,
    write_sqlite,
)

pytestmark = pytest.mark.slow

MESSAGES = ramp(400)


def chunked(tmp_path: Path, compression: CompressionType = CompressionType.ZSTD) -> Path:
    """A bag of about ten chunks."""
    return write_mcap(tmp_path / "x.mcap", MESSAGES, compression=compression, chunk_size=2000)


@pytest.mark.parametrize("compression", list(CompressionType))
def test_recorder_killed_within_a_chunk(tmp_path: Path, compression: CompressionType) -> None:
    path = chunked(tmp_path, compression)
    chunks = records(path, Opcode.CHUNK)
    cut = chunks[-2].offset + (chunks[-2].end - chunks[-2].offset) * 3 // 4
    path.write_bytes(path.read_bytes()[:cut])
    refused(path, r"x\.mcap: has no end: the recorder was stopped .*--salvage reads what is left")
    found, losses, notes = salvaged(path)
    assert found == MESSAGES[: len(found)]
    before = 400 * (len(chunks) - 2) // len(chunks)
    assert len(found) >= before - 40
    if compression == CompressionType.NONE:
        assert len(found) > before
    (loss,) = losses
    assert (loss.file, loss.messages) == ("x.mcap", None)
    assert loss.bytes == cut - chunks[-2].offset
    assert loss.reason.startswith(f"is cut off: its record at byte {chunks[-2].offset} has ")
    assert notes[0].endswith("; it was read from front to back instead")


def test_recorder_killed_in_the_first_chunk(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "x.mcap", MESSAGES, compression=CompressionType.NONE)
    (chunk,) = records(path, Opcode.CHUNK)
    path.write_bytes(path.read_bytes()[: chunk.end - 1000])
    found, losses, _ = salvaged(path)
    assert found == MESSAGES[: len(found)]
    assert 350 < len(found) < 400
    assert len(losses) == 1


def check_truncations(path: Path, cuts: int) -> None:
    """Cut a file at many places; each time a beginning of it is left."""
    whole = path.read_bytes()
    most = 0
    for length in range(1, len(whole), len(whole) // cuts):
        path.write_bytes(whole[:length])
        refused(path, "cannot be read")
        found, losses, notes = salvaged(path)
        assert found == MESSAGES[: len(found)]
        assert len(found) >= most
        assert notes
        most = len(found)
        assert losses or most == 400
    assert most == 400


@pytest.mark.parametrize("way", ["chunks", "no chunks"])
def test_every_truncation_gives_a_beginning(tmp_path: Path, way: str) -> None:
    path = write_mcap(tmp_path / "x.mcap", MESSAGES, chunk_size=2000, use_chunking=way == "chunks")
    check_truncations(path, cuts=60)


def test_wrong_checksum_of_a_chunk_costs_that_chunk(tmp_path: Path) -> None:
    path = chunked(tmp_path)
    chunk = records(path, Opcode.CHUNK)[3]
    data = bytearray(path.read_bytes())
    data[chunk.offset + 9 + 24] ^= 1
    path.write_bytes(data)
    refused(path, r"x\.mcap: a chunk differs from its checksum; the bag is damaged")
    found, losses, _ = salvaged(path)
    (loss,) = losses
    assert loss.messages == 400 - len(found) > 0
    assert loss.bytes == chunk.end - chunk.offset
    lost = [sent for sent in MESSAGES if sent not in found]
    assert lost == MESSAGES[int(lost[0].value) : int(lost[0].value) + len(lost)]
    assert read(path, topics=[]) == []


def test_damage_in_what_nobody_asks_for_is_nobodys(tmp_path: Path) -> None:
    messages = [*ramp(50, ["/a"]), *ramp(50, ["/b"])]
    path = write_mcap(tmp_path / "x.mcap", messages, chunk_size=300)
    chunk = records(path, Opcode.CHUNK)[-1]
    data = bytearray(path.read_bytes())
    data[chunk.offset + 9 + 24] ^= 1
    path.write_bytes(data)
    assert read(path, topics=["/a"]) == messages[:50]


def test_damaged_summary_is_done_without(tmp_path: Path) -> None:
    path = chunked(tmp_path)
    (statistics,) = records(path, Opcode.STATISTICS)
    data = bytearray(path.read_bytes())
    data[statistics.offset + 12] ^= 1
    path.write_bytes(data)
    refused(path, r"x\.mcap: has a summary that differs from its checksum")
    found, losses, notes = salvaged(path)
    assert (found, losses) == (MESSAGES, ())
    assert notes == (
        "x.mcap: has a summary that differs from its checksum; it was read from front to back "
        "instead",
    )


def test_statistics_that_count_otherwise(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "x.mcap", MESSAGES, enable_crcs=False)
    (statistics,) = records(path, Opcode.STATISTICS)
    data = bytearray(path.read_bytes())
    data[statistics.offset + 9 : statistics.offset + 17] = struct.pack("<Q", 401)
    path.write_bytes(data)
    refused(path, "has 401 messages by its statistics, but others in its chunks")
    assert salvaged(path)[0] == MESSAGES


def test_checksum_of_messages_outside_of_chunks(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "x.mcap", MESSAGES, use_chunking=False, enable_data_crcs=True)
    data = bytearray(path.read_bytes())
    data[data.index(struct.pack("<d", 77.0))] ^= 1
    path.write_bytes(data)
    refused(path, "has messages that differ from the file's checksum")


def test_counts_of_the_metadata_are_missed_or_lost(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    write_sqlite(folder / "x.db3", MESSAGES)
    write_metadata(folder, [*MESSAGES, MESSAGES[0]], ["x.db3"])
    refused(folder, "/a has 201 messages by metadata.yaml, but 200 could be read")
    found, losses, _ = salvaged(folder)
    assert found == MESSAGES
    assert losses == (
        Loss(
            "metadata.yaml", "/a has 201 messages by metadata.yaml, but 200 could be read", 1, None
        ),
    )


def test_every_page_of_a_sqlite_file_is_missed(tmp_path: Path) -> None:
    """Beside metadata.yaml, so that its own count is only asked for when it is read."""
    folder = tmp_path / "run"
    folder.mkdir()
    whole = write_sqlite(folder / "x.db3", MESSAGES).read_bytes()
    write_metadata(folder, MESSAGES, ["x.db3"])
    page = int.from_bytes(whole[16:18], "big")
    refusals = []
    for offset in range(page, len(whole), page):
        rest = whole[offset + page :]
        (folder / "x.db3").write_bytes(whole[:offset] + page * b"\xff" + rest)
        try:
            found = read(folder)
        except BagError as error:
            refusals.append(str(error))
        else:
            assert found == MESSAGES, f"page {offset // page}"
    assert len(refusals) > 3
    assert all("is damaged: --salvage reads what is left of it" in each for each in refusals)


@pytest.mark.parametrize("name", ["x.mcap", "x.db3", "x.bag", "x.mcap.zstd"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(BagError, match=f"{name}: is empty; the recording failed"):
        Bag(tmp_path / name)
    with pytest.raises(BagError, match="nothing of it can be read: is empty; the recording fai"):
        Bag(tmp_path / name, salvage=True)


def test_empty_file_among_others_costs_that_file(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    write_mcap(folder / "run_0.mcap", MESSAGES[:300])
    (folder / "run_1.mcap").touch()
    write_metadata(folder, MESSAGES, ["run_0.mcap", "run_1.mcap"])
    refused(folder, r"run_1\.mcap: is empty; the recording failed")
    found, losses, _ = salvaged(folder)
    assert found == MESSAGES[:300]
    end_ns = MESSAGES[299].time_ns
    empty = Loss("run_1.mcap", "is empty; the recording failed", 100, 0, end_ns + 1)
    assert losses == (empty,)


def test_every_truncation_of_a_ros1_bag_is_read_up_to_the_cut(tmp_path: Path) -> None:
    path = write_ros1(tmp_path / "x.bag", MESSAGES, chunk_size=2000)
    whole = path.read_bytes()
    counts: list[int] = []
    for length in range(len(MAGIC), len(whole), len(whole) // 40):
        path.write_bytes(whole[:length])
        refused(path, "cannot be read")
        if counts or length > 10_000:
            found, _, notes = salvaged(path)
            assert found == MESSAGES[: len(found)]
            assert len(notes) == 1
            counts.append(len(found))
    assert counts == sorted(counts)
    assert len(MESSAGES) - counts[-1] < 50


def test_truncated_compressed_file_is_read_up_to_the_cut(tmp_path: Path) -> None:
    inside = chunked(tmp_path, CompressionType.NONE).read_bytes()
    path = tmp_path / "y.mcap.zstd"
    whole = zstandard.ZstdCompressor(level=1).compress(inside)
    path.write_bytes(whole[: len(whole) - 40])
    refused(path, r"y\.mcap\.zstd: ")
    found, _, _ = salvaged(path)
    assert found == MESSAGES[: len(found)]


LARGE = [2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]


def lengths_of_records(path: Path) -> list[tuple[int, str]]:
    kinds = (Opcode.CHUNK, Opcode.MESSAGE_INDEX, Opcode.SCHEMA, Opcode.CHUNK_INDEX)
    return [(record.offset + 1, "<Q") for kind in kinds for record in records(path, kind)[:1]]


def lengths_in_a_chunk(path: Path) -> list[tuple[int, str]]:
    content = records(path, Opcode.CHUNK)[0].offset + 9
    return [(content + 16, "<Q"), (content + 28, "<I"), (content + 36, "<Q")]


@pytest.mark.parametrize("find", [lengths_of_records, lengths_in_a_chunk])
@pytest.mark.parametrize("summary", [True, False])
def test_huge_lengths_are_refused_before_anything_is_allocated(
    tmp_path: Path, find: Callable[[Path], list[tuple[int, str]]], summary: bool
) -> None:
    path = write_mcap(
        tmp_path / "x.mcap", MESSAGES, chunk_size=2000, use_statistics=summary, enable_crcs=False
    )
    whole = path.read_bytes()
    tracemalloc.start()
    for at, form in find(path):
        for large in LARGE:
            size = struct.calcsize(form)
            data = bytearray(whole)
            data[at : at + size] = struct.pack("<Q", large)[:size]
            path.write_bytes(data)
            for salvage in (False, True):
                try:
                    found = read(path, salvage=salvage)
                except BagError:
                    assert not salvage or at < 40
                else:
                    assert set(found) <= set(MESSAGES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000


def test_decompression_bombs_are_refused(tmp_path: Path) -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    path = chunked(tmp_path, CompressionType.NONE)
    chunk = records(path, Opcode.CHUNK)[1]
    data = path.read_bytes()
    content = data[chunk.offset + 9 : chunk.offset + 37]
    content += struct.pack("<I", 4) + b"zstd" + struct.pack("<Q", len(bomb)) + bomb
    path.write_bytes(
        data[: chunk.offset] + struct.pack("<BQ", 6, len(content)) + content + data[chunk.end :]
    )
    refused(path, "cannot be read")
    tracemalloc.start()
    found, losses, _ = salvaged(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000
    assert losses[0].messages == 400 - len(found)
    assert "more than announced" in losses[0].reason


def test_lost_definitions_of_channels_are_told(tmp_path: Path) -> None:
    path = chunked(tmp_path)
    first = records(path, Opcode.CHUNK)[0]
    data = bytearray(path.read_bytes()[:-100])
    data[first.offset + 9 + 24] ^= 1
    path.write_bytes(data)
    found, losses, _ = salvaged(path)
    assert found == []
    assert [(loss.reason, loss.messages) for loss in losses][-1] == (
        "has 400 messages on channels whose definitions cannot be read",
        400,
    )


def test_messages_on_a_channel_that_is_not_defined(tmp_path: Path) -> None:
    path = write_mcap(
        tmp_path / "x.mcap",
        MESSAGES,
        compression=CompressionType.NONE,
        enable_crcs=False,
        use_statistics=False,
        repeat_channels=False,
    )
    data = path.read_bytes()
    start = records(path, Opcode.CHUNK)[0].offset + 9 + 40
    channel = next(
        record for record in records_in(data, start, len(data)) if record.opcode == Opcode.CHANNEL
    )
    path.write_bytes(data[: channel.offset] + b"\x7f" + data[channel.offset + 1 :])
    refused(path, r"x\.mcap: has 200 messages on channels whose definitions cannot be read")
    found, losses, _ = salvaged(path)
    assert found == [sent for sent in MESSAGES if sent.topic == "/b"]
    assert [loss.messages for loss in losses] == [200]


def test_impossible_times_of_a_chunk_cost_nothing_when_salvaged(tmp_path: Path) -> None:
    path = write_mcap(
        tmp_path / "x.mcap", MESSAGES, chunk_size=2000, use_statistics=False, enable_crcs=False
    )
    data = bytearray(path.read_bytes())
    chunk = records(path, Opcode.CHUNK)[2]
    data[chunk.offset + 9 : chunk.offset + 17] = struct.pack("<Q", 2**64 - 1)
    path.write_bytes(data)
    refused(path, r"x\.mcap: has a chunk from 18446744073709551615 ns to \d+ ns, which cannot be")
    found, losses, _ = salvaged(path)
    assert (found, losses) == (MESSAGES, ())
    with Bag(path, salvage=True) as bag:
        assert (bag.start_ns, bag.end_ns) == (MESSAGES[0].time_ns, MESSAGES[-1].time_ns)
