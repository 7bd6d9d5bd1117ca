"""Memory as Python counts it, the same in each run; benchmarks/data_memory.py tells RSS."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dql_core.data.dataset import Episode, LoadedDataset, load_dataset, write_dataset
from dql_core.data.transitions import BatchSampler, make_transitions
from dql_core.normalize import Normalizer
from dql_core.spec import FieldSpec, PolicySpec

SPEC = PolicySpec(
    robot="cheetah",
    rate_hz=20.0,
    observation=tuple(FieldSpec(f"o{i}") for i in range(17)),
    action=tuple(FieldSpec(f"a{i}", "", -1.0, 1.0) for i in range(6)),
)


@pytest.fixture
def dataset() -> LoadedDataset:
    rng = np.random.default_rng(0)
    episodes = (
        Episode(
            observations=rng.standard_normal((1001, 17), np.float32),
            actions=rng.uniform(-1, 1, (1000, 6)).astype(np.float32),
            rewards=rng.standard_normal(1000),
            terminated=False,
            truncated=True,
        )
        for _ in range(100)
    )
    return LoadedDataset(SPEC, tuple(episodes), "cheetah data")


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def size_of(*arrays: NDArray[Any]) -> int:
    return sum(array.nbytes for array in arrays)


@pytest.mark.usefixtures("traced")
def test_the_table_is_made_without_a_second_one(dataset: LoadedDataset) -> None:
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    table = make_transitions(dataset, Normalizer.for_actions_only(17, [-1.0] * 6, [1.0] * 6))
    _, peak = tracemalloc.get_traced_memory()
    arrays = [array for array in vars(table).values() if isinstance(array, np.ndarray)]
    assert peak - before < 1.5 * size_of(*arrays)


@pytest.mark.usefixtures("traced")
def test_loading_keeps_one_copy(dataset: LoadedDataset, tmp_path: Path) -> None:
    write_dataset(tmp_path, dataset.episodes, SPEC)
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    episodes = load_dataset(tmp_path).episodes
    _, peak = tracemalloc.get_traced_memory()
    arrays = [array for e in episodes for array in (e.observations, e.actions, e.rewards)]
    assert peak - before < 1.2 * size_of(*arrays)


def test_on_the_cpu_batches_are_drawn_from_the_table_itself(dataset: LoadedDataset) -> None:
    table = make_transitions(dataset, Normalizer.for_actions_only(17, [-1.0] * 6, [1.0] * 6))
    batches = BatchSampler(table, 8, torch.Generator(), "cpu")
    for array, kind in (
        (table.observations, "observation"),
        (table.actions, "action"),
        (table.rewards, "reward"),
        (table.bootstraps, "bootstrap"),
    ):
        array[:] = 7.0
        assert bool((getattr(batches.draw(), kind) == 7.0).all())
