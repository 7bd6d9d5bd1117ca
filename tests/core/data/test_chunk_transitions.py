"""Transitions of chunks: recorded actions in their order, of one episode, each chunk once."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dql_core.config import TrainConfig
from dql_core.data.checks import check_dataset
from dql_core.data.dataset import Episode, LoadedDataset, write_dataset
from dql_core.data.sampling import make_strata
from dql_core.data.transitions import BatchSampler, make_transitions
from dql_core.data_config import DataConfig
from dql_core.errors import DatasetError
from dql_core.normalize import Normalizer
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.training.preparation import (
    load_training_data,
    make_batches,
    new_run,
    require_measurable,
)

SPEC = PolicySpec(
    "cart",
    10.0,
    (FieldSpec("x"), FieldSpec("v")),
    (FieldSpec("push", "N", -4.0, 4.0), FieldSpec("turn", "rad", -1.0, 3.0)),
)
RAW = Normalizer.for_actions_only(2, [-4.0, -1.0], [4.0, 3.0])
EPISODES = st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=5)


def recorded(shapes: list[tuple[int, bool]], seed: int = 0) -> LoadedDataset:
    """Return episodes of these lengths, which terminated or were truncated."""
    rng = np.random.default_rng(seed)
    episodes = tuple(
        Episode(
            observations=rng.normal(size=(length + 1, 2)).astype(np.float32),
            actions=rng.uniform(SPEC.action_low, SPEC.action_high, (length, 2)).astype("f4"),
            rewards=rng.normal(size=length),
            terminated=terminated,
            truncated=not terminated,
        )
        for length, terminated in shapes
    )
    return LoadedDataset(SPEC, episodes, "cart data")


@given(shapes=EPISODES, horizon=st.integers(1, 6), discount=st.floats(0.0, 0.999))
def test_every_chunk_of_recorded_actions_is_there_once(
    shapes: list[tuple[int, bool]], horizon: int, discount: float
) -> None:
    """A plain walk through the episodes finds the same transitions in the same order."""
    dataset, value = recorded(shapes), 7.0
    starts = [
        (episode, start)
        for episode in dataset.episodes
        for start in range(len(episode))
        if episode.terminated or start + horizon <= len(episode)
    ]
    assert len(dataset.starts(horizon)) == len(starts)
    if not starts:
        return
    table = make_transitions(dataset, RAW, discount=discount, horizon=horizon)
    assert len(table) == len(starts)
    batches = BatchSampler(table, 1, torch.Generator(), "cpu")
    batch = batches.take(torch.arange(len(table)))
    for index, (episode, start) in enumerate(starts):
        end = min(start + horizon, len(episode))
        actions = np.concatenate([RAW.action(each) for each in episode.actions[start:end]])
        np.testing.assert_array_equal(batch.action[index, : len(actions)], actions)
        if batch.mask is not None:
            mask = np.repeat([1.0, 0.0], [len(actions), 2 * horizon - len(actions)])
            np.testing.assert_array_equal(batch.mask[index], mask)
        np.testing.assert_array_equal(batch.observation[index], episode.observations[start])
        np.testing.assert_array_equal(batch.next_observation[index], episode.observations[end])
        ended = episode.terminated and end == len(episode)
        expected = 0.0 if ended else discount ** (end - start) * value
        for ahead, reward in enumerate(episode.rewards[start:end]):
            expected += discount**ahead * reward
        target = batch.reward[index] + discount * batch.bootstrap[index] * value
        assert target.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_chunks_within_which_the_task_ends_are_among_them() -> None:
    table = make_transitions(recorded([(5, True), (5, False)]), RAW, discount=0.5, horizon=3)
    assert table.bootstraps.tolist() == [0.25, 0.25, 0.0, 0.0, 0.0, 0.25, 0.25, 0.25]


def test_behind_a_termination_are_actions_of_others_anew_in_each_batch() -> None:
    """So the critics learn that none of them matters, and do not take those of one for a sign."""
    dataset = recorded([(4, True), (200, True)])
    table = make_transitions(dataset, RAW, horizon=3)
    batches = BatchSampler(table, 32, torch.Generator().manual_seed(0), "cpu")
    seen = set()
    for _ in range(200):
        batch = batches.draw()
        assert batch.mask is not None
        last = (batch.mask[:, 2] == 0).nonzero().flatten().tolist()
        seen |= {tuple(batch.action[index, 2:].tolist()) for index in last}
    everything = {
        tuple(each)
        for each in RAW.action(
            np.concatenate([episode.actions for episode in dataset.episodes])
        ).tolist()
    }
    assert len(seen) > 20
    assert all({each[:2], each[2:]} <= everything for each in seen)


def test_no_action_is_stored_more_than_once_but_for_a_chunk_of_them() -> None:
    dataset = recorded([(50, True), (60, False)])
    table = make_transitions(dataset, RAW, horizon=20)
    assert table.actions.shape == (110 + 19, 2)
    sampler = BatchSampler(table, 8, torch.Generator().manual_seed(0), "cpu")
    assert sampler.draw().action.shape == (8, 40)
    assert sampler.spread(3).action.shape == (3, 40)


def settings(horizon: int, **sections: Any) -> TrainConfig:
    return TrainConfig.model_validate({"policy": {"horizon": horizon}, **sections})


def test_a_chunk_is_drawn_by_the_mean_weight_of_its_steps() -> None:
    flags = np.array([0, 0, 1, 1, 0, 0], dtype=bool)
    (episode,) = recorded([(6, True)]).episodes
    dataset = LoadedDataset(
        SPEC, (dataclasses.replace(episode, infos={"intervention": flags}),), "six"
    )
    data = DataConfig(dataset="six", weights={"intervention": 5.0})
    (stratum,) = make_strata(dataset, data, 16, horizon=2)
    assert stratum.size == 6  # the last one is a single step
    assert stratum.cumulative is not None
    assert stratum.cumulative.tolist() == [1.0, 4.0, 9.0, 12.0, 13.0, 14.0]


def test_a_ratio_counts_the_chunks_of_each_dataset() -> None:
    first, second = recorded([(4, False)]).episodes, recorded([(9, False), (2, False)]).episodes
    second = tuple(dataclasses.replace(each, dataset=1) for each in second)
    dataset = LoadedDataset(SPEC, first + second, "both")
    data = DataConfig(dataset=("a", "b"), ratio=(1.0, 3.0))
    strata = make_strata(dataset, data, 16, horizon=3)
    assert [(each.first, each.size, each.count) for each in strata] == [(0, 2, 4), (2, 7, 12)]
    with pytest.raises(DatasetError, match=r"a: all its episodes are held out or shorter than"):
        make_strata(dataset, data, 16, horizon=5)


def test_episodes_that_are_too_short_are_counted() -> None:
    dataset = recorded([(4, False), (2, False), (9, False), (3, False), (2, True)])
    _, findings = check_dataset(dataset, settings(4))
    fact, warning = (each for each in findings if "policy.horizon" in each.text)
    assert not fact.is_warning
    assert fact.text == (
        "a chunk of policy.horizon: 4 begins in 9 of 20 steps: in all but the last 3 of an "
        "episode that was truncated; 2 are cut short by a termination"
    )
    assert warning.is_warning
    assert warning.text == (
        "2 of 5 episodes were truncated before a chunk of policy.horizon: 4 was over (the "
        "shortest has 2 steps): nothing is learned of their 5 steps"
    )
    with pytest.raises(
        DatasetError, match=r"longest episode has 9 steps, and a chunk .*: 10 fits"
    ):
        check_dataset(recorded([(4, False), (9, False)]), settings(10))


@pytest.mark.parametrize("terminated", [False, True])
def test_a_horizon_whose_last_actions_nobody_recorded_is_refused(terminated: bool) -> None:
    """A node would play them, and the network was never told what they are."""
    dataset = recorded([(4, terminated), (9, terminated)])
    check_dataset(dataset, settings(9))
    with pytest.raises(DatasetError, match=r"longest episode has 9 steps, .*: 10 fits into none"):
        check_dataset(dataset, settings(10))


def test_a_horizon_whose_last_actions_are_seldom_recorded_is_warned_of() -> None:
    _, findings = check_dataset(recorded([(2, True)] * 5 + [(4, True)]), settings(4))
    (finding,) = (each for each in findings if "policy.horizon" in each.text)
    assert finding.is_warning
    assert finding.text.endswith(
        "13 are cut short by a termination; the last actions of a chunk are learned from few: "
        "lower policy.horizon"
    )


def test_a_split_that_leaves_no_whole_chunk_is_refused(tmp_path: Path) -> None:
    episodes = recorded([(3, True)] * 15 + [(20, True)]).episodes
    write_dataset(tmp_path / "set", episodes, SPEC)
    refused = 0
    for seed in range(30):
        config = settings(
            5,
            data={"dataset": str(tmp_path / "set")},
            validation={"held_out": 0.05},
            run={"batch_size": 4, "seed": seed},
        )
        data = load_training_data(config)
        if max(map(len, data.learned.episodes)) < 5:
            with pytest.raises(DatasetError, match=r"a chunk of policy.horizon: 5 fits"):
                require_measurable(data, config)
            refused += 1
    assert refused


def test_a_split_that_leaves_no_chunk_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", recorded([(30, False), (4, False)]).episodes, SPEC)
    sections: dict[str, Any] = {
        "data": {"dataset": str(tmp_path / "set")},
        "validation": {"held_out": 0.5},
        "run": {"batch_size": 4},
    }
    for seed in range(2):  # either is held out
        config = settings(5, **{**sections, "run": {"batch_size": 4, "seed": seed}})
        data = load_training_data(config)
        with pytest.raises(DatasetError, match="held_out"):
            require_measurable(data, config)


def test_a_run_draws_chunks(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", recorded([(30, True), (4, True)]).episodes, SPEC)
    config = settings(
        5, data={"dataset": str(tmp_path / "set")}, run={"batch_size": 4, "device": "cpu"}
    )
    data = load_training_data(config)
    batch = make_batches(new_run(config, data.learned), data.learned).draw()
    assert batch.action.shape == (4, 10)


def test_the_steps_before_the_bootstrap_are_those_of_the_chunk() -> None:
    assert settings(1).data.n_step == 10
    assert settings(5).data.n_step == 1
    with pytest.raises(
        ValueError, match=r"data.n_step: 10: with policy.horizon: 5 .* set .* to 1"
    ):
        settings(5, data={"n_step": 10})


def test_a_horizon_of_1_changes_no_hash() -> None:
    assert settings(1).hash() == TrainConfig().hash()
    assert "horizon" not in TrainConfig().to_json()["policy"]
    assert settings(2).hash() != settings(3).hash()
