from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from benchmarks.suite import pusht_env
from benchmarks.suite.pusht import rows_of
from benchmarks.suite.pusht_env import PushT, scaled_action, scaled_state
from dql_core.data.importers.zarr_arrays import read_zarr

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data" / "offline" / "pusht_human.zarr.zip"


def test_states_and_actions_are_scaled_to_one() -> None:
    states = np.array([[0, 256, 512, 128, np.pi], [0, 0, 0, 0, 2 * np.pi]])
    np.testing.assert_allclose(scaled_state(states)[0], [-1, 0, 1, -0.5, 0], atol=1e-7)
    assert scaled_state(states)[1, 4] == 1.0
    np.testing.assert_array_equal(scaled_action(np.array([0.0, 512.0])), [-1.0, 1.0])


@pytest.fixture
def env() -> PushT:
    pytest.importorskip("gym_pusht", reason="the extra 'suite' is not installed")
    return PushT()


def test_a_covered_goal_costs_nothing_and_an_empty_one_a_whole_step(env: PushT) -> None:
    env.reset(seed=0)
    assert env.reward_in(np.array([50.0, 50.0, 256.0, 256.0, np.pi / 4])) == 0.0
    assert env.reward_in(np.array([50.0, 50.0, 430.0, 430.0, 0.0])) == -1.0


def test_an_episode_is_cut_off_after_its_steps(env: PushT) -> None:
    assert env.action_space.shape == (2,)
    made = gym.make(pusht_env.ENV_ID)
    made.reset(seed=0)
    corner = np.array([-0.9, -0.9], np.float32)
    ends = [made.step(corner)[2:4] for _ in range(pusht_env.MAX_STEPS)]
    assert ends[:-1] == [(False, False)] * (pusht_env.MAX_STEPS - 1)
    assert ends[-1] == (False, True)


def test_a_made_demonstration_earns_what_the_simulation_pays(env: PushT) -> None:
    rng = np.random.default_rng(0)
    state = np.array([100.0, 100.0, 240.0, 240.0, 0.5])
    env.set_state(state)
    actions = rng.uniform(100, 400, size=(30, 2)).astype(np.float32)
    states, rewards = [state], []
    for action in scaled_action(actions):
        scaled, reward, *_ = env.step(action)
        states.append(np.append((scaled[:4] + 1.0) * 256.0, (scaled[4] + 1.0) * np.pi))
        rewards.append(reward)
    rows = rows_of(env, np.array(states[:-1]), actions)
    np.testing.assert_allclose(rows.rewards, rewards, atol=1e-4)
    np.testing.assert_allclose(
        rows.next_observations, scaled_state(np.array(states[1:])), atol=1e-4
    )
    assert np.flatnonzero(rows.timeouts).tolist() == [29]
    assert not rows.terminals.any()


def test_a_last_action_with_unknown_outcome_is_left_out(env: PushT) -> None:
    states = np.tile([100.0, 100.0, 240.0, 240.0, 0.5], (5, 1))  # which the actions do not lead to
    rows = rows_of(env, states, np.full((5, 2), 400.0, np.float32))
    assert len(rows) == 4
    np.testing.assert_array_equal(rows.next_observations, scaled_state(states[1:]))
    assert np.flatnonzero(rows.timeouts).tolist() == [3]


@pytest.mark.realdata
@pytest.mark.skipif(not SHARED.is_file(), reason="no pusht_human.zarr.zip in ../shared/data")
def test_the_simulation_leads_through_recorded_demonstrations(env: PushT) -> None:
    states, actions, ends = read_zarr(SHARED, ["data/state", "data/action", "meta/episode_ends"])
    assert (states.shape, actions.shape, len(ends)) == ((25_650, 5), (25_650, 2), 206)
    spans = [slice(0, ends[0]), *(slice(*ends[index - 1 : index + 1]) for index in (1, 50))]
    lengths = [len(rows_of(env, states[span], actions[span])) for span in spans]
    # Demonstration 50 starts in contact, and ends elsewhere when it is repeated.
    recorded = [int(span.stop - span.start) for span in spans]
    assert lengths == [recorded[0], recorded[1], recorded[2] - 1]
