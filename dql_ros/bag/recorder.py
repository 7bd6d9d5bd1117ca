"""Records what arrives, one bag after the other, without ROS."""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from rosbags.typesys import Stores, get_typestore

from dql_core.documents import parse_json
from dql_core.errors import BagError, visible
from dql_ros.bag.metadata import TopicMetadata, describe
from dql_ros.bag.sim_time import SimTimeOrder, StampedMessage
from dql_ros.bag.writer import BagWriter
from dql_ros.contract.transforms import TRANSFORM_TYPE

# Keys of metadata.yaml's custom_data beside the contract's.
LABELS_KEY = "dql_labels"
RECORDING_KEY = "dql_recording"

MARKER_TYPE = "std_msgs/msg/String"
# Of a topic of static transforms no more messages are kept for the next bag.
MAX_KEPT = 1000
_DISK_LOOK_NS = 1_000_000_000


@dataclass(frozen=True)
class RecorderOptions:
    """How to record.

    Attributes:
        out: Folder of the first bag; the following ones have a number appended.
        contract_text: The robot contract's yaml.
        marker_topic: Topic in the bag that the labels appear on.
        numbered: Whether the first bag has a number appended too, if its folder exists.
        compression: ``zstd``, ``lz4`` or ``none``.
        max_file_bytes: Size at which a file is followed by another; 0 for never.
        max_file_ns: Span of log time at which it is; 0 for never.
        flush_ns: Messages are written down after so long in wall time at the latest.
        min_free_bytes: A recording is finished when the disk has less room than this.
    """

    out: Path
    contract_text: str
    marker_topic: str
    numbered: bool = False
    compression: str = "zstd"
    max_file_bytes: int = 0
    max_file_ns: int = 0
    flush_ns: int = 1_000_000_000
    min_free_bytes: int = 0


@dataclass
class _Session:
    """The bag that is being recorded."""

    writer: BagWriter
    late_before: int
    dropped_before: int
    handed_over: int = 0
    labels: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class FinishedBag:
    """A recording that is over.

    Attributes:
        path: The bag.
        counts: Messages in it, by the topics' labels.
        unwritten: Messages that arrived and could not be written.
        late: Messages that came too late to be written in order; only with simulated time.
        dropped: Messages from before the first clock; only with simulated time.
        error: Why it ended before it was stopped; empty if it did not.
    """

    path: Path
    counts: dict[str, int]
    unwritten: int
    late: int
    dropped: int
    error: str


