"""How long the decisions of a policy bundle take, beside those of plain eager PyTorch."""

# ruff: noqa: PLC0415 - a machine that only runs bundles need not have torch.

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dql_core.config import TrainConfig
from dql_core.errors import BundleError
from dql_core.export.backends import BackendName, named_backend
from dql_core.latency.turns import Latency, speed_ratio, take_turns
from dql_core.runtime.bundle_policy import load_policy
from dql_core.runtime.manifest import MANIFEST_FILE, Manifest
from dql_core.strict_yaml import parse

NUMBERS_OF_CANDIDATES = (1, 10, 50)
ROUNDS, CALLS = 20, 50

# From a number of candidates to a function that makes one decision among so many.
PlainDecisions = Callable[[int], Callable[[], object]]


@dataclass(frozen=True)
class Measurement:
    """What was measured for one number of candidates.

    Attributes:
        num_candidates: K.
        latency: Of a decision.
        times_faster: Than plain eager PyTorch; None if that was not measured.
    """

    num_candidates: int
    latency: Latency
    times_faster: float | None

    def to_json(self) -> dict[str, Any]:
        """Return all figures."""
        ratio = self.times_faster and round(self.times_faster, 2)
        figures = {"num_candidates": self.num_candidates, **self.latency.to_json()}
        return figures | {"times_faster_than_plain_torch": ratio}


def measure_bundle(
    bundle: Path,
    manifest: Manifest,
    plain: PlainDecisions | None,
    *,
    backend: BackendName = "auto",
    device: str = "cpu",
    rounds: int = ROUNDS,
    calls: int = CALLS,
) -> list[Measurement]:
    """Measure a bundle for 1, 10, 50 candidates and its own number.

    Args:
        bundle: Its folder.
        manifest: Its manifest.
        plain: What to compare with, if anything.
        backend: What computes.
        device: Where.
        rounds: Turns of each.
        calls: Decisions in a turn.

    Raises:
        DqlError: If the bundle cannot be run so.
    """
    measurements = []
    for count in numbers_of_candidates(manifest):
        # Each number has a session of its own, as in a node: memory is laid out for the first.
        policy = load_policy(
            bundle,
            num_candidates=count,
            selection=None if manifest.has_critic else "first",
            backend=named_backend(backend, device),
        )
        rng = np.random.default_rng(0)
        observation = policy.normalizer.observation_mean
        functions: dict[str, Callable[[], object]] = {
            "ours": partial(policy.act, observation, rng)
        }
        if plain:
            functions["plain"] = plain(count)
        times = take_turns(functions, rounds=rounds, calls=calls)
        ratio = speed_ratio(times["plain"], times["ours"])[1] if plain else None
        measurements.append(Measurement(count, Latency.of(times["ours"]), ratio))
    return measurements


def numbers_of_candidates(manifest: Manifest) -> list[int]:
    """Return the numbers that are worth measuring; without a critic there is one candidate."""
    if not manifest.has_critic or manifest.selection == "first":
        return [1]
    return sorted({*NUMBERS_OF_CANDIDATES, manifest.num_candidates})


def plain_decisions(manifest: Manifest, threads: int) -> PlainDecisions | str:
    """Return how plain PyTorch decides with networks of the bundle's sizes, or why it cannot.

    Args:
        manifest: The bundle's manifest.
        threads: Threads that torch uses from now on.
    """
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    if manifest.agent == "td3_bc":
        return "TD3+BC samples no actions"
    import torch

    from dql_core.latency.plain_selection import PlainSelection

    torch.set_num_threads(threads)
    config = parse(manifest.config, TrainConfig, MANIFEST_FILE, BundleError)
    sampler, spec = manifest.sampler, manifest.policy_spec
    selection = PlainSelection(
        len(spec.observation),
        len(spec.action),
        policy=(config.policy.width, config.policy.depth),
        critic=(config.critic.width, config.critic.depth),
        num_steps=sampler.num_sampling_steps or sampler.num_diffusion_steps,
    )
    observation = np.zeros(len(spec.observation), np.float32)
    return lambda count: partial(selection, observation, count)
