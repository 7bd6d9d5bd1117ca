"""Header stamps of serialised messages, taken from the place where CDR has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from dql_ros.bag.block import MessageBlock

HEADER = "std_msgs/msg/Header"
# Behind the encapsulation header: seconds as int32, then nanoseconds as uint32.
STAMP = slice(4, 12)
SECOND_NS = 1_000_000_000


def begins_with_header(typestore: Typestore, msgtype: str) -> bool:
    """Whether messages of a type begin with a header, as those do that have one."""
    fields = typestore.get_msgdef(msgtype).fields
    return bool(fields) and tuple(fields[0]) == ("header", (Nodetype.NAME, HEADER))


def header_stamps(block: MessageBlock) -> NDArray[np.int64]:
    """Return the stamps of messages that begin with a header, in nanoseconds, shape (n,).

    A message that is too short for one, which only damage explains, counts as not stamped: 0.
    """
    stamps_ns = np.zeros(len(block), np.int64)
    whole = np.flatnonzero(block.lengths >= STAMP.stop)
    places = block.starts[whole, None] + np.arange(STAMP.stop)
    content = block.data[places]
    for little in (True, False):
        rows = np.flatnonzero((content[:, 1] & 1) == little)
        order = "<" if little else ">"
        raw = np.ascontiguousarray(content[rows, STAMP])
        seconds = raw[:, :4].copy().view(f"{order}i4")[:, 0].astype(np.int64)
        nanoseconds = raw[:, 4:].copy().view(f"{order}u4")[:, 0].astype(np.int64)
        stamps_ns[whole[rows]] = seconds * SECOND_NS + nanoseconds
    return stamps_ns
