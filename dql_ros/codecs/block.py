"""Serialised messages of a bag in blocks, as they lie in its chunks: no object a message."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class MessageBlock:
    """Some messages of one topic, still serialised.

    Attributes:
        topic: Absolute topic name.
        msgtype: Message type, ``package/msg/Name``.
        log_times_ns: When each was received, on the recording's clock; shape (n,), ascending,
            messages of equal times in the order of the recording.
        data: Bytes that hold all of them, dtype uint8.
        starts: Where in ``data`` each begins, with its CDR encapsulation header; shape (n,).
        lengths: How many bytes each has; shape (n,).
        written: Numbers that ascend in the order in which they were recorded, shape (n,); ``None``
            where ``starts`` do.
        shift_ns: What was added to the log times, since the recording's clock had been set back;
            header stamps are to be shifted as far.
    """

    topic: str
    msgtype: str
    log_times_ns: NDArray[np.int64]
    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    written: NDArray[np.int64] | None = None
    shift_ns: int = 0

    def __len__(self) -> int:
        """Number of messages, n."""
        return len(self.log_times_ns)

    def first(self, count: int) -> MessageBlock:
        """Return the block of the first ``count`` messages."""
        return self.select(slice(count))

    def select(self, chosen: slice | NDArray[np.bool_] | NDArray[np.intp]) -> MessageBlock:
        """Return some of the messages, by flags or by ascending places."""
        return replace(
            self,
            log_times_ns=self.log_times_ns[chosen],
            starts=self.starts[chosen],
            lengths=self.lengths[chosen],
            written=None if self.written is None else self.written[chosen],
        )

    def payload(self, index: int) -> bytes:
        """Return message ``index``, serialised."""
        start = int(self.starts[index])
        return self.data[start : start + int(self.lengths[index])].tobytes()


@dataclass(frozen=True)
class Batch:
    """What one step of reading yields.

    Attributes:
        blocks: Any number of a topic, in any order.
        complete_until_ns: No later batch has a message with a log time before this one.
        bytes_done: How much of the bag's files is read, for progress.
    """

    blocks: tuple[MessageBlock, ...]
    complete_until_ns: int
    bytes_done: int
