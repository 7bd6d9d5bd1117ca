"""What switches between the paper's code and the defaults change, where nothing is trained.

Each function measures one switch and returns its figures; `deviations.py` runs them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor

from benchmarks.training.deviation_trainings import (
    NORMALIZER,
    Figures,
    bandit_config,
    new_agent,
    rounded,
)
from benchmarks.update import updater
from dql_core.algo.critics import Critics, Targets
from dql_core.algo.diffusion_ql import DiffusionQL
from dql_core.algo.optimizer import Optimizer
from dql_core.algo.policy_graph import policy_graph
from dql_core.config import TrainConfig, ValidationConfig
from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.data.reward_transforms import fit_rewards
from dql_core.data.transitions import Batch
from dql_core.data_config import DataConfig
from dql_core.errors import DatasetError
from dql_core.training.validation import best_offline
from examples import bandit


class NeedlessDiffusionQL(DiffusionQL):
    """Diffusion-QL with the gradients that the paper's code computes and nothing uses.

    Targets are computed with gradients, then detached; the policy's backward pass takes the
    critics' gradients, too. The same weights come out.
    """

    def __init__(
        self, config: TrainConfig, observation_size: int, action_size: int, generator: Generator
    ) -> None:
        super().__init__(config, observation_size, action_size, generator)
        self.policy.average.requires_grad_(True)
        self.critics.target.requires_grad_(True)
        self.optimizers["policy"] = _NeedlessOptimizer(self, config)

    def _target(self, batch: Batch, noise: Tensor) -> Targets:
        sample = partial(self.policy.sample, averaged=True)
        with_gradients = Critics.targets.__wrapped__  # type: ignore[attr-defined]
        target: Targets = with_gradients(self.critics, batch, sample, noise)
        return Targets(target.values.detach(), target.clipped.detach())


class _NeedlessOptimizer(Optimizer):
    def __init__(self, agent: DiffusionQL, config: TrainConfig) -> None:
        super().__init__(agent.policy.online.parameters(), config.policy, config.run)
        self._needless = list(agent.critics.online.parameters())

    def step(self, loss: Tensor) -> None:
        gradients = torch.autograd.grad(loss, [*self.parameters, *self._needless])
        self.apply(gradients[: len(self.parameters)])


Decay = Literal["cosine", "cosine_every_50_epochs"]


def needless_gradients() -> Figures:
    """Computing time of an update with and without the gradients that nothing uses.

    Eager, at the paper's sizes; both take turns, and the ratio is the median over the turns with
    its quartiles.
    """
    figures: Figures = {}
    for max_q_samples, turns in ((1, 60), (10, 20)):
        settings = {"run": {"execution": "eager"}, "critic": {"max_q_samples": max_q_samples}}
        updates = {
            needless: updater(settings, 256, agent)
            for needless, agent in ((True, NeedlessDiffusionQL), (False, DiffusionQL))
        }
        times = [{key: _cpu_ms(updates[key]) for key in updates} for _ in range(turns)][5:]
        ratios = [each[True] / each[False] for each in times]
        figures[f"max_q_samples={max_q_samples}"] = {
            "with_ms": rounded(statistics.median(each[True] for each in times)),
            "without_ms": rounded(statistics.median(each[False] for each in times)),
            "ratio": rounded(statistics.median(ratios)),
            "quartiles": [rounded(ratio) for ratio in statistics.quantiles(ratios, n=4)[::2]],
        }
    return figures


def last_learning_rate() -> Figures:
    """Learning rate of the last update as a share of the first one's."""
    decays: tuple[Decay, ...] = ("cosine", "cosine_every_50_epochs")
    return {
        decay: {
            f"{steps:,} updates": float(f"{_last_rate(decay, steps):.5g}")
            for steps in (2_000_000, 1_000_000, 250_000)
        }
        for decay in decays
    }


