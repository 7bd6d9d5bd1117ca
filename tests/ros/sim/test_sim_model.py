"""Robots given as MJCF files: each number of the contract is the model's, under its name."""

from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import yaml

from dql_core.errors import SimulationError
from dql_core.sim import SCARA_ID
from dql_core.sim.scara import MODEL_FILE
from dql_ros.contract import Contract, load_contract
from dql_ros.sim.episodes import EpisodeRunner, open_environment
from tests.ros.contract.test_shipped_contracts import CONTRACTS

MODEL = """
<mujoco model="cart">
  <option timestep="0.005"/>
  <worldbody>
    <body name="ball" pos="0 1 0.5"><freejoint/><geom size="0.1" mass="1"/></body>
    <body name="cart">
      <joint name="rail" type="slide" axis="1 0 0" damping="1"/>
      <geom type="box" size="0.1 0.1 0.05" mass="2" contype="0" conaffinity="0"/>
      <body name="arm" pos="0 0 0.2">
        <joint name="hinge" axis="0 1 0" damping="0.1"/>
        <geom type="capsule" size="0.02" fromto="0 0 0 0 0 0.4" mass="0.5" contype="0"
              conaffinity="0"/>
        <site name="tip" pos="0 0 0.4" euler="0 0 30"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor name="push" joint="rail" ctrlrange="-20 20"/>
    <position name="hold" joint="hinge" kp="30"/>
    <velocity name="damp" joint="hinge" kv="0.2"/>
  </actuator>
  <sensor>
    <gyro site="tip"/>
    <accelerometer site="tip"/>
    <force site="tip"/>
    <framelinvel name="speed" objtype="site" objname="tip"/>
    <jointpos name="encoder" joint="hinge"/>
  </sensor>
  <keyframe>
    <key name="tilted" qpos="0 1 0.5 1 0 0 0 0.25 0.5"/>
  </keyframe>
</mujoco>
"""
CONTRACT = """
robot: cart
rate_hz: 50.0
observation:
  - topic: joint_states
    type: sensor_msgs/msg/JointState
    fields:
      - {path: position, joints: [hinge], unit: deg, message_unit: rad}
      - {path: velocity, joints: [hinge, rail]}
      - {path: effort, joints: [rail]}
  - topic: tip/pose
    type: geometry_msgs/msg/PoseStamped
    fields:
      - {path: pose.position.x}
      - {path: pose.orientation, rotation: 6d}
  - topic: ball
    type: geometry_msgs/msg/PointStamped
    fields: [{path: point.z}]
  - topic: imu/data
    type: sensor_msgs/msg/Imu
    sim: site:tip
    fields:
      - {path: angular_velocity.y}
      - {path: linear_acceleration.z}
      - {path: orientation.w}
  - topic: wrist
    type: geometry_msgs/msg/WrenchStamped
    sim: site:tip
    fields: [{path: wrench.force.z}]
  - topic: speed
    type: std_msgs/msg/Float64MultiArray
    fields: [{path: data, indices: [2, 0]}]
  - topic: encoder
    type: std_msgs/msg/Float64
    fields: [{path: data}]
  - topic: odom
    type: nav_msgs/msg/Odometry
    sim: body:arm
    fields:
      - {path: pose.pose.position.z}
      - {path: twist.twist.angular.y}
action:
  - topic: arm_controller/commands
    type: sensor_msgs/msg/JointState
    fields:
      - {path: position, joints: [hinge], unit: deg, message_unit: rad, low: -60.0, high: 60.0}
  - topic: commands
    type: std_msgs/msg/Float64MultiArray
    fields: [{path: data, indices: [0], names: [push], low: -20.0, high: 20.0}]
"""


@pytest.fixture(name="model")
def _model(tmp_path: Path) -> Path:
    path = tmp_path / "cart.xml"
    path.write_text(MODEL)
    return path


def contract(**changes: Any) -> Contract:
    return Contract.model_validate(yaml.safe_load(CONTRACT) | changes)


def action(**changes: Any) -> dict[str, Any]:
    field = {"path": "data", "indices": [0], "low": -1.0, "high": 1.0, "names": ["push"]}
    kind = {"topic": "commands", "type": "std_msgs/msg/Float64MultiArray"}
    return {"action": [kind | {"fields": [field | changes]}]}


def observing(**changes: Any) -> dict[str, Any]:
    stream = {"topic": "tip", "type": "geometry_msgs/msg/PointStamped"}
    return {"observation": [stream | {"fields": [{"path": "point.x"}]} | changes]}


def test_every_field_is_the_models_own_number(model: Path) -> None:
    environment = open_environment(str(model), contract())
    environment.reset(seed=0, options={"keyframe": "tilted"})
    command = np.array([20.0, -3.0])  # deg, N
    for _ in range(7):
        observation, reward, terminated, truncated, _ = environment.step(command)
    twin = mujoco.MjModel.from_xml_path(str(model))
    data = mujoco.MjData(twin)
    mujoco.mj_resetDataKeyframe(twin, data, 0)
    data.ctrl[:] = [-3.0, np.deg2rad(20.0), 0.0]
    for _ in range(7):
        mujoco.mj_forward(twin, data)
        for _ in range(4):
            mujoco.mj_step(twin, data)
    mujoco.mj_forward(twin, data)
    tip = data.site("tip")
    rotation = tip.xmat.reshape(3, 3)
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, tip.xmat)
    hinge_rate = data.joint("hinge").qvel[0]
    expected = [
        np.rad2deg(data.joint("hinge").qpos[0]),
        hinge_rate,
        data.joint("rail").qvel[0],
        -3.0,
        tip.xpos[0],
        *rotation[:, 0],
        *rotation[:, 1],
        data.body("ball").xpos[2],
        data.sensordata[1],
        data.sensordata[5],
        quaternion[0],
        data.sensordata[8],
        *data.sensor("speed").data[[2, 0]],
        data.joint("hinge").qpos[0],
        data.body("arm").xpos[2],
        hinge_rate,
    ]
    np.testing.assert_allclose(observation, expected, atol=1e-9)
    assert abs(hinge_rate) > 0.01
    assert (reward, terminated, truncated) == (0.0, False, False)


