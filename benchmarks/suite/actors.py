"""Trained actors as plain arrays: a small network, and a Gaussian around its output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import DatasetError

Array = NDArray[Any]
MIN_LOG_STD, MAX_LOG_STD = -20.0, 2.0


@dataclass(frozen=True)
class Actor:
    """An actor of one task.

    Attributes:
        layers: Weight and bias of each hidden layer.
        mean: Weight and bias of the Gaussian's mean.
        log_std: Weight and bias of the logarithm of its standard deviation; a vector alone where
            it does not depend on the observation.
        activation: Of the hidden layers: ``relu`` or ``tanh``.
        squash: What brings a sample into [-1, 1]: ``tanh`` or ``clip``.
        scaling: Mean, variance and bound of the observations as the network takes them; ``None``
            where it takes them raw.
    """

    layers: tuple[tuple[Array, Array], ...]
    mean: tuple[Array, Array]
    log_std: tuple[Array, ...]
    activation: str
    squash: str
    scaling: tuple[Array, Array, float] | None = None

    def act(self, observation: Array, rng: np.random.Generator | None) -> NDArray[np.float32]:
        """Return an action in [-1, 1], shape (A,).

        Args:
            observation: Shape (O,).
            rng: What a sample is drawn with; ``None`` for the mean.
        """
        hidden = self._scaled(observation)
        for weight, bias in self.layers:
            hidden = weight @ hidden + bias
            hidden = np.tanh(hidden) if self.activation == "tanh" else np.maximum(hidden, 0.0)
        action = self.mean[0] @ hidden + self.mean[1]
        if rng is not None:
            action = action + self._std(hidden) * rng.standard_normal(len(action))
        bounded = np.tanh(action) if self.squash == "tanh" else np.clip(action, -1.0, 1.0)
        return np.asarray(bounded, dtype=np.float32)

    def _scaled(self, observation: Array) -> Array:
        if self.scaling is None:
            return observation.astype(np.float32)
        mean, variance, bound = self.scaling
        scaled = np.clip((observation - mean) / np.sqrt(variance + 1e-8), -bound, bound)
        return np.asarray(scaled, dtype=np.float32)

    def _std(self, hidden: Array) -> Array:
        if len(self.log_std) == 1:
            return np.asarray(np.exp(self.log_std[0]))
        weight, bias = self.log_std
        return np.asarray(np.exp(np.clip(weight @ hidden + bias, MIN_LOG_STD, MAX_LOG_STD)))


def load_actor(path: Path) -> Actor:
    """Read an actor; nothing is unpickled.

    Raises:
        DatasetError: If the file is missing or is no actor.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _actor(arrays)
    except (OSError, ValueError, KeyError) as cause:
        raise DatasetError(f"{path}: is not an actor: {cause}") from cause


def _actor(arrays: dict[str, Array]) -> Actor:
    depth = sum(name.startswith("hidden_") and name.endswith("_bias") for name in arrays)
    kinds = str(arrays["activation"]), str(arrays["squash"])
    if kinds[0] not in {"relu", "tanh"} or kinds[1] not in {"tanh", "clip"}:
        raise ValueError(f"activation and squash are {kinds}")
    scaling = None
    if "obs_mean" in arrays:
        scaling = arrays["obs_mean"], arrays["obs_var"], float(arrays["obs_clip"])
    deviations = ("log_std_weight", "log_std_bias") if "log_std" not in arrays else ("log_std",)
    return Actor(
        tuple((arrays[f"hidden_{i}_weight"], arrays[f"hidden_{i}_bias"]) for i in range(depth)),
        (arrays["mean_weight"], arrays["mean_bias"]),
        tuple(arrays[name] for name in deviations),
        *kinds,
        scaling,
    )
