"""Message <-> vector: decoding and encoding by dotted path, index and joint name.

Both directions work on rclpy's message classes and on those of rosbags alike, so that the bag
converter and the nodes share them; encoding is the inverse of decoding, exact where no unit is
converted and no rotation takes another form.
"""

from dql_ros.codecs.decoder import StreamDecoder
from dql_ros.codecs.encoder import StreamEncoder
from dql_ros.codecs.joints import stamp_ns
from dql_ros.codecs.transform import StreamTransform

__all__ = [
    "StreamDecoder",
    "StreamEncoder",
    "StreamTransform",
    "stamp_ns",
]
