"""Between messages and vectors: one message, or a block of thousands."""

from dql_ros.codecs.encoder import StreamEncoder
from dql_ros.codecs.stamps import stamp_ns
from dql_ros.codecs.stream import CommandEndedError, StreamDecoder
from dql_ros.codecs.transform import StreamTransform

__all__ = [
    "CommandEndedError",
    "StreamDecoder",
    "StreamEncoder",
    "StreamTransform",
    "stamp_ns",
]
