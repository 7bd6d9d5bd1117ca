"""Bounded reading: no more than a file has, no more than a compressed chunk announces."""

from __future__ import annotations

import bz2
from collections.abc import Callable, Iterator
from pathlib import Path

import lz4.frame  # type: ignore[import-untyped]  # the library has no types
import zstandard

from dql_ros.bag.storage.storage import DamageError, reason_of

# Recorders write chunks of about a megabyte; one message may be larger, but hardly by this much.
MAX_CHUNK_BYTES = 1 << 30
# LZ4 cannot make more than this many bytes of one.
LZ4_RATIO = 255
STEP_BYTES = 1 << 20
# So little is decompressed at a time where each part may be the last that is sound.
PART_BYTES = 1 << 12
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# What decompressors raise.
FAILURES = (zstandard.ZstdError, OSError, EOFError, RuntimeError, ValueError)


class BoundedFile:
    """A file opened for reading at given places; a context manager.

    Attributes:
        size: Its length in bytes.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb")
        self.size = path.stat().st_size

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset`` on.

        Raises:
            DamageError: If the file has fewer; nothing is allocated then.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise DamageError(
                f"is cut off: {length} bytes are expected at byte {offset}, it has {self.size}"
            )
        self._stream.seek(offset)
        content = self._stream.read(length)
        if len(content) != length:
            raise DamageError(f"became shorter while it was read, at byte {offset + len(content)}")
        return content

    def __enter__(self) -> BoundedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def decompress(compression: str, data: memoryview, size: int) -> bytes | memoryview:
    """Return the ``size`` bytes that ``data`` is compressed from.

    Args:
        compression: ``zstd``, ``lz4``, ``bz2``, or empty or ``none`` for bytes as they are.
        data: The compressed bytes.
        size: How many bytes they are said to be uncompressed.

    Raises:
        DamageError: If they are not of that size, over `MAX_CHUNK_BYTES`, or not so compressed.
    """
    if size > MAX_CHUNK_BYTES:
        raise DamageError(
            f"a chunk says that it is {size} bytes uncompressed, over the limit of "
            f"{MAX_CHUNK_BYTES}"
        )
    try:
        content = _decompressor(compression)(data, size)
    except FAILURES as cause:
        raise DamageError(f"a chunk is no valid {compression} ({reason_of(cause)})") from cause
    if len(content) != size:
        raise DamageError(f"a chunk of {size} bytes by its header has {len(content)}")
    return content


def decompress_partly(compression: str, data: memoryview, size: int) -> bytes | memoryview:
    """Return what can be had of a chunk up to where it is damaged, or its end is missing.

    Args:
        compression: As of `decompress`.
        data: The compressed bytes.
        size: How many bytes they are said to be uncompressed, which is the most there will be; 0
            if the recorder had not got to say it.

    Raises:
        DamageError: If the compression is not known.
    """
    if compression in {"", "none"}:
        return data
    _decompressor(compression)  # it must be a known one
    parts: list[bytes] = []
    left = min(size or LZ4_RATIO * len(data), MAX_CHUNK_BYTES)
    try:
        for part in _parts(compression, data):
            parts.append(part[:left])
            left -= len(parts[-1])
            if left <= 0:
                break
    except FAILURES:
        pass  # What came before it is what can be had.
    return b"".join(parts)


def _parts(compression: str, data: memoryview) -> Iterator[bytes]:
    """Yield what bytes are compressed from in parts that are not large."""
    if compression == "zstd":
        with zstandard.ZstdDecompressor().stream_reader(data) as stream:
            while part := stream.read(PART_BYTES):
                yield part
        return
    decompressor = (
        bz2.BZ2Decompressor() if compression == "bz2" else lz4.frame.LZ4FrameDecompressor()
    )
    for start in range(0, len(data), PART_BYTES):
        piece = bytes(data[start : start + PART_BYTES])
        while piece or not decompressor.needs_input:
            yield decompressor.decompress(piece, max_length=STEP_BYTES)
            piece = b""
            if decompressor.eof:
                return


def decompress_message(data: memoryview) -> bytes:
    """Return a message that rosbag2 compressed by itself, with zstd.

    Raises:
        DamageError: If it is not so compressed, or over `MAX_CHUNK_BYTES`.
    """
    try:
        return _zstd(data, MAX_CHUNK_BYTES)
    except zstandard.ZstdError as cause:
        raise DamageError(f"a compressed message cannot be read ({reason_of(cause)})") from cause


def _decompressor(compression: str) -> Callable[[memoryview, int], bytes | memoryview]:
    """What makes bytes of compressed ones, at most so many."""
    known: dict[str, Callable[[memoryview, int], bytes | memoryview]] = {
        "": lambda data, _: data,
        "none": lambda data, _: data,
        "zstd": _zstd,
        "lz4": _lz4,
        "bz2": lambda data, limit: bz2.BZ2Decompressor().decompress(data, max_length=limit),
    }
    if compression not in known:
        raise DamageError(f"a chunk is compressed with {compression!r}, which is not understood")
    return known[compression]


def _zstd(data: memoryview, limit: int) -> bytes:
    """At most ``limit`` bytes; the frame's own size is looked at before anything is allocated."""
    if 0 < zstandard.frame_content_size(data) <= limit:
        try:
            return zstandard.ZstdDecompressor().decompress(data)
        except zstandard.ZstdError:
            pass  # Its end may be missing: then what is there comes from the stream below.
    parts: list[bytes] = []
    total = 0
    with zstandard.ZstdDecompressor().stream_reader(data) as stream:
        while total <= limit and (part := stream.read(min(STEP_BYTES, limit + 1 - total))):
            parts.append(part)
            total += len(part)
    if total > limit:
        raise DamageError(f"a part is over {limit} bytes when decompressed, more than announced")
    return b"".join(parts)


def _lz4(data: memoryview, limit: int) -> bytes:
    most = min(limit, LZ4_RATIO * len(data))
    return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=most))
