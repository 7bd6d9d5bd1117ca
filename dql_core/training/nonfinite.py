"""Losses or weights that are no numbers any more: where a run broke, and on what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dql_core.data.batches import Batch


def broken_losses(
    names: Sequence[str],
    rows: NDArray[np.float64],
    first_step: int,
    redraw: Callable[[int], Batch],
) -> str | None:
    """Look for losses that are NaN or infinite.

    Args:
        names: Names of the L losses.
        rows: Losses of n updates, shape (n, L).
        first_step: Number of the first of these updates.
        redraw: Returns the batch of one of them, counted from 0.

    Returns:
        The first update with such a loss, its losses and its batch; None if all are numbers.
    """
    finite = np.isfinite(rows)
    if finite.all():
        return None
    index = int(np.flatnonzero(~finite.all(axis=1))[0])
    row = dict(zip(names, rows[index].tolist(), strict=True))
    broken = {name: value for name, value in row.items() if not np.isfinite(value)}
    sound = {name: value for name, value in row.items() if name not in broken}
    told = f"training diverged at step {first_step + index}: {_text(broken)}"
    if sound:
        told += f", while {_text(sound)}"
    if index:
        before = dict(zip(names, rows[index - 1].tolist(), strict=True))
        told += f"; one step before, {_text(before)}"
    return f"{told}; its batch has {_statistics(redraw(index))}"


def broken_weights(step: int, modules: Mapping[str, nn.Module]) -> str | None:
    """Look for weights that are NaN or infinite, which losses tell one update later.

    Returns:
        The first such tensor; None if all are numbers.
    """
    for name, module in modules.items():
        for key, tensor in module.state_dict().items():
            if not bool(torch.isfinite(tensor).all()):
                return f"training diverged at step {step}: the weights '{name}.{key}' are broken"
    return None


def _text(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value:.3g}" for name, value in values.items())


def _statistics(batch: Batch) -> str:
    """Describe a batch as the networks see it: normalised."""
    reward = batch.reward
    return (
        f"rewards {reward.min().item():.3g} to {reward.max().item():.3g} (mean "
        f"{reward.mean().item():.3g}), |action| up to {_largest(batch.action):.3g}, normalised "
        f"|observation| up to {_largest(batch.observation):.3g} (next: "
        f"{_largest(batch.next_observation):.3g})"
    )


def _largest(values: Tensor) -> float:
    return float(values.abs().max())
