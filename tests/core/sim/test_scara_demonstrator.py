from collections import Counter

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

import dql_core.sim
from dql_core.sim.scara import START_CENTRE, TARGET_CENTRE, joints_at
from dql_core.sim.scara_demonstrator import ScaraDemonstrator
from dql_core.spec import FieldSpec, PolicySpec

Vector = NDArray[np.float64]
SPEC = PolicySpec(
    robot="scara",
    rate_hz=10.0,
    observation=tuple(FieldSpec(name) for name in ("shoulder", "elbow", "x", "y")),
    action=tuple(FieldSpec(name, "rad/s", -2.0, 2.0) for name in ("shoulder", "elbow")),
)
EPISODES = 200


@pytest.fixture(scope="module")
def endings() -> Counter[tuple[str, str | None]]:
    """How 200 episodes ended, and on which side of the post they passed."""
    env, operator = gymnasium.make(dql_core.sim.SCARA_ID), ScaraDemonstrator(SPEC)
    rng = np.random.default_rng(0)
    counts: Counter[tuple[str, str | None]] = Counter()
    for seed in range(EPISODES):
        observation, _ = env.reset(seed=seed)
        ended = False
        while not ended:  # nobody tells the operator that a new episode began
            action = operator.act(observation.astype(np.float32), rng).action
            observation, _, terminated, truncated, info = env.step(action.astype(np.float64))
            ended = terminated or truncated
        outcome = "collision" if info["collision"] else "success" if terminated else "timeout"
        counts[outcome, info["way"]] += 1
    return counts


def share(endings: Counter[tuple[str, str | None]], outcome: str) -> float:
    return sum(count for key, count in endings.items() if key[0] == outcome) / EPISODES


def test_half_to_three_quarters_succeed_and_the_rest_fails_in_both_ways(
    endings: Counter[tuple[str, str | None]],
) -> None:
    assert 0.5 <= share(endings, "success") <= 0.75
    assert share(endings, "collision") > 0.1
    assert share(endings, "timeout") > 0.05


def test_both_ways_are_well_represented_among_the_successes(
    endings: Counter[tuple[str, str | None]],
) -> None:
    inner, outer = endings["success", "inner"], endings["success", "outer"]
    assert min(inner, outer) > 0.3 * (inner + outer)


def observation_at(tip: Vector, target: Vector) -> NDArray[np.float32]:
    observation: NDArray[np.float32] = np.concatenate([joints_at(tip), target]).astype(np.float32)
    return observation


def test_commands_keep_to_the_bounds_and_depend_on_the_generator_alone() -> None:
    observation = observation_at(START_CENTRE, TARGET_CENTRE)
    actions = [
        ScaraDemonstrator(SPEC).act(observation, np.random.default_rng(seed)).action
        for seed in (*range(20), *range(20))
    ]
    assert np.abs(actions).max() <= 2.0
    np.testing.assert_array_equal(actions[:20], actions[20:])
    assert len({action.tobytes() for action in actions}) == 20


def test_a_plan_is_kept_until_the_target_changes() -> None:
    operator, rng = ScaraDemonstrator(SPEC), np.random.default_rng(0)

    def heads_inward(target: Vector) -> bool:
        action = operator.act(observation_at(START_CENTRE, target), rng).action
        return bool(action[1] > 0)  # the elbow bends to come nearer to the base

    same = [heads_inward(TARGET_CENTRE) for _ in range(30)]
    other = [heads_inward(TARGET_CENTRE + np.array([0.0, 1e-3 * index])) for index in range(1, 31)]
    assert np.mean(same) > 0.8 or np.mean(same) < 0.2
    assert 0.2 < np.mean(other) < 0.8