class Recorder:
    """Records bags.

    Without an order, a message's log time is when it was received; with one, it is the simulated
    time at which it was sent.

    Args:
        options: How to record.
        order: Gives the simulated times.

    Attributes:
        error: Why recording has failed; empty if it has not.
    """

    def __init__(self, options: RecorderOptions, order: SimTimeOrder | None = None) -> None:
        self.error = ""
        self._options = options
        self._order = order
        self._typestore = get_typestore(Stores.ROS2_JAZZY)
        marker = describe(options.marker_topic, MARKER_TYPE, (), None, self._typestore)
        self._topics = {marker.label: marker}
        self._latched: dict[str, list[bytes]] = {}
        self._pending_labels: deque[str] = deque()
        self._session: _Session | None = None
        self._bags = 0
        self._looked_ns = self._flushed_ns = 0

    @property
    def bag(self) -> Path | None:
        """The bag that is being recorded."""
        return None if self._session is None else self._session.writer.directory

    @property
    def is_recording(self) -> bool:
        """Whether messages are written."""
        return self._session is not None and not self.error

    @property
    def size_bytes(self) -> int:
        """Bytes in the file that is being written."""
        return 0 if self._session is None else self._session.writer.size_bytes

    def start(self, now_ns: int) -> Path:
        """Begin a bag, with what latched topics have sent last, and return its path.

        Args:
            now_ns: Wall time.

        Raises:
            BagError: If one is being recorded, its folder exists, or it cannot be made.
        """
        if self._session is not None:
            raise BagError(f"already recording into {self.bag}; stop that first")
        options = self._options
        writer = BagWriter(
            self._next_folder(),
            contract_text=options.contract_text,
            compression=options.compression,
            max_file_bytes=options.max_file_bytes,
            max_file_ns=options.max_file_ns,
        )
        self.error = ""
        self._bags += 1
        self._session = _Session(writer, *self._out_of_order())
        for topic in self._topics.values():
            writer.add(topic)
        for name, kept in self._latched.items():
            for data in kept:
                self._hand_over(name, data, now_ns, now_ns)
        return writer.directory

    def stop(self, lost: Mapping[str, int], remarks: Sequence[str] = ()) -> FinishedBag:
        """Finish the bag and return what is in it.

        Args:
            lost: Messages that were lost before they were received, by topic.
            remarks: What else a reader of the bag should know.

        Raises:
            BagError: If none is being recorded.
        """
        if self._session is None:
            raise BagError("nothing is being recorded")
        if self._order is not None:
            self._write(self._order.flush())
        session, self._session = self._session, None
        if not session.writer.has_failed:
            self._attempt(session.writer.flush)
        finished = self._finished(session)
        session.writer.custom_data[LABELS_KEY] = json.dumps(session.labels)
        session.writer.custom_data[RECORDING_KEY] = json.dumps(
            {
                "lost": {topic: count for topic, count in lost.items() if count},
                "unwritten": finished.unwritten,
                "late": finished.late,
                "dropped": finished.dropped,
                "error": self.error,
                "remarks": list(remarks),
            }
        )
        self._pending_labels.clear()
        self._attempt(session.writer.close)
        # Only now is everything in the files that ever will be.
        return self._finished(session)

    def announce(self, topic: TopicMetadata, *, latched: bool) -> None:
        """Record a further topic, in this bag and in those that follow.

        Args:
            topic: The topic.
            latched: Whether its last message stays valid, and so belongs into each bag; of
                transforms, which come from several nodes, each message does.
        """
        self._topics[topic.label] = topic
        if latched:
            self._latched.setdefault(topic.label, [])
        if self._session is not None and self.is_recording:
            self._attempt(self._session.writer.add, topic)

    def receive(self, topic: str, data: bytes, received_ns: int, source_ns: int) -> None:
        """Take one message of an announced topic.

        Args:
            topic: Its topic's label.
            data: The message, serialised.
            received_ns: When it was received.
            source_ns: When it was sent.
        """
        if topic in self._latched:
            self._keep(topic, data)
        if self._session is not None:
            self._hand_over(topic, data, received_ns, source_ns)

    def _keep(self, topic: str, data: bytes) -> None:
        """Keep what a latched topic has sent for the next bag."""
        is_of_transforms = self._topics[topic].msgtype == TRANSFORM_TYPE
        others = [each for each in self._latched[topic] if each != data]
        self._latched[topic] = [*others, data][-(MAX_KEPT if is_of_transforms else 1) :]

    def receive_clock(self, sim_ns: int, source_ns: int) -> None:
        """Note that the simulated time became ``sim_ns`` at wall time ``source_ns``."""
        if self._order is not None:
            self._order.push_clock(sim_ns, source_ns)

    def label(self, text: str, now_ns: int) -> None:
        """Mark the present in the bag.

        Args:
            text: What happened: ``success``, say.
            now_ns: Wall time.

        Raises:
            BagError: If nothing is being recorded.
        """
        if not self.is_recording:
            raise BagError(f"'{visible(text[:80])}' labels nothing: nothing is being recorded")
        message = self._typestore.types[MARKER_TYPE](data=text)
        data = bytes(self._typestore.serialize_cdr(message, MARKER_TYPE))
        self._pending_labels.append(text)
        self._hand_over(self._options.marker_topic, data, now_ns, now_ns)

    def advance(self, now_ns: int) -> None:
        """Write what is due, and see that the disk has room.

        Args:
            now_ns: Wall time.
        """
        if self._order is not None:
            self._write(self._order.pop_ready(now_ns))
        if self._session is None or self.error:
            return
        if now_ns - self._flushed_ns >= self._options.flush_ns:
            self._flushed_ns = now_ns
            self._attempt(self._session.writer.flush)
        if now_ns - self._looked_ns >= _DISK_LOOK_NS:
            self._looked_ns = now_ns
            self._look_at_disk(self._session.writer.directory)

    def _hand_over(self, topic: str, data: bytes, received_ns: int, source_ns: int) -> None:
        if self._session is not None:
            self._session.handed_over += 1
        if self._order is not None:
            self._order.push(topic, data, source_ns)
        else:
            self._write([StampedMessage(topic, data, received_ns, source_ns)])

    def _write(self, messages: list[StampedMessage]) -> None:
        session = self._session
        for message in messages:
            if session is None or self.error:
                return
            self._attempt(
                session.writer.write,
                message.topic,
                message.data,
                message.log_time_ns,
                message.publish_time_ns,
            )
            if message.topic == self._options.marker_topic and self._pending_labels:
                label = self._pending_labels.popleft()
                session.labels.append({"label": label, "log_time_ns": message.log_time_ns})

    def _attempt(self, action: Any, *arguments: Any) -> None:
        try:
            action(*arguments)
        except BagError as error:
            self.error = self.error or str(error)

    def _look_at_disk(self, folder: Path) -> None:
        free = shutil.disk_usage(folder).free
        if free < self._options.min_free_bytes:
            self.error = (
                f"{folder}: the disk has {free / 1e6:.0f} MB left, under the limit of "
                f"{self._options.min_free_bytes / 1e6:.0f} MB; make room or record elsewhere"
            )

    def _finished(self, session: _Session) -> FinishedBag:
        counts = session.writer.counts
        late, dropped = self._out_of_order()
        dropped -= session.dropped_before
        return FinishedBag(
            path=session.writer.directory,
            counts=dict(counts),
            unwritten=max(session.handed_over - dropped - counts.total(), 0),
            late=late - session.late_before,
            dropped=dropped,
            error=self.error,
        )

    def _out_of_order(self) -> tuple[int, int]:
        """Messages so far that came late, and from before the first clock."""
        return (0, 0) if self._order is None else (self._order.late, self._order.dropped)

    def _next_folder(self) -> Path:
        out = self._options.out
        if not self._bags and not (self._options.numbered and out.exists()):
            return out
        first = max(self._bags, 1)
        numbered = (out.with_name(f"{out.name}_{number}") for number in count(first))
        return next(path for path in numbered if not path.exists())


def recorders_notes(custom_data: Mapping[str, str]) -> Iterator[str]:
    """Yield what a bag lacks by its recorder's notes, a sentence each.

    Args:
        custom_data: The texts that the bag carries; anybody may have written them.
    """
    try:
        notes = parse_json(custom_data.get(RECORDING_KEY, "{}"), RECORDING_KEY, BagError)
    except BagError:
        return
    lost, remarks = notes.get("lost"), notes.get("remarks")
    for topic, missed in lost.items() if isinstance(lost, dict) else ():
        yield f"its recorder missed {missed} messages of {topic}"
    for remark in remarks if isinstance(remarks, list) else ():
        yield str(remark)
