"""Poses are those of tf2 at the stamps themselves, on machines that have it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_ros.codecs.frame_tree import Edge, FrameTree
from dql_ros.codecs.rotation import columns_of_quaternions
from dql_ros.codecs.transforms import WIDTH, PoseReader, broadcasts
from dql_ros.contract import TransformStream
from tests.ros.broadcasting import START_NS, Sent, message, observed, pose

MS = 1_000_000
TREE = {
    "map": ["odom"],
    "odom": ["base"],
    "base": ["arm", "camera"],
    "arm": ["link"],
    "link": ["tool"],
}


@pytest.mark.parametrize(
    ("parent", "child"), [("map", "tool"), ("camera", "tool"), ("tool", "odom"), ("base", "arm")]
)
def test_a_pose_at_a_stamp_is_tf2s(parent: str, child: str) -> None:
    tf2_ros = pytest.importorskip("tf2_ros")
    time = pytest.importorskip("rclpy.time")
    topics = pytest.importorskip("dql_ros.nodes.topics")
    rng = np.random.default_rng(0)
    buffer = tf2_ros.Buffer()
    stream = TransformStream.model_validate(observed(parent, child))
    for stamp_ns in range(START_NS, START_NS + 1000 * MS, 50 * MS):
        tree, held = FrameTree(stream), dict[Edge, NDArray[np.float64]]()
        sent = [
            Sent(above, below, stamp_ns, pose(rng))
            for above, frames in TREE.items()
            for below in frames
        ]
        whole = message(lambda msgtype: topics.message_class(msgtype)(), sent)
        for each in whole.transforms:
            buffer.set_transform(each, "test")
        for found in broadcasts(whole, "/tf", is_static=False):
            tree.add(found.edge)
            held[found.edge] = np.array(found.numbers).reshape(1, WIDTH)
        assert tree.chain is not None
        ours = PoseReader(stream)(tree.chain, [held[step.edge] for step in tree.chain])[0]
        theirs = buffer.lookup_transform(parent, child, time.Time(nanoseconds=stamp_ns)).transform
        x, y, z = theirs.translation.x, theirs.translation.y, theirs.translation.z
        np.testing.assert_allclose(ours[:3], [x, y, z], atol=1e-9)
        turned = theirs.rotation
        numbers = np.array([[turned.x, turned.y, turned.z, turned.w]])
        np.testing.assert_allclose(ours[3:], columns_of_quaternions(numbers)[0], atol=1e-9)
