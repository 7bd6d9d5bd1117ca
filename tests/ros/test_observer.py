from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dql_core.errors import ContractError
from dql_ros.contract import Contract, load_contract
from dql_ros.observer import Observer

SECOND_NS = 1_000_000_000
ARM = """
robot: arm
rate_hz: 20.0
observation:
  - topic: joint_states
    type: sensor_msgs/msg/JointState
    max_age_s: 0.2
    fields:
      - {path: position, joints: [shoulder, elbow]}
      - {path: velocity, joints: [shoulder, elbow]}
  - topic: target
    type: geometry_msgs/msg/PointStamped
    latched: true
    fields: [{path: point.x}, {path: point.y}]
action:
  - topic: commands
    type: std_msgs/msg/Float64MultiArray
    fields: [{path: data, indices: [0, 1], low: -2.0, high: 2.0}]
"""


@pytest.fixture(name="contract")
def _contract(tmp_path: Path) -> Contract:
    (tmp_path / "arm.yaml").write_text(ARM)
    return load_contract(tmp_path / "arm.yaml")


def state(blank: Callable[[str], Any], stamp_ns: int, shoulder: float = 0.1) -> Any:
    message = blank("sensor_msgs/msg/JointState")
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, SECOND_NS)
    message.name = ["elbow", "shoulder"]
    message.position = np.array([0.2, shoulder])
    message.velocity = np.array([0.4, 0.3])
    return message


def target(blank: Callable[[str], Any], stamp_ns: int, x: float = 0.5) -> Any:
    message = blank("geometry_msgs/msg/PointStamped")
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, SECOND_NS)
    message.point.x, message.point.y = x, 0.6
    return message


def test_the_vector_is_in_the_contracts_order(
    contract: Contract, blank: Callable[[str], Any]
) -> None:
    observer = Observer(contract)
    assert observer.receive("target", target(blank, 0), received_ns=99) == 0
    observer.receive("joint_states", state(blank, 5), received_ns=99)
    observation = observer.at(5)
    assert observation.values is not None
    expected = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=np.float32)
    np.testing.assert_array_equal(observation.values, expected)


def test_nothing_is_made_up_for_a_stream_that_never_came(
    contract: Contract, blank: Callable[[str], Any]
) -> None:
    observer = Observer(contract)
    observer.receive("joint_states", state(blank, 0), received_ns=0)
    observation = observer.at(0)
    assert observation.values is None
    assert observation.missing == ("target",)


def test_a_stream_without_header_stamps_is_stamped_on_receipt(
    contract: Contract, blank: Callable[[str], Any]
) -> None:
    stream = contract.observation[0].model_copy(update={"stamp": "receive"})
    received = contract.model_copy(update={"observation": (stream, contract.observation[1])})
    assert Observer(received).receive("joint_states", state(blank, 5), received_ns=99) == 99


def test_a_clock_that_was_set_back_makes_a_stream_begin_anew(
    contract: Contract, blank: Callable[[str], Any]
) -> None:
    observer = Observer(contract)
    observer.receive("target", target(blank, 0), received_ns=0)
    for stamp_ns, shoulder in ((90 * SECOND_NS, 0.9), (SECOND_NS, 0.7)):
        observer.receive("joint_states", state(blank, stamp_ns, shoulder), received_ns=0)
    observation = observer.at(90 * SECOND_NS)
    assert observation.missing == ("joint_states",)
    assert observation.ages_ns["joint_states"] == 89 * SECOND_NS


def test_a_message_without_a_joint_is_refused(
    contract: Contract, blank: Callable[[str], Any]
) -> None:
    message = state(blank, 0)
    message.name = ["elbow", "wrist"]
    with pytest.raises(ContractError, match=r"'shoulder' is not in the message.*elbow, wrist"):
        Observer(contract).receive("joint_states", message, received_ns=0)
