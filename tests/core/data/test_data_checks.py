import dataclasses
from typing import Any

import numpy as np
import pytest

from dql_core.config import TrainConfig
from dql_core.data.checks import check_dataset
from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.errors import DatasetError
from dql_core.normalize import Normalizer
from dql_core.spec import FieldSpec, PolicySpec

SPEC = PolicySpec(
    robot="cart",
    rate_hz=10.0,
    observation=(FieldSpec("x"), FieldSpec("v")),
    action=(FieldSpec("push", "N", -4.0, 4.0), FieldSpec("grip", "", 0.0, 1.0)),
)


def episode(length: int, seed: int = 0, terminated: bool = True) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        observations=rng.normal(size=(length + 1, 2)).astype(np.float32),
        actions=rng.uniform([-4, 0], [4, 1], size=(length, 2)).astype(np.float32),
        rewards=rng.normal(size=length),
        terminated=terminated,
        truncated=not terminated,
    )


def dataset_of(*episodes: Episode) -> LoadedDataset:
    return LoadedDataset(SPEC, episodes, "cart data")


def check(dataset: LoadedDataset, **sections: Any) -> tuple[LoadedDataset, list[str]]:
    """Return the checked dataset and the texts of the warnings."""
    checked, findings = check_dataset(dataset, TrainConfig.model_validate(sections))
    return checked, [finding.text for finding in findings if finding.is_warning]


def test_good_data_passes_as_it_is_with_one_line_on_its_rewards() -> None:
    dataset = dataset_of(episode(3), episode(4, seed=1))
    checked, findings = check_dataset(dataset, TrainConfig())
    assert checked is dataset
    assert [finding.is_warning for finding in findings] == [False]
    mean = np.mean([one.rewards.sum() for one in dataset.episodes])
    assert f"returns {mean:.4g} on average" in findings[0].text


@pytest.mark.parametrize(
    ("kind", "position", "words"),
    [
        ("observations", (1, 1), "observation 'v' is nan in episode 1 at step 1"),
        ("actions", (0, 0), "action 'push' is nan in episode 1 at step 0"),
        ("rewards", (1,), "the reward is nan in episode 1 at step 1"),
    ],
)
def test_a_value_that_is_no_number_is_refused_with_its_place(
    kind: str, position: tuple[int, ...], words: str
) -> None:
    bad = episode(2)
    getattr(bad, kind)[position] = np.nan
    with pytest.raises(DatasetError, match=f"cart data: {words}"):
        check(dataset_of(episode(3), bad))


def test_a_dataset_in_which_nothing_is_rewarded_is_refused() -> None:
    unrewarded = dataset_of(dataclasses.replace(episode(3), rewards=np.zeros(3)))
    words = r"every reward is 0 and td3_bc learns .* agent: diffusion_bc"
    with pytest.raises(DatasetError, match=words):
        check(unrewarded, agent="td3_bc")
    assert check(unrewarded, agent="diffusion_bc")[1] == []


def test_actions_beyond_the_bounds_are_counted_and_refused_or_clipped() -> None:
    wild = episode(3)
    wild.actions[:, 0] = [4.0, 4.5, -9.0]
    words = r"2 of 8 actions are beyond their bounds, .* push = -9 outside \[-4, 4\]"
    with pytest.raises(DatasetError, match=f"{words}; .*data.out_of_bounds=clip"):
        check(dataset_of(episode(5), wild))
    checked, warnings = check(dataset_of(episode(5), wild), data={"out_of_bounds": "clip"})
    assert warnings == [
        "2 of 8 actions are beyond their bounds, the farthest is push = -9 outside [-4, 4]: "
        "clipped"
    ]
    assert checked.episodes[1].actions[:, 0].tolist() == [4.0, 4.0, -4.0]
    assert wild.actions[:, 0].tolist() == [4.0, 4.5, -9.0]


def test_rounding_at_a_bound_is_no_breach_and_does_not_stay() -> None:
    rounded = episode(3)
    rounded.actions[0, 0] = np.nextafter(np.float32(4.0), np.float32(5.0))
    checked, warnings = check(dataset_of(rounded))
    assert checked.episodes[0].actions[0, 0] == 4.0
    assert warnings == []


