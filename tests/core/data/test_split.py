import re
from pathlib import Path

import numpy as np
import pytest

from dql_core.algo.noise import RunSeeds
from dql_core.config import TrainConfig
from dql_core.data.dataset import Episode, LoadedDataset, write_dataset
from dql_core.data.transitions import split_episodes
from dql_core.errors import DatasetError
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.training.loop import train

SPEC = PolicySpec("cart", 10.0, (FieldSpec("x"),), (FieldSpec("push", "N", -1.0, 1.0),))


def dataset_of(count: int) -> LoadedDataset:
    """Episode i holds nothing but the number i."""
    episodes = (
        Episode(np.full((3, 1), i, "f4"), np.zeros((2, 1), "f4"), np.zeros(2), False, True)
        for i in range(count)
    )
    return LoadedDataset(SPEC, tuple(episodes), "cart data", {"made": "here"})


def numbers(dataset: LoadedDataset | None) -> list[int]:
    assert dataset is not None
    return [int(episode.observations[0, 0]) for episode in dataset.episodes]


@pytest.mark.parametrize(
    ("count", "share", "expected"), [(10, 0.3, 3), (10, 0.01, 1), (10, 0.99, 9), (2, 0.5, 1)]
)
def test_each_episode_is_in_one_part_and_neither_is_empty(
    count: int, share: float, expected: int
) -> None:
    learned, held_out = split_episodes(dataset_of(count), share, seed=0)
    assert len(numbers(held_out)) == expected
    assert sorted(numbers(learned) + numbers(held_out)) == list(range(count))
    assert numbers(learned) == sorted(numbers(learned))
    assert learned.metadata == {"made": "here"}


def test_the_seed_alone_decides_which_episodes_are_held_out() -> None:
    held_out = [numbers(split_episodes(dataset_of(40), 0.2, seed)[1]) for seed in (3, 3, 4)]
    assert held_out[0] == held_out[1] != held_out[2]


def test_nothing_is_held_out_for_a_share_of_zero() -> None:
    dataset = dataset_of(1)
    assert split_episodes(dataset, 0.0, seed=0) == (dataset, None)


def test_one_episode_cannot_be_split() -> None:
    with pytest.raises(DatasetError, match=r"holds one episode and validation.held_out is 0\.1"):
        split_episodes(dataset_of(1), 0.1, seed=0)


@pytest.mark.parametrize(
    ("lengths", "share", "words"),
    [
        ([4, *[34] * 5], 0.1, "=0.1 holds out 4 of 174 transitions (1 of 6 episodes): too few"),
        ([20, *[400] * 9], 0.1, "=0.1 holds out 20 of 3620 transitions (1 of 10 episodes): too"),
        ([500, 90, 90], 0.3, "=0.3 holds out 500 of 680 transitions (1 of 3 episodes), so that"),
        ([9] * 10, 0.1, "=0.1 holds out 9 of 90 transitions (1 of 10 episodes): too few"),
    ],
)
def test_a_split_by_which_nothing_can_be_judged_is_refused(
    tmp_path: Path, lengths: list[int], share: float, words: str
) -> None:
    # The first episode of the list is put where the seed takes the held-out one from.
    sizes = lengths[1:]
    seed = TrainConfig().run.seed
    chosen = np.random.default_rng(RunSeeds.derive(seed).held_out).permutation(len(lengths))[0]
    sizes.insert(int(chosen), lengths[0])
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            rng.normal(size=(size + 1, 1)).astype("f4"),
            rng.uniform(-1.0, 1.0, (size, 1)).astype("f4"),
            rng.normal(size=size),
            False,
            True,
        )
        for size in sizes
    ]
    write_dataset(tmp_path / "set", episodes, SPEC)
    document = {"data": {"dataset": str(tmp_path / "set")}, "validation": {"held_out": share}}
    with pytest.raises(DatasetError, match=re.escape(f"validation.held_out{words}")):
        train(TrainConfig.model_validate(document), tmp_path / "run")
    assert not (tmp_path / "run").exists()
