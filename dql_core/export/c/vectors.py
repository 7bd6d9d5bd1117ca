"""Decisions of a bundle in ONNX Runtime, by which a compiled policy is checked where it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import BundleError, one_line
from dql_core.runtime.bundle_policy import BundlePolicy
from dql_core.runtime.manifest import GRAPH_FILE, Manifest
from dql_core.runtime.onnx_backend import OnnxBackend
from dql_core.runtime.policy import Choice, Decision, Noise, draw_noise

MAX_VECTORS = 16
# So many numbers are written at most, about a dozen bytes each, unless one decision has more.
MAX_NUMBERS = 40_000
# By so little an observation may change, as a share of its spread, without another choice.
NUDGE = 1e-5
# The last decision is on an observation beyond the training data, by so many of its spreads.
FAR = 100.0


class Vector(NamedTuple):
    """One decision: what went in, and what came out."""

    observation: NDArray[np.float32]
    noise: Noise
    decision: Decision


def check_vectors(manifest: Manifest, contents: Mapping[str, bytes]) -> list[Vector]:
    """Return decisions on draws from the training data's mean and spread, one of them far out.

    Left out are those that are not finite, and those whose choice hangs on the last digits: there
    ONNX Runtime and C may rightly choose otherwise.

    Args:
        manifest: The bundle's; its number of candidates and its selection are taken.
        contents: The bundle's other files, by name.

    Raises:
        BundleError: If there is none, or ONNX Runtime cannot decide.
    """
    choice = Choice(manifest.num_candidates, manifest.selection)
    policy = BundlePolicy(manifest, OnnxBackend()(manifest, contents), choice)
    shape = manifest.sampler.num_noises, choice.num_candidates, len(policy.spec.action)
    per_decision = int(np.prod(shape)) + choice.num_candidates + len(policy.spec.observation)
    wanted = max(1, min(MAX_VECTORS, MAX_NUMBERS // per_decision))
    found: list[Vector] = []
    for seed, observation, nudged in _observations(manifest, wanted):
        try:
            decision = policy.act(observation, np.random.default_rng(seed))
            others = [policy.act(each, np.random.default_rng(seed)) for each in nudged]
        except Exception as cause:  # its errors have no base of their own
            raise BundleError(
                f"ONNX Runtime cannot run {GRAPH_FILE}: {one_line(cause)}"
            ) from cause
        if _is_certain(decision, others):
            noise = draw_noise(np.random.default_rng(seed), shape, choice.selection)
            found.append(Vector(observation, noise, decision))
        if len(found) == wanted:
            return found
    if not found:
        raise BundleError(
            f"of {seed + 1} decisions on draws from the training data's mean and spread none is "
            f"finite and the same after rounding, so that C could not be compared with it: check "
            f"that the training did not diverge"
        )
    return found


def _observations(
    manifest: Manifest, wanted: int
) -> Iterator[tuple[int, NDArray[np.float32], list[NDArray[np.float32]]]]:
    """Yield seeds, observations, and each with its fields a little smaller or larger."""
    statistics = manifest.data_statistics
    size = len(statistics.observation_mean)
    for seed in range(max(MAX_VECTORS, 4 * wanted)):
        drawn = np.random.default_rng(seed).standard_normal(size, dtype=np.float32)
        if seed == wanted - 1 and wanted > 1:
            drawn *= np.float32(FAR)
        nudges = [np.float32(1.0 + sign * NUDGE) for sign in (-1, 1)]
        nudged = [statistics.restore_observation(drawn * nudge) for nudge in nudges]
        yield seed, statistics.restore_observation(drawn), nudged


def _is_certain(decision: Decision, others: list[Decision]) -> bool:
    numbers = np.concatenate([decision.action, decision.q_values])
    return bool(np.isfinite(numbers).all()) and all(
        np.allclose(decision.action, other.action, rtol=1e-2, atol=1e-2) for other in others
    )
