"""Values of known policies on a chain whose truth can be written down."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.errors import DatasetError
from dql_core.evaluation.offline.fitted_q import (
    BEHAVIOUR,
    FittedValues,
    FittingSettings,
    PolicyActions,
    fit_values,
)
from dql_core.evaluation.offline.judging import recorded_after
from dql_core.evaluation.offline.recording import Recording, lay_out, require_rewards
from dql_core.evaluation.offline.support import NEIGHBOURS, Support, measure_support
from dql_core.evaluation.offline.verdict import judge_behaviour, judge_policy
from dql_core.spec import FieldSpec, PolicySpec

SPEC = PolicySpec("bandit", 10.0, (FieldSpec("context"),), (FieldSpec("arm", "", -1.0, 1.0),))
STEPS = 3
DISCOUNT = 0.9
MEMBERS = 5


def recording(terminated: bool) -> Recording:
    """Three steps each; the reward is the action, drawn uniformly."""
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            observations=np.arange(STEPS + 1, dtype="f4")[:, None],
            actions=(actions := rng.uniform(-1, 1, (STEPS, 1)).astype("f4")),
            rewards=actions[:, 0].astype(float),
            terminated=terminated,
            truncated=not terminated,
        )
        for _ in range(200)
    ]
    return lay_out(LoadedDataset(SPEC, tuple(episodes), "bandit"), DISCOUNT)


def constant(rec: Recording, action: float) -> NDArray[np.float32]:
    return rec.standardized(np.full((len(rec), 1), action, dtype="f4"))


def actions_of(
    rec: Recording,
    policies: Sequence[NDArray[np.float32]],
    firsts: Sequence[NDArray[np.float32]],
    support: Support | None = None,
) -> PolicyActions:
    """One draw of each policy; nothing counts as leaving the recording without a support."""
    count = len(rec)
    after, first = np.stack(policies)[:, None], np.stack(firsts)[:, None]
    there = support and support.of(slice(count))
    at_first = support and support.of(slice(count, None))
    return PolicyActions(
        np.arange(count),
        after,
        first,
        there.exits(after) if there else np.zeros(after.shape[:-1], "f4"),
        at_first.exits(first) if at_first else np.zeros(first.shape[:-1], "f4"),
        there.earned(MEMBERS) if there else np.zeros((MEMBERS, count)),
        at_first.earned(MEMBERS) if at_first else np.zeros((MEMBERS, len(rec.firsts))),
    )


def test_fitted_values_are_those_of_policies_whose_truth_is_known() -> None:
    rec = recording(terminated=True)
    policies = [rec.actions[rec.following], constant(rec, 0.5), constant(rec, -0.5)]
    firsts = [rec.actions[rec.firsts], *(each[rec.firsts] for each in policies[1:])]
    actions = actions_of(rec, policies, firsts)
    fitted = fit_values(rec, actions, FittingSettings(updates=1500, warm_up=300), 0)
    horizon = sum(DISCOUNT**step for step in range(STEPS))
    values = fitted.first.mean(axis=(1, 2))
    np.testing.assert_allclose(values[1:], [0.5 * horizon, -0.5 * horizon], atol=0.15)
    behaviour = judge_behaviour(rec, fitted)
    assert behaviour.fitted == pytest.approx(rec.returns[rec.firsts].mean(), abs=0.15)
    assert judge_policy(rec, fitted, 1, behaviour, 0.05).verdict == "better"
    assert judge_policy(rec, fitted, 2, behaviour, 0.05).verdict == "worse"


def test_a_truncated_end_bootstraps_and_a_terminated_one_does_not() -> None:
    ended, cut = recording(terminated=True), recording(terminated=False)
    assert ended.continues[STEPS - 1] == 0
    assert cut.continues[STEPS - 1] == 1
    assert cut.following[:STEPS].tolist() == [1, 2, -1]
    assert cut.tails[0] == pytest.approx(DISCOUNT ** (STEPS - 1))
    assert ended.tails[0] == 0


def test_a_task_without_an_end_is_worth_what_it_goes_on_to_earn() -> None:
    discount = 0.95
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            rng.normal(size=(STEPS + 1, 1)).astype("f4"),
            actions := rng.uniform(-1, 1, (STEPS, 1)).astype("f4"),
            actions[:, 0].astype(float),
            False,
            True,
        )
        for _ in range(200)
    ]
    rec = lay_out(LoadedDataset(SPEC, tuple(episodes), "endless"), discount)
    numbers = np.arange(len(rec))
    recorded = recorded_after(rec, numbers, measure_support(rec, rec.rows + 1, 0), 1)[0]
    following = np.flatnonzero(rec.following >= 0)
    np.testing.assert_array_equal(recorded[following], rec.actions[following + 1])
    policies = [recorded, constant(rec, 0.5)]
    firsts = [rec.actions[rec.firsts], policies[1][rec.firsts]]
    settings = FittingSettings(updates=1500, warm_up=300)
    fitted = fit_values(rec, actions_of(rec, policies, firsts), settings, 0)
    assert fitted.first[BEHAVIOUR].mean() == pytest.approx(0.0, abs=1.0)
    assert fitted.first[1].mean() == pytest.approx(0.5 / (1.0 - discount), rel=0.1)
    assert judge_policy(rec, fitted, 1, judge_behaviour(rec, fitted), 0.05).verdict == "better"


def fit_of(rec: Recording, difference: float, *, drift: float = 0.0) -> FittedValues:
    """Members that agree on a behaviour worth what was recorded, and a policy that differs."""
    returns = rec.returns[rec.firsts]
    noise = np.array([-0.01, 0.0, 0.01])[:, None]
    first = np.stack([returns + 0 * noise, returns + difference + noise])
    trace = np.tile(first.mean(axis=2), (20, 1, 1))
    trace[-2:, 1] += drift
    tails = np.zeros((3, len(returns)))
    return FittedValues(first, tails, trace, np.zeros(2))


def test_what_nobody_recorded_is_worth_what_was_earned_nearby_which_members_see_differently() -> (
    None
):
    rec = recording(terminated=True)
    rows = np.concatenate([rec.rows + 1, rec.rows[rec.firsts]])
    support = measure_support(rec, rows, 0)
    policies = [rec.actions[rec.following], *(constant(rec, action) for action in (0.9, 3.0))]
    firsts = [rec.actions[rec.firsts], *(each[rec.firsts] for each in policies[1:])]
    settings = FittingSettings(updates=1500, warm_up=300)
    believed, doubted = (
        fit_values(rec, actions_of(rec, policies, firsts, known), settings, 0)
        for known in (None, support)
    )
    near, far = 1, 2
    # Networks take what nobody did for as good as the best that was done.
    assert believed.first[far].mean() > believed.first[near].mean() - 0.1
    limits = support.of(slice(len(rec), None)).earned(MEMBERS).mean(axis=1)
    assert limits[0] < rec.returns[rec.firsts].mean() - 0.5
    assert limits[-1] > rec.returns[rec.firsts].mean() + 0.5
    np.testing.assert_allclose(doubted.first[far].mean(axis=1), limits, atol=0.02)
    np.testing.assert_allclose(doubted.first[near], believed.first[near], atol=0.1)
    behaviour = judge_behaviour(rec, doubted)
    assert judge_policy(rec, doubted, near, behaviour, 0.05).verdict == "better"
    (doubt,) = judge_policy(rec, doubted, far, behaviour, 0.05).doubts
    assert doubt.startswith("the fit contradicts itself")


def test_support_compares_with_the_nearest_of_other_episodes() -> None:
    rng = np.random.default_rng(0)
    episodes = tuple(
        Episode(
            rng.normal(size=(21, 1)).astype("f4"),
            rng.uniform(-1, 1, (20, 1)).astype("f4"),
            rng.normal(size=20),
            True,
            False,
        )
        for _ in range(8)
    )
    rec = lay_out(LoadedDataset(SPEC, episodes, "random"), DISCOUNT)
    rows = np.arange(len(rec.observations))
    support = measure_support(rec, rows, 0)
    asked = rng.uniform(-3, 3, (len(rows), 1)).astype("f4")
    expected = np.empty(len(rows))
    for row in rows:
        others = [
            (abs(rec.observations[rec.rows[m], 0] - rec.observations[row, 0]), m)
            for m in range(len(rec))
            if rec.episodes[m] != row // 21
        ]
        nearest = [m for _, m in sorted(others)[:NEIGHBOURS]]
        expected[row] = min(abs(rec.actions[m, 0] - asked[row, 0]) for m in nearest)
        earned = np.quantile(rec.returns[nearest], [1 / 6, 1 / 2, 5 / 6])
        np.testing.assert_allclose(support.earned(3)[:, row], earned)
    exits = np.clip(expected / support.threshold - 1.0, 0.0, 1.0)
    np.testing.assert_allclose(support.exits(asked), exits, atol=1e-5)
    assert support.far_share(asked) == np.mean(expected > support.threshold)
    acted = support.of(slice(0, 20))
    assert acted.far_share(rec.actions[:20]) <= 0.3


def test_a_fit_that_has_not_converged_has_no_verdict_and_no_figures() -> None:
    rec = recording(terminated=True)
    fitted = fit_of(rec, 0.5, drift=1.0)
    worth = judge_policy(rec, fitted, 1, judge_behaviour(rec, fitted), 0.05)
    assert worth.verdict == "no verdict"
    assert worth.value is None
    assert "not converged" in worth.doubts[0]


def test_a_diverged_behaviour_leaves_no_verdict() -> None:
    rec = recording(terminated=True)
    fitted = dataclasses.replace(fit_of(rec, 0.5), clipped=np.array([0.5, 0.0]))
    behaviour = judge_behaviour(rec, fitted)
    assert "diverged" in behaviour.doubts[0]
    assert judge_policy(rec, fitted, 1, behaviour, 0.05).verdict == "no verdict"


def test_episodes_without_rewards_are_refused(tmp_path: Path) -> None:
    episode = Episode(np.zeros((2, 1), "f4"), np.zeros((1, 1), "f4"), np.zeros(1), True, False)
    with pytest.raises(DatasetError, match=r"every reward is 0.*dql relabel"):
        require_rewards(LoadedDataset(SPEC, (episode,), str(tmp_path)))


@pytest.mark.parametrize("rewards", [[-4.0, -4.0], [-4.0, -4.05]])
def test_equal_rewards_say_something_only_where_the_task_ends(rewards: list[float]) -> None:
    def recorded(reward: float, terminated: bool) -> Episode:
        parts = np.zeros((3, 1), "f4"), np.zeros((2, 1), "f4"), np.full(2, reward)
        return Episode(*parts, terminated, not terminated)

    endless = tuple(recorded(each, False) for each in rewards)
    with pytest.raises(DatasetError, match=r"every reward is .*-4.* and no episode terminates"):
        require_rewards(LoadedDataset(SPEC, endless, "endless"))
    require_rewards(LoadedDataset(SPEC, (*endless, recorded(-4.0, True)), "ends"))
    require_rewards(LoadedDataset(SPEC, (*endless, recorded(-5.0, False)), "differs"))


@pytest.mark.parametrize("reward", [1e300, -1e40])
def test_rewards_that_are_too_large_for_a_fit_are_refused(reward: float) -> None:
    parts = np.zeros((3, 1), "f4"), np.zeros((2, 1), "f4"), np.array([1.0, reward])
    dataset = LoadedDataset(SPEC, (Episode(*parts, True, False),), "large")
    with pytest.raises(DatasetError, match=r"^large: rewards are up to 1e\+[0-9]+ in size, "):
        require_rewards(dataset)


def test_where_all_did_the_same_every_other_action_is_far_without_a_warning() -> None:
    support = Support(np.ones((4, 1), "f4"), np.zeros(4), np.zeros((2, 3), np.int64), 0.0)
    with np.errstate(all="raise"):
        exits = support.exits(np.array([[1.0], [9.0]], "f4"))
    assert exits.tolist() == [0.0, 1.0]
