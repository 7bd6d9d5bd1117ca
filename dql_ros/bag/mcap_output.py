"""One MCAP file of a recording: what was written whole stays, whatever happens afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mcap.writer import CompressionType, Writer

from dql_ros.bag.metadata import MessageCounts, TopicMetadata

COMPRESSIONS = {
    "zstd": CompressionType.ZSTD,
    "lz4": CompressionType.LZ4,
    "none": CompressionType.NONE,
}
CHUNK_BYTES = 1 << 20


class McapOutput:
    """An MCAP file under construction.

    Args:
        path: The file to make.
        compression: A key of `COMPRESSIONS`.
        chunk_bytes: Messages of so many bytes are compressed together.

    Attributes:
        path: As given.
        written: What is in the file.

    Raises:
        OSError: If it cannot be made; so do all methods, if they cannot write. After that only
            `close` makes sense: what the library still holds may be in the file already.
    """

    def __init__(self, path: Path, compression: str, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.path = path
        self.written = MessageCounts()
        self._waiting = MessageCounts()
        self._schemas: dict[tuple[str, str], int] = {}
        self._channels: dict[str, int] = {}
        self._file = _WholeWrites(path)
        self._writer = Writer(
            self._file,  # type: ignore[arg-type]  # all that the library uses of a stream
            chunk_size=chunk_bytes,
            compression=COMPRESSIONS[compression],
        )
        self._writer.start(profile="ros2", library="dql_ros")

    @property
    def size_bytes(self) -> int:
        """Bytes in the file so far; what waits for its chunk to be full is not among them."""
        return self._file.position

    @property
    def first_ns(self) -> int | None:
        """Log time of the earliest message, also of those that wait; ``None`` without any."""
        known = [t.first_ns for t in (self.written, self._waiting) if t.first_ns is not None]
        return min(known, default=None)

    def add_topic(self, topic: TopicMetadata) -> None:
        """Announce a topic; each type of a topic has a channel of its own."""
        schema = topic.msgtype, topic.definition
        if schema not in self._schemas:
            self._schemas[schema] = self._writer.register_schema(
                name=topic.msgtype, encoding="ros2msg", data=topic.definition.encode()
            )
        self._channels[topic.label] = self._writer.register_channel(
            topic=topic.name,
            message_encoding="cdr",
            schema_id=self._schemas[schema],
            metadata=topic.in_channel,
        )

    def write(
        self, topic: str, cdr: bytes, log_time_ns: int, publish_time_ns: int, sequence: int
    ) -> None:
        """Append one message of an announced topic, which is named by its label."""
        channel = self._channels[topic]
        self._waiting.note(topic, log_time_ns)
        with self._counting():
            self._writer.add_message(channel, log_time_ns, cdr, publish_time_ns, sequence)

    def flush(self) -> None:
        """Write down what waits, so that it survives the process."""
        with self._counting():
            self._writer.flush()  # type: ignore[no-untyped-call]  # the library's gap

    def add_metadata(self, text: str) -> None:
        """Write rosbag2's metadata into the file."""
        self._writer.add_metadata("rosbag2", {"serialized_metadata": text})

    def finish(self, metadata: str) -> None:
        """Write what waits, the metadata and the index, and close the file."""
        self.flush()
        self.add_metadata(metadata)
        self._writer.finish()  # type: ignore[no-untyped-call]  # the library's gap
        self._file.close()

    def close(self) -> Counter[str]:
        """Close the file as it is and return how many messages of each topic never got there."""
        self._file.close()
        return self._waiting.counts

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Count what waits as written once the file has grown: chunks are written as a whole."""
        before = self.size_bytes
        try:
            yield
        finally:
            if self.size_bytes > before:
                self.written.add(self._waiting)
                self._waiting = MessageCounts()


class _WholeWrites:
    """A file to which data are appended as a whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=0)
        self.position = 0

    def write(self, data: bytes | bytearray) -> int:
        """Append all of ``data``; after an error the file is as long as before."""
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            self._file.truncate(self.position)
            self._file.seek(self.position)
            raise
        self.position += len(data)
        return len(data)

    def tell(self) -> int:
        """Return the file's length."""
        return self.position

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()
