"""Three updates pinned as numbers: a refactor keeps them, a change of the mathematics shows here.

After a change that is meant to move them: `python tests/golden/test_golden_update.py` rewrites the
file; say in the commit why they moved.
"""

import json
from pathlib import Path

import pytest
import torch

from dql_core.algo.agent import measured
from dql_core.algo.diffusion_ql import DiffusionQL
from dql_core.config import CriticConfig, DiffusionConfig, PolicyConfig, RunConfig, TrainConfig
from dql_core.data.transitions import Batch

GOLDEN = Path(__file__).with_name("diffusion_ql_updates.json")


def three_updates() -> dict[str, dict[str, float]]:
    """Losses of each update, and the mean magnitude of each tensor after the last."""
    config = TrainConfig(
        run=RunConfig(steps=10),
        diffusion=DiffusionConfig(schedule="vp", prediction="epsilon"),
        policy=PolicyConfig(
            width=16,
            learning_rate=3e-4,
            eta=2.0,
            max_imitation_ratio=None,
            ema_every=2,
            gradient_clip=1.0,
        ),
        critic=CriticConfig(width=16, learning_rate=3e-4, layer_norm=True, max_q_samples=2),
    )
    torch.manual_seed(0)
    agent = DiffusionQL(config, 3, 2, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    batch = Batch(
        observation=torch.randn(32, 3, generator=generator),
        action=torch.rand(32, 2, generator=generator) * 2 - 1,
        reward=torch.randn(32, generator=generator),
        next_observation=torch.randn(32, 3, generator=generator),
        bootstrap=(torch.rand(32, generator=generator) > 0.2).float(),
    )
    losses = [measured(agent.update(batch)) for _ in range(3)]
    return {
        "losses": {
            f"{name} {update}": value.item()
            for update, values in enumerate(losses, start=1)
            for name, value in values.items()
        },
        "tensors": {
            f"{name}.{key}": value.abs().mean().item()
            for name, module in agent.modules.items()
            for key, value in module.state_dict().items()
        },
    }


def test_three_updates_have_their_recorded_losses_and_weights() -> None:
    recorded, found = json.loads(GOLDEN.read_text()), three_updates()
    for kind in ("losses", "tensors"):
        assert found[kind] == pytest.approx(recorded[kind], rel=1e-4, abs=1e-6)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(three_updates(), indent=2) + "\n")
