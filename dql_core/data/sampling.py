"""How often a transition is drawn: by the ratio of its dataset and by the weight of its step.

What learns knows nothing of it. Drawn with probability p instead of 1/M, transition m counts p M
times in the mean of a batch, so that the loss of every agent becomes the weighted mean
sum(w_m L_m) / sum(w_m), whatever runs the update.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.data_config import DataConfig
from dql_core.errors import ConfigError, DatasetError


@dataclass(frozen=True)
class Stratum:
    """Neighbouring transitions of which every batch has the same number.

    Attributes:
        first: The first one's number in the table.
        size: How many they are.
        count: How many of a batch are drawn from them, with replacement.
        cumulative: Sum of the weights up to each of them, shape (size,), float64; None if all
            weigh the same.
    """

    first: int
    size: int
    count: int
    cumulative: Tensor | None = None

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw the numbers of transitions, int64, shape (count,)."""
        if self.cumulative is None:
            return self.first + torch.randint(self.size, (self.count,), generator=generator)
        places = torch.rand(self.count, generator=generator, dtype=torch.float64)
        places *= self.cumulative[-1]
        # The first whose sum is beyond the place; a product may round up to the whole sum.
        index = torch.searchsorted(self.cumulative, places, right=True)
        return self.first + index.clamp_(max=self.size - 1)


def make_strata(
    dataset: LoadedDataset, data: DataConfig, batch_size: int, horizon: int = 1
) -> tuple[Stratum, ...]:
    """Return from what batches are drawn; nothing if all transitions are drawn equally often.

    Args:
        dataset: What is learned from, after `weight_findings` has looked at it.
        data: Its ratio and weights.
        batch_size: B.
        horizon: Actions of a chunk, H. A chunk weighs the mean of its steps, so that a weighted
            step counts in each chunk that has it.

    Raises:
        DatasetError: If none of a dataset's episodes is left to learn from.
    """
    if not data.ratio and not data.weights:
        return ()
    (starts, recorded), weights = dataset.chunks(horizon), None
    if data.weights:
        of_steps = np.append(step_weights(dataset, data.weights), 0.0)
        spans = np.stack([starts, starts + recorded], axis=1)
        weights = np.add.reduceat(of_steps, spans.ravel())[::2] / recorded
    if not data.ratio:
        return (_stratum(0, len(starts), batch_size, weights),)
    lengths = [len(episode) for episode in dataset.episodes]
    numbers = np.repeat([episode.dataset for episode in dataset.episodes], lengths)[starts]
    ends = np.searchsorted(numbers, np.arange(len(data.ratio)), side="right").tolist()
    strata = []
    for name, first, end, count in zip(
        data.datasets, [0, *ends], ends, batch_counts(data, batch_size), strict=False
    ):
        if first == end:
            are_short = f" or shorter than policy.horizon: {horizon}" if horizon > 1 else ""
            raise DatasetError(
                f"{name}: all its episodes are held out{are_short} and data.ratio asks for some "
                f"of them: lower validation.held_out, or set it to 0"
            )
        strata.append(_stratum(first, end - first, count, weights))
    return tuple(strata)


def _stratum(first: int, size: int, count: int, weights: NDArray[np.float64] | None) -> Stratum:
    if weights is None:
        return Stratum(first, size, count)
    return Stratum(first, size, count, torch.from_numpy(np.cumsum(weights[first : first + size])))


def require_ratio(data: DataConfig, batch_size: int) -> None:
    """Refuse a ratio that is not of as many datasets as there are, or leaves one of them nothing.

    Raises:
        ConfigError: With the numbers.
    """
    if not data.ratio:
        return
    if len(data.ratio) != len(data.datasets):
        raise ConfigError(
            f"data.ratio: {_listed(data.ratio)} has {len(data.ratio)} numbers, and the datasets "
            f"are {len(data.datasets)}: give one for each, in the order in which they are named"
        )
    batch_counts(data, batch_size)


def batch_counts(data: DataConfig, batch_size: int) -> tuple[int, ...]:
    """Return how many transitions of a batch each dataset gives, by the largest remainder.

    Raises:
        ConfigError: If one gives none.
    """
    ratio = np.array(data.ratio)
    shares = batch_size * ratio / ratio.sum()
    counts = np.floor(shares).astype(int)
    left = batch_size - int(counts.sum())
    counts[np.argsort(counts - shares, kind="stable")[:left]] += 1
    if not counts.all():
        name = data.datasets[int(np.argmin(counts))]
        raise ConfigError(
            f"data.ratio: {_listed(data.ratio)} gives {name} nothing of a batch of {batch_size}: "
            f"raise its number or run.batch_size, or leave this dataset out"
        )
    return tuple(counts.tolist())


def step_weights(dataset: LoadedDataset, weights: Mapping[str, float]) -> NDArray[np.float64]:
    """Return the weight of each step, shape (N,)."""
    parts = []
    for episode in dataset.episodes:
        part = np.ones(len(episode))
        for name, weight in weights.items():
            if name in episode.infos:
                part[_flags(episode, name, dataset.source)] *= weight
        parts.append(part)
    return np.concatenate(parts)


def weight_findings(dataset: LoadedDataset, data: DataConfig) -> Iterator[tuple[str, bool]]:
    """Say what the weights are about.

    Args:
        dataset: All that was recorded.
        data: Its weights, and the names of its datasets.

    Yields:
        A line, and whether it is a warning.

    Raises:
        DatasetError: If no episode has an info that is weighted, or one is not yes or no.
    """
    for name, weight in data.weights.items():
        key = f"data.weights.{name}={weight:g}"
        known = [episode for episode in dataset.episodes if name in episode.infos]
        if not known:
            raise DatasetError(
                f"{dataset.source}: {key} weighs steps by infos/{name}, which no episode has: "
                f"leave this weight away, or name a dataset that has it"
            )
        flagged = sum(int(_flags(episode, name, dataset.source).sum()) for episode in known)
        steps = sum(map(len, known))
        text = f"{key}: {flagged:,} of {steps:,} steps are drawn {weight:g} times as often"
        yield (text, False) if flagged else (f"{text}: the weight changes nothing", True)
        without = [episode for episode in dataset.episodes if name not in episode.infos]
        if without:
            yield f"{key}: {_named(without, data.datasets)} without infos/{name} weigh 1", True


def ratio_text(strata: Sequence[Stratum], names: Sequence[str]) -> str:
    """Say in one line how often the steps of each dataset are drawn."""
    total, batch = sum(each.size for each in strata), sum(each.count for each in strata)
    parts = (
        f"{each.count} of {name} ({each.size:,} transitions, each "
        f"{each.count / each.size / (batch / total):.2g} times as often as without data.ratio)"
        for each, name in zip(strata, names, strict=True)
    )
    return f"each batch of {batch} has {', '.join(parts)}"


def _named(episodes: Sequence[Episode], datasets: Sequence[str]) -> str:
    steps = sum(map(len, episodes))
    names = [datasets[each] for each in sorted({one.dataset for one in episodes})]
    return f"{len(episodes):,} episodes ({steps:,} steps) of {' and '.join(names)}"


def _flags(episode: Episode, name: str, where: str) -> NDArray[np.bool_]:
    values = np.asarray(episode.infos[name])
    if values.shape != (len(episode),) or not np.isin(values, (0, 1)).all():
        raise DatasetError(
            f"{where}: infos/{name} is not true or false for each of an episode's "
            f"{len(episode)} steps: data.weights weighs only by such"
        )
    return values.astype(bool)


def _listed(ratio: Sequence[float]) -> str:
    return f"[{', '.join(f'{each:g}' for each in ratio)}]"
