"""A batch has its datasets in the stated ratio, and draws steps as often as they weigh."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from minari import MinariDataset

from dql_core.config import TrainConfig
from dql_core.data.checks import check_dataset
from dql_core.data.dataset import Episode, LoadedDataset, load_datasets, write_dataset
from dql_core.data.sampling import batch_counts, make_strata, require_ratio, step_weights
from dql_core.data.transitions import BatchSampler, make_transitions
from dql_core.data_config import DataConfig
from dql_core.errors import ConfigError, DatasetError
from dql_core.normalize import Normalizer
from dql_core.training.preparation import load_training_data
from tests.core.conftest import TINY_SPEC, tiny_episode

BATCH = 16
RAW = Normalizer.for_actions_only(3, TINY_SPEC.action_low.tolist(), TINY_SPEC.action_high.tolist())


def numbered_episode(start: int, length: int, taken_over: range | None) -> Episode:
    """Make rows whose first number tells which they are; a person commands ``taken_over``."""
    drawn = tiny_episode(np.random.default_rng(start), length, terminated=True)
    rows = drawn.observations.copy()
    rows[:, 0] = start + np.arange(length + 1)
    infos = {}
    if taken_over is not None:
        infos = {"intervention": np.isin(np.arange(length), taken_over)}
    return dataclasses.replace(drawn, observations=rows, infos=infos)


@pytest.fixture
def old_and_new(tmp_path: Path) -> tuple[str, str]:
    """Return 60 old steps, of which nobody says who commanded, and 20 new ones, 5 of a person."""
    old = [numbered_episode(start, 20, None) for start in (0, 100, 200)]
    new = [numbered_episode(1000, 12, range(3, 6)), numbered_episode(1100, 8, range(2))]
    write_dataset(tmp_path / "old", old, TINY_SPEC)
    write_dataset(tmp_path / "new", new, TINY_SPEC)
    return str(tmp_path / "old"), str(tmp_path / "new")


def config_of(datasets: tuple[str, ...], **data: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {"data": {"dataset": datasets, "n_step": 3, **data}, "run": {"batch_size": BATCH}}
    )


def draws(dataset: LoadedDataset, config: TrainConfig, number: int, seed: int = 0) -> torch.Tensor:
    """First numbers of the observations of ``number`` batches, shape (number, BATCH)."""
    table = make_transitions(dataset, RAW, n_step=3)
    strata = make_strata(dataset, config.data, BATCH)
    generator = torch.Generator().manual_seed(seed)
    batches = BatchSampler(table, BATCH, generator, "cpu", strata)
    return torch.stack([batches.draw().observation[:, 0] for _ in range(number)])


def test_without_ratio_and_weights_nothing_is_drawn_otherwise_than_before(
    old_and_new: tuple[str, str],
) -> None:
    dataset = load_datasets(old_and_new)
    table = make_transitions(dataset, RAW, n_step=3)
    expected = torch.Generator().manual_seed(5)
    numbers = [torch.randint(len(table), (BATCH,), generator=expected) for _ in range(4)]
    rows = torch.from_numpy(table.rows)[torch.stack(numbers)]
    firsts = torch.from_numpy(table.observations)[rows][..., 0]
    assert torch.equal(draws(dataset, config_of(old_and_new), 4, seed=5), firsts)


def test_every_batch_has_its_datasets_in_the_ratio(old_and_new: tuple[str, str]) -> None:
    dataset = load_datasets(old_and_new)
    drawn = draws(dataset, config_of(old_and_new, ratio=[1, 3]), 50)
    assert (drawn >= 1000).sum(dim=1).tolist() == [12] * 50
    # Within a dataset, every transition is drawn, and about as often as the others.
    found, counts = np.unique(drawn[drawn >= 1000].numpy(), return_counts=True)
    assert len(found) == 20
    assert counts.min() > 15  # 30 are expected


def test_a_step_is_drawn_as_many_times_as_often_as_it_weighs(old_and_new: tuple[str, str]) -> None:
    dataset = load_datasets(old_and_new, ("intervention",))
    config = config_of(old_and_new, weights={"intervention": 4.0})
    drawn = draws(dataset, config, 4000)
    person = torch.tensor([1003.0, 1004, 1005, 1100, 1101])
    flagged = torch.isin(drawn, person).double().mean().item()
    expected = 5 * 4 / (75 + 5 * 4)
    assert flagged == pytest.approx(expected, abs=5 * np.sqrt(expected / drawn.numel()))
    assert set(drawn.flatten().tolist()) == {
        *range(20), *range(100, 120), *range(200, 220), *range(1000, 1012), *range(1100, 1108)
    }  # fmt: skip


def test_weights_count_within_a_dataset_where_there_is_a_ratio(
    old_and_new: tuple[str, str],
) -> None:
    dataset = load_datasets(old_and_new, ("intervention",))
    config = config_of(old_and_new, ratio=[1, 1], weights={"intervention": 3.0})
    drawn = draws(dataset, config, 4000)
    assert (drawn >= 1000).sum(dim=1).tolist() == [8] * 4000
    of_new = drawn[drawn >= 1000]
    flagged = torch.isin(of_new, torch.tensor([1003.0, 1004, 1005, 1100, 1101]))
    share = 5 * 3 / (15 + 5 * 3)
    assert flagged.double().mean().item() == pytest.approx(share, abs=5 * 0.5 / len(of_new) ** 0.5)


def test_the_mean_loss_of_weighted_batches_is_the_weighted_mean_of_losses(
    old_and_new: tuple[str, str],
) -> None:
    dataset = load_datasets(old_and_new, ("intervention",))
    config = config_of(old_and_new, weights={"intervention": 7.0})
    weights = step_weights(dataset, config.data.weights)
    firsts = np.concatenate([each.observations[:-1, 0] for each in dataset.episodes])
    losses = np.sin(firsts)
    expected = (weights * losses).sum() / weights.sum()
    found = torch.sin(draws(dataset, config, 8000)).double().mean().item()
    assert found == pytest.approx(expected, abs=5 / np.sqrt(8000 * BATCH))


def test_draws_go_on_from_the_generators_state(old_and_new: tuple[str, str]) -> None:
    dataset = load_datasets(old_and_new, ("intervention",))
    config = config_of(old_and_new, ratio=[1, 2], weights={"intervention": 3.0})
    table = make_transitions(dataset, RAW)
    strata = make_strata(dataset, config.data, BATCH)
    whole = BatchSampler(table, BATCH, torch.Generator().manual_seed(1), "cpu", strata)
    whole.draw()
    later = torch.Generator()
    later.set_state(whole.generator.get_state())
    resumed = BatchSampler(table, BATCH, later, "cpu", strata)
    for _ in range(3):
        assert torch.equal(whole.draw().observation, resumed.draw().observation)


def test_the_last_weight_is_drawn_and_nothing_beyond_it() -> None:
    """A place that rounds up to the whole sum is that of the last transition."""
    episode = numbered_episode(0, 3, range(1))
    dataset = LoadedDataset(TINY_SPEC, (episode,), "three")
    data = DataConfig(dataset="three", weights={"intervention": 1e-6})
    (stratum,) = make_strata(dataset, data, 10_000)
    drawn = stratum.draw(torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) <= {0, 1, 2}
    assert {1, 2} <= set(drawn.tolist())
    assert (drawn == 0).sum() < 10


@pytest.mark.parametrize(
    ("ratio", "counts"), [([1, 1], (8, 8)), ([1, 2], (5, 11)), ([0.1, 0.9], (2, 14))], ids=str
)
def test_a_batch_is_divided_by_the_largest_remainder(
    ratio: list[float], counts: tuple[int, int]
) -> None:
    assert batch_counts(config_of(("a", "b"), ratio=ratio).data, BATCH) == counts


def test_a_ratio_that_does_not_go_with_the_datasets_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.ratio: \[1, 2, 1\] has 3 numbers.* are 2: give"):
        require_ratio(config_of(("a", "b"), ratio=[1, 2, 1]).data, BATCH)
    with pytest.raises(ConfigError, match=r"data.ratio: \[1, 999\] gives a nothing of a batch"):
        require_ratio(config_of(("a", "b"), ratio=[1, 999]).data, BATCH)
    with pytest.raises(ConfigError, match="has 2 numbers, and the datasets are 1"):
        load_training_data(config_of(("a",), ratio=[1, 1]))


def test_a_dataset_of_which_all_is_held_out_has_no_part_in_a_ratio(
    tmp_path: Path,
) -> None:
    for name, start in (("a", 0), ("b", 1000)):
        write_dataset(tmp_path / name, [numbered_episode(start, 20, None)], TINY_SPEC)
    names = str(tmp_path / "a"), str(tmp_path / "b")
    config = config_of(names, ratio=[1, 1])
    config = config.model_copy(
        update={"validation": config.validation.model_copy(update={"held_out": 0.5})}
    )
    with pytest.raises(DatasetError, match=r"all its episodes are held out.*held_out"):
        load_training_data(config)


def test_a_weight_is_refused_where_nothing_says_whose_the_steps_are(
    old_and_new: tuple[str, str],
) -> None:
    config = config_of(old_and_new[:1], weights={"intervention": 4.0})
    with pytest.raises(
        DatasetError, match=r"data.weights.intervention=4 weighs.*no episode has: leave"
    ):
        load_training_data(config)


def test_steps_of_which_nobody_says_whose_they_are_weigh_1_and_that_is_said(
    old_and_new: tuple[str, str],
) -> None:
    config = config_of(old_and_new, weights={"intervention": 4.0})
    texts = {each.text: each.is_warning for each in load_training_data(config).findings}
    key = "data.weights.intervention=4"
    assert not texts[f"{key}: 5 of 20 steps are drawn 4 times as often"]
    without = f"3 episodes (60 steps) of {old_and_new[0]} without infos/intervention weigh 1"
    assert texts[f"{key}: {without}"]


def test_an_info_that_is_not_yes_or_no_is_refused() -> None:
    episode = numbered_episode(0, 4, None)
    config = config_of(("drawn",), weights={"force": 2.0})
    for values in (np.array([0.0, 0.5, 1.0, 0.0]), np.ones((4, 2)), np.ones(3)):
        odd = dataclasses.replace(episode, infos={"force": values})
        with pytest.raises(DatasetError, match="infos/force is not true or false for each"):
            check_dataset(LoadedDataset(TINY_SPEC, (odd,), "drawn"), config)


def test_minari_reads_the_infos_and_only_those_asked_for_are_loaded(
    old_and_new: tuple[str, str],
) -> None:
    _, new = old_and_new
    (first, _) = MinariDataset(Path(new) / "data").iterate_episodes()
    flags = [False] * 3 + [True] * 3 + [False] * 6
    assert first.infos is not None
    assert first.infos["intervention"].tolist() == [False, *flags]
    (loaded, *_) = load_datasets([new], ("intervention", "other")).episodes
    assert {name: each.tolist() for name, each in loaded.infos.items()} == {"intervention": flags}
    assert load_datasets([new]).episodes[0].infos == {}
