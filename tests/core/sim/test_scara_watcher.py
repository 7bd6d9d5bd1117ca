"""The operator who watches: lets a good drive be, takes over from a bad one in time, lets go."""

from collections.abc import Callable

import gymnasium
import numpy as np
from numpy.typing import NDArray

import dql_core.sim
from dql_core.sim.scara import POST_CENTRE, START_CENTRE, TARGET_CENTRE, joints_at
from dql_core.sim.scara_watcher import PATIENCE_TICKS, ScaraWatcher
from dql_core.spec import FieldSpec, PolicySpec

Vector = NDArray[np.float64]
LIMIT = 2.0
SPEC = PolicySpec(
    robot="scara",
    rate_hz=10.0,
    observation=tuple(FieldSpec(name) for name in ("shoulder", "elbow", "x", "y")),
    action=(
        *(FieldSpec(name, "rad/s", -LIMIT, LIMIT) for name in ("shoulder", "elbow")),
        FieldSpec("switch", "", 0.0, 1.0),
    ),
)
RNG = np.random.default_rng(0)
STILL = np.zeros(2)


def seen(tip: Vector, target: Vector = TARGET_CENTRE) -> NDArray[np.float32]:
    return np.array([*joints_at(tip), *target], np.float32)


def takes_over(watcher: ScaraWatcher, tip: Vector, target: Vector = TARGET_CENTRE) -> bool:
    action = watcher.act(seen(tip, target), RNG).action
    assert action.shape == (3,)
    assert action[2] in (0.0, 1.0)
    assert (np.abs(action[:2]) <= LIMIT).all()
    assert action[2] or not action.any(), "who lets the policy drive commands nothing"
    return bool(action[2])


def drive(policy: Callable[[Vector], Vector], episodes: int) -> tuple[int, int]:
    """Let a policy drive under watch; return how often it succeeded and was taken over from."""
    env, watcher = gymnasium.make(dql_core.sim.SCARA_ID), ScaraWatcher(SPEC)
    successes = taken = 0
    for seed in range(episodes):
        observation, _ = env.reset(seed=seed)
        ended = was_taken = False
        while not ended:
            *command, switch = watcher.act(observation.astype(np.float32), RNG).action
            action = np.array(command if switch else policy(observation), np.float64)
            was_taken = was_taken or bool(switch)
            observation, _, terminated, truncated, info = env.step(action)
            ended = terminated or truncated
        successes += info["is_success"]
        taken += was_taken
    return successes, taken


def test_whatever_the_policy_does_the_target_is_reached() -> None:
    rng = np.random.default_rng(1)
    assert drive(lambda _: rng.uniform(-LIMIT, LIMIT, 2), 40) == (40, 40)
    assert drive(lambda _: STILL, 10) == (10, 10)


def test_a_drive_into_the_post_is_taken_over_before_it_and_only_then() -> None:
    watcher = ScaraWatcher(SPEC)
    way = POST_CENTRE - START_CENTRE
    places = [START_CENTRE + share * way for share in np.arange(0.0, 0.6, 0.1)]
    taken = [takes_over(watcher, place) for place in places]
    first = taken.index(True)
    assert first > 1
    assert all(taken[first:]), "and is not given back in the episode"


def test_a_drive_past_the_post_is_left_alone() -> None:
    watcher = ScaraWatcher(SPEC)
    beside = np.array([POST_CENTRE[0] - 0.14, 0.0])
    there, on = (
        np.linspace(begin, end, 8, endpoint=False)
        for begin, end in ((START_CENTRE, beside), (beside, TARGET_CENTRE))
    )
    assert not any(takes_over(watcher, tip) for tip in (*there, *on))


def test_a_standstill_is_taken_over_and_the_next_episode_is_the_policys() -> None:
    watcher = ScaraWatcher(SPEC)
    taken = [takes_over(watcher, START_CENTRE) for _ in range(PATIENCE_TICKS + 2)]
    assert taken == [False] * PATIENCE_TICKS + [True] * 2
    elsewhere = TARGET_CENTRE + 0.01
    assert not takes_over(watcher, START_CENTRE, elsewhere)
    watcher.reset()
    assert not takes_over(watcher, START_CENTRE, elsewhere)


def test_the_same_is_commanded_whatever_is_drawn() -> None:
    first, second = ScaraWatcher(SPEC), ScaraWatcher(SPEC)
    for _ in range(PATIENCE_TICKS + 1):
        one = first.act(seen(START_CENTRE), np.random.default_rng(1)).action
        other = second.act(seen(START_CENTRE), np.random.default_rng(2)).action
    np.testing.assert_array_equal(one, other)
    assert one.any()
