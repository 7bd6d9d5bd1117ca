"""Bundles without a training."""

from pathlib import Path

import numpy as np
import torch

from dql_core.algo.registry import make_agent
from dql_core.config import TrainConfig
from dql_core.export.bundle import export_bundle
from dql_core.normalize import Normalizer
from dql_core.training.checkpoint import Checkpoint, save_checkpoint
from dql_ros.contract import load_contract


def untrained_bundle(folder: Path, contract: Path, horizon: int = 1) -> Path:
    """Export a bundle with random weights for ``contract``; it decides ``horizon`` actions."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec = load_contract(contract).policy_spec()
    network = {"width": 16, "depth": 2}
    config = TrainConfig.model_validate(
        {
            "agent": "diffusion_ql",
            # Without training, predicted noise makes large actions of every kind.
            "diffusion": {"prediction": "epsilon"},
            "policy": network | {"horizon": horizon},
            "critic": network,
        }
    )
    observations = np.random.default_rng(0).normal(size=(50, len(spec.observation)))
    normalizer = Normalizer.fit(observations.astype(np.float32), spec)
    agent = make_agent(config, spec, torch.Generator())
    checkpoint = Checkpoint(spec, config, normalizer, agent, torch.Generator())
    save_checkpoint(folder / "run", checkpoint)
    export_bundle(folder / "run", folder / "bundle", num_candidates=4)
    return folder / "bundle"
