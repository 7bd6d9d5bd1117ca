"""A robot of node processes, and bundles for the robots."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dql_ros.processes import own_domain
from tests.ros.nodes.node_server import forked_closed_loops
from tests.ros.nodes.robot import SAFE, SCARA, Robot
from tests.ros.untrained import untrained_bundle

# Two streams that are not latched, of which one carries no joint names, and no 'terminated'.
PENDULUM = """
robot: pendulum
rate_hz: 20.0
observation:
  - topic: direction
    type: geometry_msgs/msg/PointStamped
    fields: [{path: point.x}, {path: point.y}]
  - topic: joint_states
    type: sensor_msgs/msg/JointState
    fields: [{path: velocity, joints: [pivot], unit: rad/s}]
action:
  - topic: torque
    type: std_msgs/msg/Float64MultiArray
    fields: [{path: data, indices: [0], unit: N m, low: -2.0, high: 2.0}]
reward: {topic: reward, type: std_msgs/msg/Float64}
episode:
  truncated: {topic: truncated, type: std_msgs/msg/Bool}
on_fault: {command: [0.125]}
"""


@pytest.fixture(name="robot")
def _robot() -> Iterator[Robot]:
    with own_domain() as domain, Robot(domain) as robot:
        yield robot


@pytest.fixture(name="forked")
def _forked() -> Iterator[None]:
    with forked_closed_loops():
        yield


@pytest.fixture(scope="session", name="pendulum")
def _pendulum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the contract of Gymnasium's Pendulum-v1."""
    path = tmp_path_factory.mktemp("contract") / "pendulum.yaml"
    path.write_text(PENDULUM)
    return path


@pytest.fixture(scope="session", name="pendulum_bundle")
def _pendulum_bundle(tmp_path_factory: pytest.TempPathFactory, pendulum: Path) -> Path:
    return untrained_bundle(tmp_path_factory.mktemp("pendulum"), pendulum)


@pytest.fixture(scope="session", name="scara")
def _scara(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the demo robot's contract, with a safe command that no policy sends by chance."""
    path = tmp_path_factory.mktemp("contract") / "scara.yaml"
    path.write_text(SCARA.read_text().replace("[0.0, 0.0]", str(SAFE)))
    return path


@pytest.fixture(scope="session", name="scara_bundle")
def _scara_bundle(tmp_path_factory: pytest.TempPathFactory, scara: Path) -> Path:
    return untrained_bundle(tmp_path_factory.mktemp("scara"), scara)
