import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from numpy.typing import NDArray

import dql_core.sim
from dql_core.sim.scara import (
    CONTROL_PERIOD_S,
    PEG_RADIUS,
    POST_CENTRE,
    POST_RADIUS,
    REGION_HALF_WIDTH,
    START_CENTRE,
    SUCCESS_RADIUS,
    TARGET_CENTRE,
    joints_at,
    tip_jacobian,
    tip_position,
)
from dql_core.sim.scara_env import MAX_JOINT_VELOCITY, ScaraReachEnv

Vector = NDArray[np.float64]
STAY = np.zeros(2)
MAX_STEPS = 40


@pytest.fixture
def env() -> ScaraReachEnv:
    return ScaraReachEnv()


def towards(env: ScaraReachEnv, goal: Vector, speed: float = 0.3) -> Vector:
    """Joint velocities that move the tool straight to ``goal``."""
    offset = goal - env.tip
    velocity = offset / np.linalg.norm(offset) * speed
    action = np.linalg.solve(tip_jacobian(env.data.qpos), velocity).astype(np.float64)
    return action.clip(-MAX_JOINT_VELOCITY, MAX_JOINT_VELOCITY)


def drive(
    env: ScaraReachEnv, corners: list[Vector], steps: int = 60
) -> tuple[float, dict[str, object]]:
    """Drive through ``corners`` and return the episode's return and last info."""
    total, left = 0.0, list(corners)
    for _ in range(steps):
        if len(left) > 1 and np.linalg.norm(env.tip - left[0]) < 0.03:
            left.pop(0)
        _, reward, terminated, _, info = env.step(towards(env, left[0]))
        total += reward
        if terminated:
            return total, info
    return total, info


def around(side: float, target: Vector) -> list[Vector]:
    """Corners of a path past the post, on the base's side (-1) or beyond it (+1)."""
    beside = POST_CENTRE[0] + side * (POST_RADIUS + PEG_RADIUS + 0.03)
    return [np.array([beside, y]) for y in (-POST_RADIUS, POST_RADIUS)] + [target]


def test_equal_seeds_give_equal_episodes_to_the_bit() -> None:
    rollouts = []
    for _ in range(2):
        env, rng = gymnasium.make(dql_core.sim.SCARA_ID), np.random.default_rng(3)
        rows = [env.reset(seed=11)[0]]
        for _ in range(12):
            observation, reward, *_ = env.step(rng.uniform(-1, 1, 2))
            rows += [observation, np.array([reward])]
        rollouts.append(np.concatenate(rows))
    np.testing.assert_array_equal(rollouts[0], rollouts[1])


def test_start_and_target_are_drawn_from_their_squares(env: ScaraReachEnv) -> None:
    starts, targets = [], []
    for seed in range(50):
        observation, _ = env.reset(seed=seed)
        starts.append(tip_position(observation[:2]))
        targets.append(observation[-2:])
    for points, centre in ((starts, START_CENTRE), (targets, TARGET_CENTRE)):
        assert np.abs(np.array(points) - centre).max() <= REGION_HALF_WIDTH + 1e-9
        assert np.ptp(points, axis=0).min() > REGION_HALF_WIDTH


def test_observations_are_float64_and_in_their_space(env: ScaraReachEnv) -> None:
    observation, _ = env.reset(seed=0)
    stepped, *_ = env.step(STAY)
    assert isinstance(env.action_space, Box)
    assert observation.dtype == env.action_space.dtype == np.float64
    assert env.observation_space.contains(observation)
    assert env.observation_space.contains(stepped)


def test_the_control_period_is_a_whole_number_of_simulation_steps(env: ScaraReachEnv) -> None:
    env.reset(seed=0)
    env.step(STAY)
    assert env.data.time == pytest.approx(CONTROL_PERIOD_S, abs=1e-12)


def test_joints_follow_the_commanded_velocity(env: ScaraReachEnv) -> None:
    env.reset(seed=0)
    command = np.array([-0.5, 0.4])
    for _ in range(5):
        before = env.data.qpos.copy()
        env.step(command)
    np.testing.assert_allclose((env.data.qpos - before) / CONTROL_PERIOD_S, command, rtol=0.15)


def test_the_straight_line_hits_the_post_and_that_ends_the_episode(env: ScaraReachEnv) -> None:
    for seed in range(10):
        observation, _ = env.reset(seed=seed)
        total, info = drive(env, [observation[-2:]])
        assert info["collision"]
        assert not info["is_success"]
        assert total < -10


@pytest.mark.parametrize(("side", "way"), [(-1.0, "inner"), (1.0, "outer")])
def test_both_ways_lead_to_the_target(env: ScaraReachEnv, side: float, way: str) -> None:
    for seed in range(10):
        observation, _ = env.reset(seed=seed)
        target = observation[-2:]
        total, info = drive(env, around(side, target))
        assert info == {"is_success": True, "collision": False, "way": way}
        assert total > 0
        assert np.linalg.norm(env.tip - target) < SUCCESS_RADIUS


def test_the_inner_way_has_the_higher_return(env: ScaraReachEnv) -> None:
    for seed in range(10):
        target = env.reset(seed=seed)[0][-2:]
        inner, _ = drive(env, around(-1.0, target))
        env.reset(seed=seed)
        outer, _ = drive(env, around(1.0, target))
        assert inner > outer + 1.0


def test_only_the_peg_can_hit_the_post(env: ScaraReachEnv) -> None:
    env.reset(seed=0)
    touching = np.flatnonzero(env.model.geom_contype | env.model.geom_conaffinity)
    assert {env.model.geom(int(index)).name for index in touching} == {"post", "peg"}
    env.data.qpos[:] = joints_at(np.array([0.5, 0.0]))  # the forearm is above the post
    _, _, terminated, _, info = env.step(STAY)
    assert not terminated
    assert not info["collision"]


def test_standing_still_runs_out_of_time() -> None:
    env = gymnasium.make(dql_core.sim.SCARA_ID)
    env.reset(seed=0)
    for _ in range(MAX_STEPS - 1):
        assert env.step(STAY)[2:4] == (False, False)
    _, _, terminated, truncated, info = env.step(STAY)
    assert (terminated, truncated) == (False, True)
    assert info["way"] is None