def temperature_scale() -> Figures:
    """Probability of the best of 50 candidates whose values differ by 5 % of their size."""
    rng = np.random.default_rng(0)
    spread = 0.05 * rng.standard_normal((1000, 50))
    figures: Figures = {}
    for scale in ("raw", "relative"):
        settings = bandit_config(selection={"temperature_scale": scale})
        graph = policy_graph(new_agent(settings), settings, NORMALIZER)
        figures[scale] = {
            f"Q={size}": rounded(
                np.mean(
                    [
                        graph.scores(torch.tensor(size * (1.0 + row))).softmax(0).max().item()
                        for row in spread
                    ]
                )
            )
            for size in (1, 10, 300)
        }
    return figures


def reward_boundaries() -> Figures:
    """The factor of `iql_locomotion` by what ends a return; 100 episodes of 100 equal rewards.

    The reward of an episode is drawn from 0.5 to 1.5. The factor is 1000 by the range of returns.
    """
    rng = np.random.default_rng(0)
    paces = rng.uniform(0.5, 1.5, 100)
    boundaries: tuple[Literal["episode", "termination"], ...] = ("episode", "termination")
    figures: Figures = {}
    for every in (1, 10, 0):
        ends = [every > 0 and index % every == 0 for index in range(100)]
        episodes = tuple(
            Episode(
                np.zeros((101, 2), np.float32),
                np.zeros((100, 2), np.float32),
                pace * np.ones(100),
                terminated=ends[index],
                truncated=not ends[index],
            )
            for index, pace in enumerate(paces)
        )
        dataset = LoadedDataset(bandit.SPEC, episodes, "toy")
        figures[f"{sum(ends)} of 100 terminate"] = {
            boundary: _factor(dataset, boundary) for boundary in boundaries
        }
    return figures


def checkpoint_ranking() -> Figures:
    """How often the paper's code takes the checkpoint of the wanted rank, and which rank it takes.

    In 1000 series of 40 losses that fall as exp(-n / 10), without and with normal noise of 0.05,
    or that are level and differ by noise only.
    """
    return {
        f"top_k={top_k}": {
            "falling": _ranking(top_k, fall=1.0, noise=0.0),
            "falling with noise": _ranking(top_k, fall=1.0, noise=0.05),
            "level": _ranking(top_k, fall=0.0, noise=0.05),
        }
        for top_k in (0, 1, 2)
    }


def _cpu_ms(update: Callable[[], object]) -> float:
    """Computing time of one update, which other work on the machine does not count to."""
    begun = time.process_time()
    update()
    return 1e3 * (time.process_time() - begun)


def _last_rate(decay: Decay, steps: int) -> float:
    config = TrainConfig.model_validate({"run": {"steps": steps, "learning_rate_decay": decay}})
    optimizer = new_agent(config).optimizers["policy"]
    return optimizer.learning_rate(steps - 1) / optimizer.learning_rate(0)


def _ranking(top_k: int, fall: float, noise: float) -> Figures:
    """Rank of the checkpoint taken by the paper's code in 1000 series of losses."""
    rng = np.random.default_rng(0)
    config = ValidationConfig(bc_loss_rank=top_k, bc_loss_ranking="paper_code")
    ranks = []
    for _ in range(1000):
        losses = fall * np.exp(-np.arange(40) / 10) + noise * rng.standard_normal(40)
        records = [{"step": n, "imitation": loss} for n, loss in enumerate(losses.tolist())]
        best = best_offline(records, config)
        assert best is not None
        ranks.append(int((losses < best.value).sum()))
    return {
        "right": rounded(np.mean(np.array(ranks) == top_k)),
        "mean_rank": rounded(np.mean(ranks)),
    }


def _factor(dataset: LoadedDataset, boundary: Literal["episode", "termination"]) -> float | str:
    config = DataConfig(reward_transform="iql_locomotion", reward_boundaries=boundary)
    try:
        return rounded(fit_rewards(dataset, config).factor)
    except DatasetError:
        return "refused"
