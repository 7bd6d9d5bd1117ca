"""Writes rosbag2 folders (metadata version 9, MCAP storage) as a Jazzy recorder does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dql_core.errors import BagError, OutputError
from dql_core.files import is_free, write_text
from dql_core.spec import CONTRACT_KEY
from dql_ros.bag.mcap_output import CHUNK_BYTES, McapOutput
from dql_ros.bag.metadata import (
    MessageCounts,
    TopicMetadata,
    dump,
    information,
)
from dql_ros.bag.storage.folder import METADATA_NAME

# The key of metadata.yaml's custom_data under which a recording carries its contract.


class BagWriter:
    """One recording: a folder with ``<folder>_0.mcap``, … and, once closed, ``metadata.yaml``.

    Each file carries what `custom_data` holds when it is begun, so that a recording whose writer
    was killed still has its contract.

    Args:
        directory: The folder to make; it must not exist, or be empty.
        contract_text: The robot contract's yaml, carried in ``custom_data``.
        compression: ``zstd``, ``lz4`` or ``none``; of the chunks within the files.
        max_file_bytes: A file of at least so many bytes is followed by another; 0 for never.
        max_file_ns: So is one whose messages span so much log time; 0 for never.

    Attributes:
        directory: As given.
        custom_data: The texts that it carries; those that are there when it is closed count.
        has_failed: Whether the disk has refused something.

    Raises:
        BagError: If the folder already holds something or cannot be made.
    """

    def __init__(
        self,
        directory: Path,
        *,
        contract_text: str = "",
        compression: str = "zstd",
        max_file_bytes: int = 0,
        max_file_ns: int = 0,
    ) -> None:
        if not is_free(directory.resolve()):
            raise BagError(f"{directory}: already exists; name another folder for the recording")
        self.directory = directory
        self.custom_data = {CONTRACT_KEY: contract_text} if contract_text else {}
        self._compression = compression
        self._max_file_bytes = max_file_bytes
        self._max_file_ns = max_file_ns
        self._topics: dict[str, TopicMetadata] = {}
        self._sequence: Counter[str] = Counter()
        self._files: dict[str, MessageCounts] = {}
        self.has_failed = False
        with self._naming():
            directory.mkdir(parents=True, exist_ok=True)
            self._output = self._next_output()

    @property
    def size_bytes(self) -> int:
        """Bytes in the file that is being written."""
        return self._output.size_bytes

    @property
    def counts(self) -> Counter[str]:
        """Messages by the topics' labels that are in the files by now."""
        total: Counter[str] = Counter()
        for counts in self._files.values():
            total.update(counts.counts)
        return total

    def add(self, topic: TopicMetadata) -> None:
        """Announce a topic; one without messages is recorded, too.

        Raises:
            BagError: If the file cannot be written.
        """
        self._topics[topic.label] = topic
        with self._naming():
            self._output.add_topic(topic)

    def write(
        self,
        topic: str,
        cdr: bytes | bytearray | memoryview,
        log_time_ns: int,
        publish_time_ns: int | None = None,
    ) -> None:
        """Append one message.

        Args:
            topic: Label of an announced topic.
            cdr: The serialised message, with its encapsulation header.
            log_time_ns: When it was received, on the recording's clock.
            publish_time_ns: When it was sent; the log time by default.

        Raises:
            BagError: If the file cannot be written; `close` then keeps what is whole.
        """
        with self._naming():
            if self._is_full(log_time_ns):
                self._finish_file()
                self._output = self._next_output()
            sent_ns = log_time_ns if publish_time_ns is None else publish_time_ns
            self._output.write(topic, bytes(cdr), log_time_ns, sent_ns, self._sequence[topic])
        self._sequence[topic] += 1

    def flush(self) -> None:
        """Write down what waits for its chunk to be full, so that it survives the process.

        Raises:
            BagError: If the file cannot be written.
        """
        with self._naming():
            self._output.flush()

    def close(self) -> None:
        """Finish the MCAP file, then write ``metadata.yaml``: last, and whole.

        Once writing has failed, the file is left as it is, without an end, for those who salvage;
        ``metadata.yaml`` then says what it has.

        Raises:
            BagError: If the disk does not take it; what is whole is kept all the same.
        """
        try:
            if not self.has_failed:
                with self._naming():
                    self._finish_file()
        finally:
            self._output.close()
            self._write_metadata()

    def _is_full(self, log_time_ns: int) -> bool:
        if 0 < self._max_file_bytes <= self._output.size_bytes:
            return True
        first_ns = self._output.first_ns
        return (
            0 < self._max_file_ns <= log_time_ns - (log_time_ns if first_ns is None else first_ns)
        )

    def _next_output(self) -> McapOutput:
        path = self.directory / f"{self.directory.name}_{len(self._files)}.mcap"
        # A file that is to be small must not wait for a chunk that is large.
        chunk_bytes = min(CHUNK_BYTES, self._max_file_bytes or CHUNK_BYTES)
        output = McapOutput(path, self._compression, chunk_bytes)
        self._files[path.name] = output.written
        output.add_metadata(dump(self._information()))
        for topic in self._topics.values():
            output.add_topic(topic)
        return output

    def _write_metadata(self) -> None:
        document = {"rosbag2_bagfile_information": self._information()}
        with self._naming():
            write_text(self.directory / METADATA_NAME, dump(document))

    def _finish_file(self) -> None:
        self._output.flush()
        self._output.finish(dump(self._information()))

    def _information(self) -> dict[str, object]:
        topics = tuple(self._topics.values())
        return information(topics, self._files, self.custom_data)

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Name the recording in what the operating system refuses."""
        try:
            yield
        except (OSError, OutputError) as cause:
            self.has_failed = True
            reason = cause.strerror if isinstance(cause, OSError) else None
            raise BagError(
                f"{self.directory}: cannot be written ({reason or cause}); what was written "
                f"before is kept; make room or record elsewhere"
            ) from cause
