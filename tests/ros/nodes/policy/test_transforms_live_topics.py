"""Transforms over real topics: the policy sees the poses that the converter wrote."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ros.broadcasting import START_NS, Sent, commands, messages, pose
from tests.ros.interface_package import TF2_MSGS, can_be_made, make_package
from tests.ros.nodes.policy.test_bag_live_topics import check_parity

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


@pytest.fixture(name="tf2_msgs")
def _tf2_msgs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process and the nodes have tf's messages, made here where ROS has not got them."""
    if find_spec("tf2_msgs") is not None:
        return
    if not can_be_made():
        pytest.skip("neither tf2_msgs nor what makes it is installed")
    made = make_package(tmp_path_factory.mktemp("tf2_msgs") / "build", *TF2_MSGS)
    made.load()
    monkeypatch.syspath_prepend(str(made.modules))
    for key, folder in (("PYTHONPATH", made.modules), ("LD_LIBRARY_PATH", made.libraries)):
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
