import mujoco
import numpy as np
import pytest

from dql_core.sim.scara import (
    MODEL_FILE,
    PEG_RADIUS,
    POST_CENTRE,
    POST_RADIUS,
    START_CENTRE,
    SUCCESS_RADIUS,
    TARGET_CENTRE,
    joints_at,
    tip_jacobian,
    tip_position,
    way_past_post,
)


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(str(MODEL_FILE))


def test_the_tip_is_where_mujoco_has_it(model: mujoco.MjModel) -> None:
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    low, high = model.jnt_range.T
    for joints in rng.uniform(low, high, (50, 2)):
        data.qpos[:] = joints
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(tip_position(joints), data.site("tip").xpos[:2], atol=1e-12)


def test_the_jacobian_is_the_derivative_of_the_position() -> None:
    joints, step = np.array([-0.7, 1.3]), 1e-6
    for joint in (0, 1):
        change = step * np.eye(2)[joint]
        difference = tip_position(joints + change) - tip_position(joints - change)
        np.testing.assert_allclose(tip_jacobian(joints)[:, joint], difference / (2 * step))


def test_the_inverse_gives_the_position_back_with_the_elbow_bent_to_one_side() -> None:
    rng = np.random.default_rng(1)
    for position in rng.uniform([0.15, -0.25], [0.4, 0.25], (50, 2)):
        joints = joints_at(position)
        assert joints[1] > 0
        np.testing.assert_allclose(tip_position(joints), position, atol=1e-12)


def test_the_layout_is_the_models(model: mujoco.MjModel) -> None:
    np.testing.assert_array_equal(model.geom("post").pos[:2], POST_CENTRE)
    np.testing.assert_array_equal(model.geom("start").pos[:2], START_CENTRE)
    np.testing.assert_array_equal(model.body("target").pos[:2], TARGET_CENTRE)
    sizes = [model.geom(name).size[0] for name in ("post", "peg", "target")]
    assert sizes == [POST_RADIUS, PEG_RADIUS, SUCCESS_RADIUS]


def test_the_way_is_told_by_the_step_that_passes_the_post() -> None:
    inside, outside = POST_CENTRE[0] - 0.1, POST_CENTRE[0] + 0.1
    assert way_past_post(np.array([inside, -0.01]), np.array([inside, 0.01])) == "inner"
    assert way_past_post(np.array([outside, -0.01]), np.array([outside, 0.01])) == "outer"
    assert way_past_post(np.array([inside, -0.02]), np.array([inside, -0.01])) is None
    assert way_past_post(np.array([inside, 0.01]), np.array([inside, -0.01])) is None
