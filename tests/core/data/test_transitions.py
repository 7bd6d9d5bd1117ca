import numpy as np
import pytest
import torch

from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.data.reward_transforms import RewardTransform
from dql_core.data.transitions import Batch, BatchSampler, TransitionTable, make_transitions
from dql_core.normalize import Normalizer
from dql_core.spec import FieldSpec, PolicySpec

SPEC = PolicySpec(
    robot="cart",
    rate_hz=10.0,
    observation=(FieldSpec("x"), FieldSpec("v")),
    action=(FieldSpec("push", "N", -4.0, 4.0),),
)
RAW = Normalizer.for_actions_only(2, [-4.0], [4.0])


def counted_episode(start: int, length: int, terminated: bool) -> Episode:
    """Observation rows count up from ``start``, so that a row tells where it came from."""
    count = np.arange(start, start + length + 1, dtype=np.float32)
    return Episode(
        observations=np.stack([count, -count], axis=1),
        actions=np.full((length, 1), 2.0, np.float32),
        rewards=np.arange(length, dtype=np.float64),
        terminated=terminated,
        truncated=not terminated,
    )


@pytest.fixture
def dataset() -> LoadedDataset:
    episodes = (
        counted_episode(0, 3, terminated=True),
        counted_episode(100, 1, terminated=False),
        counted_episode(200, 2, terminated=True),
    )
    return LoadedDataset(SPEC, episodes, "cart data")


@pytest.fixture
def table(dataset: LoadedDataset) -> TransitionTable:
    return make_transitions(dataset, RAW, RewardTransform(10.0))


def test_no_transition_crosses_the_end_of_an_episode(table: TransitionTable) -> None:
    starts = table.observations[table.rows, 0]
    nexts = table.observations[table.next_rows, 0]
    assert starts.tolist() == [0, 1, 2, 100, 200, 201]
    assert (nexts - starts).tolist() == [1] * 6


def test_terminations_stop_the_bootstrap_and_truncations_do_not(table: TransitionTable) -> None:
    assert table.bootstraps.tolist() == [1, 1, 0, 1, 1, 0]


def test_actions_are_normalised_and_rewards_scaled(table: TransitionTable) -> None:
    assert table.actions[:, 0].tolist() == [0.5] * 6
    assert table.rewards.tolist() == [0, 10, 20, 0, 0, 10]


def test_the_table_holds_each_observation_once(table: TransitionTable) -> None:
    assert len(table) == 6
    assert table.observations.shape == (9, 2)
    arrays = (table.observations, table.actions, table.rewards, table.bootstraps)
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


@pytest.mark.parametrize("n_step", [1, 2, 3, 10])
def test_n_steps_are_summed_and_bootstrapped_as_if_walked_one_by_one(n_step: int) -> None:
    rng = np.random.default_rng(0)
    lengths, terminated = (4, 1, 3, 2, 1, 7), (True, False, False, True, True, False)
    episodes = tuple(
        Episode(
            observations=rng.normal(size=(length + 1, 2)).astype(np.float32),
            actions=rng.uniform(-4, 4, size=(length, 1)).astype(np.float32),
            rewards=rng.normal(size=length),
            terminated=ended,
            truncated=not ended,
        )
        for length, ended in zip(lengths, terminated, strict=True)
    )
    discount, value = 0.9, np.float64(7.0)
    table = make_transitions(
        LoadedDataset(SPEC, episodes, "cart data"), RAW, n_step=n_step, discount=discount
    )
    index = 0
    for episode in episodes:
        for start in range(len(episode)):
            target, weight, step = 0.0, 1.0, start
            while step < len(episode) and step < start + n_step:
                target += weight * episode.rewards[step]
                weight, step = weight * discount, step + 1
            if not (episode.terminated and step == len(episode)):
                target += weight * value
            found = table.rewards[index] + discount * table.bootstraps[index] * value
            np.testing.assert_allclose(found, target, rtol=1e-5)
            np.testing.assert_array_equal(
                table.observations[table.rows[index]], episode.observations[start]
            )
            np.testing.assert_array_equal(
                table.observations[table.next_rows[index]], episode.observations[step]
            )
            index += 1
    assert index == len(table)


def make_sampler(table: TransitionTable, batch_size: int, seed: int) -> BatchSampler:
    return BatchSampler(table, batch_size, torch.Generator().manual_seed(seed), "cpu")


def test_a_batch_keeps_what_belongs_together(table: TransitionTable) -> None:
    batch = make_sampler(table, 200, seed=0).draw()
    assert batch.observation.shape == batch.next_observation.shape == (200, 2)
    assert torch.equal(batch.next_observation[:, 0], batch.observation[:, 0] + 1)
    ended = (batch.observation[:, 0] == 2) | (batch.observation[:, 0] == 201)
    assert torch.equal(batch.bootstrap, (~ended).float())
    assert torch.equal(
        batch.reward[batch.observation[:, 0] == 1],
        torch.full_like(batch.reward[batch.observation[:, 0] == 1], 10.0),
    )


def test_every_transition_is_drawn_about_equally_often(table: TransitionTable) -> None:
    batch = make_sampler(table, 6000, seed=0).draw()
    _, counts = torch.unique(batch.observation[:, 0], return_counts=True)
    assert len(counts) == 6
    assert 900 < counts.min() <= counts.max() < 1100


def test_the_generators_state_is_all_that_resuming_needs(table: TransitionTable) -> None:
    sampler = make_sampler(table, 32, seed=0)
    sampler.draw()
    state = sampler.generator.get_state()
    expected = sampler.draw()
    resumed = make_sampler(table, 32, seed=99)
    resumed.generator.set_state(state)
    assert torch.equal(resumed.draw().observation, expected.observation)


def test_dropout_hides_fields_in_both_observations_and_draws_nothing_where_it_is_off() -> None:
    rng = np.random.default_rng(0)
    rows = np.arange(400)
    table = TransitionTable(
        observations=rng.normal(size=(401, 4)).astype(np.float32),
        rows=rows,
        next_rows=rows + 1,
        actions=np.zeros((400, 1), np.float32),
        rewards=rows.astype(np.float32),
        bootstraps=np.ones(400, np.float32),
    )

    def drawn(dropout: float) -> Batch:
        generator = torch.Generator().manual_seed(3)
        return BatchSampler(table, 4000, generator, "cpu", (), dropout, (1, 3)).draw()

    whole, without, plain = drawn(0.25), drawn(0.0), make_sampler(table, 4000, seed=3).draw()
    assert torch.equal(without.observation, plain.observation)
    number = whole.reward.long()
    assert torch.equal(number, plain.reward.long())
    hidden = whole.observation[:, 1] == 0
    assert hidden.float().mean().item() == pytest.approx(0.25, abs=0.03)
    for observation, row in ((whole.observation, number), (whole.next_observation, number + 1)):
        expected = torch.from_numpy(table.observations)[row]
        expected[:, [1, 3]] *= ~hidden[:, None]
        assert torch.equal(observation, expected)
    generator = torch.Generator().manual_seed(3)
    again = BatchSampler(table, 4000, generator, "cpu", (), 0.25, (1, 3))
    assert (again.spread(50).observation != 0).all(), "what is measured on is whole"