def test_episodes_begin_at_the_keyframe_that_was_asked_for(model: Path) -> None:
    environment = open_environment(str(model), contract(), max_episode_steps=2)
    runner = EpisodeRunner(environment, 20_000_000, seed=0, episodes=0)
    assert runner.begin().observation[0] == 0.0
    runner.set_next_start(seed=None, keyframe="tilted")
    assert runner.begin().observation[0] == pytest.approx(np.rad2deg(0.5))
    runner.advance(np.zeros(2))
    result = runner.advance(np.zeros(2)).result
    assert result is not None
    assert (result.length, result.truncated) == (2, True)
    with pytest.raises(SimulationError, match=r"no keyframe 'tiltet' \(did you mean 'tilted'\?\)"):
        runner.set_next_start(seed=None, keyframe="tiltet")


def test_joints_begin_within_the_noise_and_their_range_drawn_by_the_seed(tmp_path: Path) -> None:
    model = tmp_path / "cart.xml"
    model.write_text(MODEL.replace('type="slide"', 'type="slide" range="-0.1 0.3"'))
    environment = open_environment(str(model), contract(), reset_noise_scale=0.5)
    bare: Any = environment.unwrapped
    places = []
    for seed in range(200):
        environment.reset(seed=seed)
        places.append(bare.data.qpos.copy())
    ball, moved = np.array(places)[:, :7], np.array(places)[:, 7:]  # then rail and hinge
    np.testing.assert_array_equal(ball, [[0, 1, 0.5, 1, 0, 0, 0]] * 200)
    np.testing.assert_array_less(np.abs(moved), 0.5)
    assert moved[:, 0].min() == -0.1
    assert moved[:, 0].max() == 0.3
    assert moved[:, 1].min() < -0.45
    assert moved[:, 1].max() > 0.45
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.3
    assert not bare.data.qvel.any()
    environment.reset(seed=7)
    np.testing.assert_array_equal(bare.data.qpos, places[7])
    environment.reset(seed=7, options={"keyframe": "tilted"})
    np.testing.assert_allclose(bare.data.qpos[8] - 0.5, places[7][8])


def test_an_environment_with_starts_of_its_own_takes_no_noise() -> None:
    rules = load_contract(CONTRACTS / "scara.yaml")
    with pytest.raises(SimulationError, match=r"'reset_noise_scale' 0.5 is for an MJCF file"):
        open_environment(SCARA_ID, rules, reset_noise_scale=0.5)


def test_the_demo_robots_own_model_fits_its_contract() -> None:
    """Without any word of the simulation in the contract."""
    environment = open_environment(str(MODEL_FILE), load_contract(CONTRACTS / "scara.yaml"))
    observation, _ = environment.reset()
    model = mujoco.MjModel.from_xml_path(str(MODEL_FILE))
    np.testing.assert_array_equal(observation[2:], model.body("target").pos[:2])
    before = observation
    for _ in range(5):
        observation, *_ = environment.step(np.array([0.5, 0.0]))
    assert observation[0] - before[0] == pytest.approx(0.25, rel=0.2)


def test_what_is_simulated_does_not_change_the_contracts_hash() -> None:
    plain, told = observing(), observing(sim="site:tip")
    assert contract(**plain).hash() == contract(**told).hash()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (observing(topic="top"), r"top: the model has no site or body or sensor called 'top'"),
        (observing(sim="site:tipp"), r"did you mean 'site:tip'\?"),
        (observing(fields=[{"path": "twist.x"}]), r"site 'tip' has no 'twist.x'; name a sensor"),
        (
            observing(
                type="sensor_msgs/msg/JointState",
                fields=[{"path": "position", "joints": ["hinges"]}],
            ),
            r"tip: the model has no joint 'hinges' \(did you mean 'hinge'\?\)",
        ),
        (
            observing(
                topic="encoder",
                type="std_msgs/msg/Float64MultiArray",
                fields=[{"path": "data", "indices": [1]}],
            ),
            r"sensor 'encoder' of the model has 1 numbers, no index 1",
        ),
        (action(names=["pusch"]), r"no actuator 'pusch' \(did you mean 'push'\?\)"),
        (
            action(path="position", joints=["rail"], indices=[], names=[]),
            r"joint 'rail' of the model has 0 actuators that take a position, .*push \(effort\)",
        ),
        ({"rate_hz": 30.0}, r"period of 0.0333333 s is not a multiple of the model's time step"),
    ],
)
def test_what_the_model_lacks_is_told(model: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SimulationError, match=words):
        open_environment(str(model), contract(**changes))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "arm.xml"
    with pytest.raises(SimulationError, match=r"arm\.xml: no such file"):
        open_environment(str(path), contract())
    path.write_text("<mujoco><worldbody><joint/></worldbody></mujoco>")
    with pytest.raises(SimulationError, match=r"arm\.xml: MuJoCo refuses it: "):
        open_environment(str(path), contract())
