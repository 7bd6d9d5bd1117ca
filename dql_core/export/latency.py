"""How long the decisions of a policy bundle take, beside those of plain eager PyTorch."""

# ruff: noqa: PLC0415 - a machine that only runs bundles need not have torch.
from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.algo.backends import BackendName, named_backend
from dql_core.config import DETERMINISTIC_AGENTS, TrainConfig
from dql_core.errors import BundleError
from dql_core.runtime.bundle_policy import load_policy
from dql_core.runtime.manifest import MANIFEST_FILE, Manifest
from dql_core.strict_yaml import parse

NUMBERS_OF_CANDIDATES = (1, 10, 50)
ROUNDS, CALLS = 20, 50
# From a number of candidates to a function that makes one decision among so many.
PlainDecisions = Callable[[int], Callable[[], object]]
# A decision that takes at most this share of the period leaves room for the rest of the node.
SHARE_OF_PERIOD = 0.5


@dataclass(frozen=True)
class Measurement:
    """How long decisions among a number of candidates take.

    Attributes:
        num_candidates: K.
        p50_us: Median, in microseconds like the rest.
        p95_us: 95th percentile.
        p99_us: 99th percentile.
        max_us: Longest.
        times_faster: Than plain eager PyTorch; None if that was not measured.
    """

    num_candidates: int
    p50_us: float
    p95_us: float
    p99_us: float
    max_us: float
    times_faster: float | None = None

    @classmethod
    def of(
        cls, num_candidates: int, times_us: NDArray[np.float64], times_faster: float | None = None
    ) -> Measurement:
        """Summarise measured times, of any shape."""
        p50, p95, p99, longest = np.percentile(times_us, [50, 95, 99, 100]).tolist()
        return cls(num_candidates, p50, p95, p99, longest, times_faster)

    @property
    def calls_per_s(self) -> float:
        """How many decisions of median length fit in a second."""
        return 1e6 / self.p50_us

    @property
    def control_rate_hz(self) -> float:
        """Highest rate at which 99 of 100 decisions leave half of the period to others."""
        return SHARE_OF_PERIOD * 1e6 / self.p99_us

    def to_json(self) -> dict[str, Any]:
        """Return all figures, in whole microseconds."""
        times = ("p50_us", "p95_us", "p99_us", "max_us")
        return {
            "num_candidates": self.num_candidates,
            **{name: round(getattr(self, name)) for name in times},
            "calls_per_s": round(self.calls_per_s),
            "control_rate_hz": round(self.control_rate_hz, 1),
            "times_faster_than_plain_torch": self.times_faster and round(self.times_faster, 2),
        }


def time_interleaved(
    functions: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    calls: int,
    warm_up: int = 3,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, NDArray[np.float64]]:
    """Time functions in turns, so that whatever else the machine does falls on all of them.

    Args:
        functions: What to call, by name.
        rounds: How often each has its turn.
        calls: Calls in a turn.
        warm_up: Calls before each turn that are not counted: the others emptied the caches.
        clock: Gives nanoseconds.

    Returns:
        Time of each call in microseconds by name, shape (rounds, calls).
    """
    times = {name: np.empty((rounds, calls)) for name in functions}
    for turn in range(rounds):
        for name, function in functions.items():
            for _ in range(warm_up):
                function()
            for call in range(calls):
                begun = clock()
                function()
                times[name][turn, call] = (clock() - begun) / 1e3
    return times


def speed_ratio(
    reference_us: NDArray[np.float64], times_us: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Return how many times faster than a reference something is: quartile, median, quartile.

    Args:
        reference_us: Times of the reference, shape (rounds, calls).
        times_us: Times of the other in the same rounds, shape (rounds, calls).
    """
    ratios = np.median(reference_us, axis=1) / np.median(times_us, axis=1)
    low, middle, high = (float(value) for value in np.percentile(ratios, [25, 50, 75]))
    return low, middle, high


def measure_bundle(
    bundle: Path,
    manifest: Manifest,
    plain: PlainDecisions | None,
    *,
    backend: BackendName = "auto",
    device: str = "cpu",
    rounds: int = ROUNDS,
) -> list[Measurement]:
    """Measure a bundle for 1, 10, 50 candidates and its own number.

    Args:
        bundle: Its folder.
        manifest: Its manifest.
        plain: What to compare with, if anything.
        backend: What computes.
        device: Where.
        rounds: Turns of each.

    Raises:
        DqlError: If the bundle cannot be run so.
    """
    measurements = []
    for count in _numbers_of_candidates(manifest):
        # Each number has a session of its own, as in a node: memory is laid out for the first.
        policy = load_policy(
            bundle,
            num_candidates=count,
            backend=named_backend(backend, device),
        )
        rng = np.random.default_rng(0)
        observation = manifest.observation_normalizer.observation_mean
        functions: dict[str, Callable[[], object]] = {
            "ours": partial(policy.act, observation, rng)
        }
        if plain:
            functions["plain"] = plain(count)
        times = time_interleaved(functions, rounds=rounds, calls=CALLS)
        ratio = speed_ratio(times["plain"], times["ours"])[1] if plain else None
        measurements.append(Measurement.of(count, times["ours"], ratio))
    return measurements


def _numbers_of_candidates(manifest: Manifest) -> list[int]:
    """Return the numbers that are worth measuring; the first candidate is the only one."""
    if manifest.selection == "first":
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
    if manifest.agent in DETERMINISTIC_AGENTS:
        return f"{manifest.agent} samples no actions"
    import torch

    from dql_core.export.plain_torch import PlainSelection

    torch.set_num_threads(threads)
    config = parse(manifest.config, TrainConfig, MANIFEST_FILE, BundleError)
    spec = manifest.policy_spec
    selection = PlainSelection(
        len(spec.observation),
        manifest.horizon * len(spec.action),
        policy=(config.policy.width, config.policy.depth),
        critic=(config.critic.width, config.critic.depth),
        num_steps=config.num_network_calls,
    )
    observation = np.zeros(len(spec.observation), np.float32)
    return lambda count: partial(selection, observation, count)
