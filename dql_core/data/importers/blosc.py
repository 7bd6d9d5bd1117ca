"""Unpacks what Blosc 1 packed, by the compressors that are here anyway: lz4, zlib, zstd.

Source: README_CHUNK_FORMAT.rst and ``blosc_d`` of c-blosc 1.21: a header of 16 bytes, where each
block starts, and the blocks; each is one stream, or one for each byte of a number.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import lz4.block  # type: ignore[import-untyped]  # the library has no types
import numpy as np
import zstandard
from numpy.typing import NDArray

_HEADER = struct.Struct("<BBBBIII")
_VERSION = 2
_SHUFFLED, _PLAIN, _BITS_SHUFFLED, _WHOLE = 1, 2, 4, 16
_MAX_STREAMS, _MIN_STREAM_BYTES = 16, 128


def _lz4(content: bytes, size: int) -> bytes:
    unpacked: bytes = lz4.block.decompress(content, uncompressed_size=size)
    return unpacked


def unpack_zlib(content: bytes, size: int) -> bytes:
    """Unpack a stream of zlib to ``size`` bytes, which is above 0, and compare its checksum.

    Raises:
        ValueError: If it has more.
        zlib.error: If it is damaged.
    """
    stream = zlib.decompressobj()
    unpacked = stream.decompress(content, size)
    if stream.decompress(stream.unconsumed_tail, 1) or not stream.eof:
        raise ValueError(f"a part of it is damaged, or has more than {size} bytes")
    return unpacked


def unpack_zstd(content: bytes, size: int) -> bytes:
    """Unpack a frame of Zstandard to at most ``size`` bytes.

    Raises:
        ValueError: If it says that it has another number of bytes.
        zstandard.ZstdError: If it is damaged.
    """
    parameters = zstandard.get_frame_parameters(content)
    if parameters.content_size not in {size, zstandard.CONTENTSIZE_UNKNOWN}:
        raise ValueError(f"a part of it has {parameters.content_size} bytes, not {size}")
    return zstandard.ZstdDecompressor().decompress(content, max_output_size=size)


# By their number in the header's flags.
_CODECS: dict[int, Callable[[bytes, int], bytes]] = {1: _lz4, 3: unpack_zlib, 4: unpack_zstd}
_NAMES = {0: "blosclz", 2: "snappy"}


def unpack_blosc(content: bytes, size: int) -> bytes:
    """Unpack a chunk of Blosc 1.

    Args:
        content: The chunk.
        size: How many bytes it must unpack to.

    Raises:
        ValueError: If it is damaged, of another size, or packed by blosclz or snappy.
    """
    try:
        return _unpacked(content, size)
    except (struct.error, lz4.block.LZ4BlockError, zlib.error, zstandard.ZstdError) as cause:
        raise ValueError(f"a chunk is damaged: {cause}") from cause


def _unpacked(content: bytes, size: int) -> bytes:
    version, _, flags, width, stated, block_size, packed = _HEADER.unpack_from(content)
    if version != _VERSION or stated != size or packed != len(content) or not width:
        raise ValueError(
            f"a chunk of version {version} has {len(content)} bytes for {stated}, where {size} "
            f"are needed"
        )
    if flags & _PLAIN:
        if len(content) != _HEADER.size + size:
            raise ValueError("a chunk is cut off")
        return content[_HEADER.size :]
    codec = _CODECS.get(flags >> 5)
    if codec is None:
        name = _NAMES.get(flags >> 5, f"number {flags >> 5}")
        raise ValueError(f"it is packed by {name}; lz4, zlib and zstd are read")
    if size and not 0 < block_size <= size:
        raise ValueError(f"a chunk of {size} bytes has blocks of {block_size}")
    count = -(-size // block_size) if size else 0
    starts = struct.unpack_from(f"<{count}I", content, _HEADER.size)
    blocks = []
    for index, start in enumerate(starts):
        length = min(block_size, size - index * block_size)
        is_split = not flags & _WHOLE and width <= _MAX_STREAMS and length == block_size
        streams = width if is_split and block_size // width >= _MIN_STREAM_BYTES else 1
        block = _streams(content, start, length, streams, codec)
        blocks.append(_in_order(block, flags, width))
    return b"".join(blocks)


def _streams(
    content: bytes, start: int, length: int, count: int, codec: Callable[[bytes, int], bytes]
) -> bytes:
    """Unpack the streams of a block, each with its packed size in front."""
    size, place, parts = length // count, start, []
    for _ in range(count):
        (packed,) = struct.unpack_from("<i", content, place)
        place += 4
        if not 0 < packed <= len(content) - place:
            raise ValueError("a chunk is cut off")
        stream = content[place : place + packed]
        place += packed
        parts.append(stream if packed == size else codec(stream, size))
        if len(parts[-1]) != size:
            raise ValueError(f"a part of it has {len(parts[-1])} bytes, not {size}")
    return b"".join(parts)


def _in_order(block: bytes, flags: int, width: int) -> bytes:
    """Undo the shuffling of a block's bytes or bits; what is no whole number lies at its end."""
    count = len(block) // width
    whole = count * width
    packed: NDArray[np.uint8] = np.frombuffer(block, np.uint8)[:whole]
    if flags & _SHUFFLED and width > 1:
        ordered = packed.reshape(width, count).T.tobytes()
    elif flags & _BITS_SHUFFLED and count % 8 == 0:
        bits = np.unpackbits(packed, bitorder="little").reshape(width, 8, count)
        ordered = np.packbits(bits.transpose(2, 0, 1), bitorder="little").tobytes()
    else:
        return block
    return ordered + block[whole:]
