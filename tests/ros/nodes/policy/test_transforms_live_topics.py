"""Transforms over real topics: recorded from several nodes, and seen as they were converted."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Twist

from dql_core.data.dataset import load_dataset
from dql_ros.bag.reader import Bag
from dql_ros.codecs.installed import message_class
from dql_ros.contract import load_contract
from dql_ros.contract.transforms import TRANSFORM_TYPE
from dql_ros.convert.convert import Source, convert
from dql_ros.nodes.topics import reliable
from dql_ros.processes import NodeCommand, NodeProcesses, own_domain
from tests.ros.broadcasting import START_NS, Sent, commands, message, messages, pose, pose_of
from tests.ros.interface_package import TF2_MSGS, InterfacePackage, can_be_made, make_package
from tests.ros.nodes.policy.test_bag_live_topics import check_parity
from tests.ros.nodes.robot import Probe

pytestmark = pytest.mark.ros
MS = 1_000_000
CONTRACT = """
robot: manipulator
rate_hz: 20.0
observation:
  - tf: {parent: camera, child: tool0}
    max_age_s: 0.08
    fields:
      - {path: translation.x, unit: m}
      - {path: translation.y, unit: m, offset: 0.5, scale: 2.0}
      - {rotation: 6d}
      - {rotation: yaw}
action:
  - topic: cmd_vel
    type: geometry_msgs/msg/Twist
    fields: [{path: linear.x, low: -1.0, high: 1.0}]
"""


@pytest.fixture(scope="module", name="package")
def _package(tmp_path_factory: pytest.TempPathFactory) -> InterfacePackage | None:
    """Tf's messages, made here; ``None`` where ROS has got them."""
    if find_spec("tf2_msgs") is not None:
        return None
    if not can_be_made():
        pytest.skip("neither tf2_msgs nor what makes it is installed")
    made = make_package(tmp_path_factory.mktemp("tf2_msgs") / "build", *TF2_MSGS)
    made.load()
    return made


@pytest.fixture(name="tf2_msgs")
def _tf2_msgs(package: InterfacePackage | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process and the nodes have tf's messages."""
    if package is None:
        return
    monkeypatch.syspath_prepend(str(package.modules))
    for key, folder in (("PYTHONPATH", package.modules), ("LD_LIBRARY_PATH", package.libraries)):
        known = os.environ.get(key)
        monkeypatch.setenv(key, f"{folder}:{known}" if known else str(folder))


def test_a_bag_of_transforms_replayed_over_topics_gives_the_converters_vectors(
    tf2_msgs: None, tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path]
) -> None:
    contract = tmp_path / "manipulator.yaml"
    contract.write_text(CONTRACT)
    rng = np.random.default_rng(5)
    sent = [
        Sent("base", "mast", 0, pose(rng), START_NS + 3 * MS, True),
        Sent("mast", "camera", 0, pose(rng), START_NS + 211 * MS, True),
        Sent("mast", "camera", 0, pose(rng), START_NS + 5000 * MS, True),
    ]
    sent[2] = Sent("mast", "camera", 0, sent[1].numbers, START_NS + 2501 * MS, True)  # again
    now_ns = START_NS
    for index in range(250):
        now_ns += 1000 * int(rng.exponential(10_000)) + (200 * MS if index % 80 == 79 else 0) + 1
        late_ns = 1000 * int(rng.integers(1, 20_000))
        parent, child = (("base", "arm"), ("arm", "tool0"), ("odom", "base"))[index % 3]
        sent.append(Sent(parent, child, now_ns - late_ns, pose(rng), now_ns))
    span = range(START_NS, max(each.arrived_ns for each in sent), 40 * MS)
    found = sorted(
        [*messages(blank, sent), *commands(blank, span)], key=lambda message: message[2]
    )
    bag = record(tmp_path / "bag", found)
    assert check_parity(contract, bag, tmp_path) > 30


def test_a_recorder_hears_every_broadcaster_and_its_bag_converts(
    tf2_msgs: None, tmp_path: Path
) -> None:
    contract = tmp_path / "manipulator.yaml"
    contract.write_text(CONTRACT.replace("max_age_s: 0.08", "max_age_s: 5.0"))
    kind, turned = message_class(TRANSFORM_TYPE), [0.0, 0.0, 0.6, 0.8]
    mast = Sent("base", "mast", 0, [0.1, 0.2, 0.3, *turned])
    camera = Sent("mast", "camera", 0, [0.4, 0.5, 0.6, *turned])
    with own_domain() as domain, NodeProcesses(domain) as processes:
        probe = Probe(domain, lambda: None)
        try:
            latched = reliable(1, latched=True)
            statics = [probe.node.create_publisher(kind, "/tf_static", latched) for _ in range(2)]
            moving = probe.node.create_publisher(kind, "/tf", reliable(100))
            command = probe.node.create_publisher(Twist, "/cmd_vel", reliable(10))
            for publisher, sent in zip(statics, (mast, camera), strict=True):
                publisher.publish(message(blank_of_ros, [sent]))
            parameters = {"contract": str(contract), "out": str(tmp_path / "bag")}
            recorder = processes.start(
                NodeCommand("dql_ros.nodes.recorder_node", "recorder", parameters)
            )
            everything = (*statics, moving, command)
            probe.until(lambda: all(p.get_subscription_count() for p in everything), "it to hear")
            for _ in range(100):
                now_ns = probe.node.get_clock().now().nanoseconds
                tool = Sent("base", "tool0", now_ns, [now_ns % 1e9 / 1e9, 0.0, 0.0, *turned])
                moving.publish(message(blank_of_ros, [tool]))
                command.publish(Twist())
                probe.spin()
            recorder.send_signal(signal.SIGINT)
            probe.until(lambda: recorder.wait(0.0), "the recording to be finished")
            assert recorder.exit_code == 0, recorder.last_words
        finally:
            probe.close()
    with Bag(tmp_path / "bag") as bag:
        assert bag.topics["/tf_static"].count == 2
        assert bag.topics["/tf"].count == 100
    convert(Source(load_contract(contract), [tmp_path / "bag"]), tmp_path / "out")
    observations = load_dataset(tmp_path / "out").episodes[0].observations
    known = {each.child: each for each in (mast, camera)}
    known["tool0"] = Sent("base", "tool0", 0, [0.0, 0.0, 0.0, *turned])
    still = pose_of(known, "tool0", "camera")
    # Where the tool goes along the base's x axis, the rotation stays.
    expected = [*still[:3, 0], *still[:3, 1]]
    np.testing.assert_allclose(observations[:, 2:8], [expected] * len(observations), atol=1e-6)


def blank_of_ros(msgtype: str) -> Any:
    return message_class(msgtype)()