def test_constant_dimensions_are_named_and_do_no_harm_to_the_normaliser() -> None:
    stuck = [episode(3), episode(4, seed=1)]
    for one in stuck:
        one.observations[:, 1] = 0.7
        one.actions[:, 1] = 0.5
    dataset, warnings = check(dataset_of(*stuck))
    assert warnings[0].startswith("1 of 2 observations never change ('v' = 0.7): ")
    assert warnings[1].startswith("1 of 2 actions never change ('grip' = 0.5): ")
    rows = np.concatenate([one.observations for one in dataset.episodes])
    normalizer = Normalizer.fit(rows, dataset.spec)
    np.testing.assert_allclose(normalizer.observation(rows)[:, 1], 0.0, atol=1e-6)


def test_what_hardly_changes_is_named_a_line_each_with_what_it_is_divided_by() -> None:
    still = [episode(3), episode(4, seed=1)]
    for one in still:
        one.observations[:] = [0.5, 4e6]
        one.observations[::2] += [8e-6, 0.5]
    fields = (FieldSpec("elbow", "rad"), FieldSpec("north", "m"))
    dataset = dataclasses.replace(
        dataset_of(*still), spec=dataclasses.replace(SPEC, observation=fields)
    )
    elbow, north = check(dataset)[1]
    assert elbow == (
        "observation 'elbow' hardly changes: 0.5 to 0.500007987 rad, standard deviation 4e-06; "
        "it is divided by 0.001, so that noise is not magnified; if these changes "
        "matter, give narrow 'low' and 'high', or a 'scale', in the contract"
    )
    assert north.startswith("observation 'north' hardly changes: 4000000 to 4000000.5 m, ")
    assert north.endswith(
        "divided by 1, so that noise is not magnified; float32 rounds it: give "
        "an 'offset' in the contract"
    )
    assert check(dataset, data={"normalize_observations": False})[1] == []


def test_what_changes_only_between_episodes_is_not_constant() -> None:
    stuck = [episode(3), episode(4, seed=1)]
    for level, one in enumerate(stuck):
        one.observations[:, 1] = level
    assert check(dataset_of(*stuck))[1] == []


def test_episodes_that_were_cut_short_are_counted() -> None:
    dataset = dataset_of(
        episode(9), episode(1, terminated=False), episode(3, terminated=False), episode(1)
    )
    assert check(dataset, data={"n_step": 1})[1] == [
        "1 of 4 episodes end without a termination after fewer than 2 transitions (the shortest "
        "after 1): see how the recording is cut into episodes"
    ]
    assert "2 of 4 episodes end" in check(dataset, data={"n_step": 4})[1][0]
    imitated = check(dataset, agent="diffusion_bc", data={"n_step": 4})[1]
    assert imitated == check(dataset, data={"n_step": 1})[1]


@pytest.mark.parametrize(("size", "factor"), [(1e-4, 1e6), (2e5, 1e-3)])
def test_rewards_of_an_unusual_size_come_with_the_factor_that_mends_them(
    size: float, factor: float
) -> None:
    dataset = dataset_of(dataclasses.replace(episode(2), rewards=np.array([0.0, -size])))
    (warning,) = check(dataset)[1]
    assert f"multiply data.reward_scale by {factor:g}" in warning
    assert check(dataset, data={"reward_scale": factor})[1] == []


@pytest.mark.parametrize("size", [5e-324, 1e-310, 1e39, 1e308])
def test_rewards_that_float32_cannot_hold_are_refused(size: float) -> None:
    dataset = dataset_of(dataclasses.replace(episode(2), rewards=np.array([size, size])))
    with pytest.raises(DatasetError, match=r"which float32 cannot hold: .* data.reward_scale"):
        check(dataset)


def test_equal_rewards_are_told() -> None:
    even = dataclasses.replace(episode(3), rewards=np.full(3, -1.0))
    assert check(dataset_of(even))[1] == [
        "every reward is -1, as learned: values say no more than how long an episode lasts"
    ]


def test_a_transform_that_cannot_be_fitted_is_refused_before_training() -> None:
    with pytest.raises(DatasetError, match="iql_locomotion divides by the range of the returns"):
        check(dataset_of(episode(3)), data={"reward_transform": "iql_locomotion"})
