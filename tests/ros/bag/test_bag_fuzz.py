"""Bags with bytes changed at random: read, or refused with one of our own errors, and quickly."""

import signal
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType
from rosbags.rosbag1 import Writer

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from tests.ros.bag.bag_files import cdr, ramp, write_mcap, write_metadata, write_ros1, write_sqlite
from tests.ros.bag.messages import messages_of

pytestmark = pytest.mark.slow

MESSAGES = ramp(12)
TIME_LIMIT_S = 20
MEMORY_LIMIT_BYTES = 100_000_000
LARGE = (0, 1, 2**16 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
# Each takes a file and fractions that say where, and returns the changed file.
Change = Callable[[bytes, float, float, int], bytes]


def flip(data: bytes, first: float, _: float, value: int) -> bytes:
    at = int(first * len(data))
    return data[:at] + bytes([data[at] ^ (1 << value % 8)]) + data[at + 1 :]


def truncate(data: bytes, first: float, _: float, __: int) -> bytes:
    return data[: int(first * len(data)) + 1]


def splice(data: bytes, first: float, second: float, value: int) -> bytes:
    at, source = int(first * len(data)), int(second * len(data))
    piece = data[source : source + 1 + value % 64]
    return data[:at] + piece + data[at + len(piece) :]


def insert(data: bytes, first: float, second: float, value: int) -> bytes:
    at, source = int(first * len(data)), int(second * len(data))
    return data[:at] + data[source : source + 1 + value % 64] + data[at:]


def number(data: bytes, first: float, second: float, value: int) -> bytes:
    at = int(first * len(data))
    large = struct.pack("<Q" if second < 0.5 else ">Q", LARGE[value % len(LARGE)])
    large = large[:4] if value % 2 else large
    return data[:at] + large + data[at + len(large) :]


CHANGES = st.lists(
    st.tuples(
        st.sampled_from([flip, truncate, splice, insert, number]),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=4,
)


def make_zstd(folder: Path) -> Path:
    inside = write_mcap(folder / "x.mcap", MESSAGES, compression=CompressionType.NONE)
    path = folder / "x.mcap.zstd"
    path.write_bytes(zstandard.ZstdCompressor().compress(inside.read_bytes()))
    return path


def make_messages(folder: Path) -> Path:
    compress = zstandard.ZstdCompressor().compress
    return write_sqlite(folder / "x.db3", MESSAGES, payload=lambda value: compress(cdr(value)))


def make_metadata(folder: Path) -> Path:
    write_mcap(folder / "x.mcap", MESSAGES)
    write_metadata(folder, MESSAGES, ["x.mcap"])
    return folder / "metadata.yaml"


MAKERS: dict[str, Callable[[Path], Path]] = {
    "mcap": lambda folder: write_mcap(folder / "x.mcap", MESSAGES, chunk_size=300),
    "mcap without checksums": lambda folder: write_mcap(
        folder / "x.mcap",
        MESSAGES,
        chunk_size=300,
        compression=CompressionType.NONE,
        enable_crcs=False,
    ),
    "mcap in lz4, without statistics": lambda folder: write_mcap(
        folder / "x.mcap",
        MESSAGES,
        compression=CompressionType.LZ4,
        enable_crcs=False,
        use_statistics=False,
    ),
    "mcap without chunks": lambda folder: write_mcap(
        folder / "x.mcap", MESSAGES, use_chunking=False, enable_crcs=False
    ),
    "mcap.zstd": make_zstd,
    "sqlite": lambda folder: write_sqlite(folder / "x.db3", MESSAGES),
    "sqlite, compressed messages": make_messages,
    "ros1": lambda folder: write_ros1(folder / "x.bag", MESSAGES, chunk_size=200),
    "ros1 in bz2": lambda folder: write_ros1(
        folder / "x.bag", MESSAGES, Writer.CompressionFormat.BZ2
    ),
    "ros1 in lz4": lambda folder: write_ros1(
        folder / "x.bag", MESSAGES, Writer.CompressionFormat.LZ4
    ),
    "metadata.yaml": make_metadata,
}


class TooSlowError(BaseException):
    """Passes through the reader, which takes other exceptions for damage."""


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise TooSlowError(f"not done after {TIME_LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def exercise(path: Path, *, salvage: bool) -> None:
    """Use everything of a bag."""
    with Bag(path, salvage=salvage) as bag:
        assert bag.start_ns <= bag.end_ns
        unknown = {topic.name for topic in bag.unknown_types}
        promised = -(2**63)
        readable = frozenset(bag.topics.keys() - unknown)
        for batch in bag.batches(readable):
            for block in batch.blocks:
                assert (block.log_times_ns >= promised).all()
                assert all(len(block.payload(at)) == block.lengths[at] for at in range(len(block)))
            promised = batch.complete_until_ns
        assert salvage or not bag.losses
        for topic in readable:
            bag.typestore(topic)
        for _ in messages_of(bag, readable):
            pass


def refusal(path: Path, *, salvage: bool) -> str:
    """The error that a bag is refused with; empty if it is read."""
    try:
        exercise(path, salvage=salvage)
    except BagError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=CHANGES)
def test_changed_bytes_end_in_our_own_errors_at_most(
    tmp_path: Path,
    make: Callable[[Path], Path],
    changes: list[tuple[Change, float, float, int]],
) -> None:
    folder = tmp_path / "bag"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    path = make(folder)
    data = path.read_bytes()
    for change, first, second, value in changes:
        data = change(data, first, second, value)
    path.write_bytes(data)
    bag = folder if path.name == "metadata.yaml" else path
    tracemalloc.start()
    try:
        with time_limit():
            for salvage in (False, True):
                assert "\n" not in refusal(bag, salvage=salvage)
        assert tracemalloc.get_traced_memory()[1] < MEMORY_LIMIT_BYTES
    finally:
        tracemalloc.stop()
