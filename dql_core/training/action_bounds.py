"""How often the policy's actions lie at their bounds, beside how often the data's do.

A policy that asks for bounds which the data keeps away from follows its critics, or the noise of
its sampling, and not the data: on a robot it would go from one extreme to the other.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.algo.noise import RunSeeds
from dql_core.config import DETERMINISTIC_AGENTS, TrainConfig
from dql_core.data.dataset import LoadedDataset
from dql_core.spec import PolicySpec
from dql_core.training.checkpoint import Checkpoint
from dql_core.training.preparation import TrainingData

# Shares among all numbers of the actions, in the records of checkpoints: the policy's, the data's.
AT_BOUNDS = ("actions_at_bounds", "actions_at_bounds_in_data")
# So near to a bound, as a share of the range, is at it.
MARGIN = 1e-3
# A share of the policy's actions that is larger than the data's by so much is worth a warning.
REMARKABLE_EXCESS = 0.1
MOST_OBSERVATIONS, FEWEST_OBSERVATIONS = 256, 32
# Actions sampled for a measure, times the steps of the reverse process; about a second.
MAX_SAMPLING_STEPS = 1 << 16
MAX_ROWS = 1 << 15
_logger = logging.getLogger(__name__)


class ActionBounds:
    """Measures checkpoints on held-out observations, or, where none are, on those learned from.

    Args:
        run: The run.
        data: What it learns from and what is held out.
    """

    def __init__(self, run: Checkpoint, data: TrainingData) -> None:
        self._dataset = data.held_out or data.learned
        self._source = "held-out episodes" if data.held_out else "training episodes"
        self._seed = RunSeeds.derive(run.config.run.seed).held_out
        counts = [at_bounds(each.actions, run.spec).sum(axis=0) for each in self._dataset.episodes]
        self._of_data = np.sum(counts, axis=0) / self._dataset.num_transitions

    def measure(self, run: Checkpoint) -> dict[str, Any]:
        """Measure a checkpoint; warn of it if the run is in its second half.

        Returns:
            ``actions_at_bounds``: share of the policy's numbers at a bound;
            ``actions_at_bounds_in_data``: likewise of the data's; ``at_bounds``: both for each
            action field, and where they come from.
        """
        policy = run.policy()
        candidates = policy.choice.num_candidates
        observations = _observations(self._dataset, _number_wanted(run, candidates), self._seed)
        rows = max(1, MAX_ROWS // candidates)
        rngs = [np.random.default_rng((self._seed, i)) for i in range(len(observations))]
        actions = [
            policy.act_for_each(observations[i : i + rows], rngs[i : i + rows])
            for i in range(0, len(rngs), rows)
        ]
        numbers = np.concatenate(actions).reshape(-1, len(run.spec.action))
        of_policy = at_bounds(numbers, run.spec).mean(axis=0)
        if 2 * run.step >= run.config.run.steps:
            self._warn(run, of_policy)
        names = [field.name for field in run.spec.action]
        means = float(of_policy.mean()), float(self._of_data.mean())
        return {
            **dict(zip(AT_BOUNDS, means, strict=True)),
            "at_bounds": {
                "source": self._source,
                "observations": len(observations),
                "policy": dict(zip(names, of_policy.tolist(), strict=True)),
                "data": dict(zip(names, self._of_data.tolist(), strict=True)),
            },
        }

    def _warn(self, run: Checkpoint, of_policy: NDArray[np.float64]) -> None:
        excess = of_policy - self._of_data
        index = int(excess.argmax())
        if excess[index] <= REMARKABLE_EXCESS:
            return
        others = int((excess > REMARKABLE_EXCESS).sum()) - 1
        means = f"{100 * of_policy.mean():.0f} % and {100 * self._of_data.mean():.0f} %"
        _logger.warning(
            "step %d: in %.0f %% of the policy's actions '%s' is at a bound%s, and in %.0f %% of "
            "those of the %s%s: it does not act like the data; %s",
            run.step,
            100 * of_policy[index],
            run.spec.action[index].name,
            f" (the worst of {others + 1} such fields)" if others else "",
            100 * self._of_data[index],
            self._source,
            f" (all {len(of_policy)} fields together: {means})" if len(of_policy) > 1 else "",
            _remedy(run.config),
        )


def at_bounds(actions: NDArray[np.float32], spec: PolicySpec) -> NDArray[np.bool_]:
    """Return which numbers of n actions are at one of their bounds, both shape (n, A)."""
    low, high = spec.action_low, spec.action_high
    margin = np.float32(MARGIN) * (high - low)
    at: NDArray[np.bool_] = (actions <= low + margin) | (actions >= high - margin)
    return at


def _remedy(config: TrainConfig) -> str:
    if config.agent in DETERMINISTIC_AGENTS:
        return "lower td3.alpha, or imitate: agent=diffusion_bc"
    if config.learns_values and config.policy.eta > 0:
        return "lower policy.eta, or imitate: agent=diffusion_bc"
    is_blurred = config.policy.kind == "diffusion" and config.diffusion.schedule != "cosine"
    return f"train longer{', or set diffusion.schedule=cosine' if is_blurred else ''}"


def _number_wanted(run: Checkpoint, candidates: int) -> int:
    """Return on how many observations to act, so that measuring takes little time."""
    wanted = MAX_SAMPLING_STEPS // (run.config.num_network_calls * candidates)
    return min(max(wanted, FEWEST_OBSERVATIONS), MOST_OBSERVATIONS)


def _observations(dataset: LoadedDataset, wanted: int, seed: int) -> NDArray[np.float32]:
    """Draw observations that were acted on, shape (at most ``wanted``, O)."""
    total = dataset.num_transitions
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(total, min(wanted, total), replace=False))
    firsts = np.cumsum([0, *(len(episode) for episode in dataset.episodes)])
    episodes = np.searchsorted(firsts, chosen, side="right") - 1
    return np.stack(
        [
            dataset.episodes[episode].observations[row - firsts[episode]]
            for episode, row in zip(episodes.tolist(), chosen.tolist(), strict=True)
        ]
    )
