"""One seed in the configuration, one independent stream for each use of randomness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class RunSeeds:
    """Seeds that share no randomness, so that changing one use leaves the others as they were.

    Attributes:
        weights: Initial weights.
        batches: Choice of the batches.
        updates: Noise of the updates.
        held_out: Choice of the held-out episodes, and noise of what is measured on them.
    """

    weights: int
    batches: int
    updates: int
    held_out: int

    @classmethod
    def derive(cls, seed: int) -> RunSeeds:
        """Derive the streams of a run from its one seed."""
        # A new use goes to the end: then the seeds of the others stay as they were.
        return cls(*np.random.SeedSequence(seed).generate_state(4).tolist())


def make_generator(seed: int, device: str) -> torch.Generator:
    """Return a generator on ``device`` that starts at ``seed``."""
    return torch.Generator(device=device).manual_seed(seed)


def resolve_device(device: str) -> str:
    """Return ``cuda`` or ``cpu`` for ``auto``, anything else unchanged."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
