"""The observations on which an exported graph is compared with the policy."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import load_dataset
from dql_core.errors import DatasetError, SpecMismatchError
from dql_core.normalize import Normalizer
from dql_core.spec import PolicySpec
from dql_core.training.checkpoint import Checkpoint

NUM_OBSERVATIONS = 64

_logger = logging.getLogger(__name__)


def comparison_observations(
    checkpoint: Checkpoint, path: Path, dataset: str | None = None
) -> tuple[NDArray[np.float32], str]:
    """Return observations to prove the parity on, shape (M, O), and where they come from.

    Args:
        checkpoint: The policy.
        path: Where the checkpoint lies.
        dataset: Whose observations to take; by default the training dataset's, or, where that is
            out of reach, draws from its statistics.

    Raises:
        DatasetError: If ``dataset`` is given and cannot be read.
        SpecMismatchError: If ``dataset`` describes another robot.
    """
    rng = np.random.default_rng(0)
    if dataset:
        return _recorded(dataset, checkpoint.spec, rng), f"observations of {dataset}"
    trained_on = checkpoint.config.data.dataset
    reason: Exception | None = None
    for candidate in _places(trained_on, path) if trained_on else ():
        try:
            return _recorded(candidate, checkpoint.spec, rng), f"observations of {trained_on}"
        except (DatasetError, SpecMismatchError) as cause:
            reason = reason or cause
    if reason:
        _logger.warning("the parity is not measured on the training dataset: %s", reason)
    drawn = _drawn(checkpoint.data_statistics, rng)
    return drawn, "draws from the training data's mean and spread"


def _places(dataset: str, checkpoint: Path) -> Iterator[str | Path]:
    """Yield where a dataset may lie that a run names.

    A relative name counts from the folder in which the run was trained: that is often the working
    directory, or one that holds the run and was moved with it.
    """
    yield dataset
    for folder in checkpoint.resolve().parents:
        if not Path(dataset).is_absolute() and (folder / dataset).is_dir():
            yield folder / dataset


def _recorded(
    dataset: str | Path, spec: PolicySpec, rng: np.random.Generator
) -> NDArray[np.float32]:
    loaded = load_dataset(dataset)
    spec.require_equal(loaded.spec, "the checkpoint", f"dataset {dataset}")
    rows = np.concatenate([episode.observations for episode in loaded.episodes])
    drawn: NDArray[np.float32] = rows[rng.integers(len(rows), size=NUM_OBSERVATIONS)]
    return drawn


def _drawn(statistics: Normalizer, rng: np.random.Generator) -> NDArray[np.float32]:
    shape = (NUM_OBSERVATIONS, len(statistics.observation_mean))
    return statistics.restore_observation(rng.standard_normal(shape, dtype=np.float32))
