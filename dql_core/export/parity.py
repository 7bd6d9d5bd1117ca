"""Proof that an exported graph is the policy that it was made from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from dql_core.algo.policy_graph import PolicyGraph
from dql_core.errors import BundleError
from dql_core.runtime.manifest import Parity
from dql_core.runtime.policy import Choice, Decision, Noise, draw_noise

# Largest accepted difference: of actions as a share of their range, of Q relative to its size.
MAX_ERROR = 1e-4


def measure_parity(
    graph: PolicyGraph,
    exported: Callable[[NDArray[np.float32], Noise], Decision],
    observations: NDArray[np.float32],
    source: str,
    choice: Choice,
) -> Parity:
    """Compare both sides on equal observations and equal noise.

    Candidates and Q values are continuous in all that is computed, so they are compared number by
    number. The choice among them is not: where the scores of two candidates differ by less than
    rounding, either may win. So the exported action is compared with the nearest of those
    candidates which rounding *as measured on this very observation* can have made the winner,
    usually a single one. A graph that chooses by a wrong rule therefore still fails, and how
    often rounding decided is counted in ``ties``.

    Args:
        graph: The original.
        exported: What ONNX Runtime makes of the export.
        observations: Raw observations, shape (n, O).
        source: Where they came from.
        choice: How many candidates there are and how one is chosen.
    """
    rng = np.random.default_rng(0)
    shape = graph.noise_shape(choice.num_candidates)
    differences = []
    for observation in observations:
        noise = draw_noise(rng, shape, choice.selection)
        differences.append(_compare(graph, exported(observation, noise), observation, noise))
    actions, candidates, q_values, ties = zip(*differences, strict=True)
    return Parity(
        observations=len(observations),
        source=source,
        action_error=max(actions),
        candidate_error=max(candidates),
        q_error=max(q_values),
        ties=sum(ties),
    )


def require_parity(parity: Parity, where: str) -> None:
    """Refuse a graph that is not the policy.

    Raises:
        BundleError: Naming the largest difference.
    """
    errors = {
        "chosen actions": parity.action_error,
        "candidate actions": parity.candidate_error,
        "Q values": parity.q_error,
    }
    what, worst = max(errors.items(), key=lambda item: item[1])
    if worst > MAX_ERROR:
        raise BundleError(
            f"{where}: the {what} of the exported graph differ from the policy's by {worst:.2g} "
            f"of their range on {parity.source}, at most {MAX_ERROR:g} is accepted: no bundle "
            f"was written; check that the training did not diverge"
        )


def _compare(
    graph: PolicyGraph, exported: Decision, observation: NDArray[np.float32], noise: Noise
) -> tuple[float, float, float, bool]:
    """Return the errors of action, candidates and Q values, and whether rounding decided."""
    original = graph.decide(observation, noise)
    if not (_is_finite(original) and _is_finite(exported)):
        return np.inf, np.inf, np.inf, False
    action_range = (graph.action_high - graph.action_low).numpy()
    scores = _scores(graph, original, noise)
    rounding = np.abs(_scores(graph, exported, noise) - scores).max()
    winners = np.flatnonzero(scores >= scores.max() - 2.0 * rounding)
    misses = np.abs(original.candidates[winners] - exported.action) / action_range  # (W, A)
    nearest = int(misses.max(axis=1).argmin())
    q_size = max(1.0, float(np.abs(original.q_values).max()))
    return (
        float(misses[nearest].max()),
        float((np.abs(exported.candidates - original.candidates) / action_range).max()),
        float(np.abs(exported.q_values - original.q_values).max()) / q_size,
        bool(winners[nearest] != scores.argmax()),
    )


def _scores(graph: PolicyGraph, decision: Decision, noise: Noise) -> NDArray[np.float32]:
    scores: NDArray[np.float32] = graph.scores(torch.tensor(decision.q_values)).numpy()
    return scores + noise.selection


def _is_finite(decision: Decision) -> bool:
    arrays = (decision.action, decision.q_values, decision.candidates)
    return all(bool(np.isfinite(array).all()) for array in arrays)
