"""It learns: of two unequal modes imitation keeps both and Q-guidance takes the better."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dql_core.config import (
    AgentName,
    CriticConfig,
    DiffusionConfig,
    PolicyConfig,
    RunConfig,
    TrainConfig,
)
from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.training.preparation import make_batches, new_run

pytestmark = pytest.mark.slow

MODE = 0.8
SPREAD = 0.05
SPEC = PolicySpec("bandit", 1.0, (FieldSpec("bias"),), (FieldSpec("arm", "", -1.0, 1.0),))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def two_arms() -> LoadedDataset:
    """One-step episodes; the arm that the observation names pays 1, the one opposite pays 0."""
    rng = np.random.default_rng(0)
    episodes = []
    for index in range(800):
        better, mode = (MODE if index & bit else -MODE for bit in (1, 2))
        action = np.array([[mode + SPREAD * rng.standard_normal()]], np.float32)
        reward = np.array([float(mode == better) + 0.2 * rng.standard_normal()])
        named = np.full((2, 1), better, np.float32)
        episodes.append(Episode(named, action, reward, True, False))
    return LoadedDataset(SPEC, tuple(episodes), "two arms")


def near(mode: float, actions: NDArray[np.float32]) -> float:
    """Share of the actions that belong to ``mode``."""
    return float(np.mean(np.abs(actions - mode) < 0.25))


def sampled_actions(
    agent: AgentName, steps: int, diffusion: DiffusionConfig
) -> dict[float, NDArray[np.float32]]:
    """Train; return actions for each of the two observations."""
    config = TrainConfig(
        agent=agent,
        run=RunConfig(steps=steps, batch_size=64),
        diffusion=diffusion,
        policy=PolicyConfig(
            width=32,
            learning_rate=1e-2,
            eta=4.0,
            max_imitation_ratio=None,  # half of the data is not worth imitating
            ema_rate=0.02,
            ema_every=1,
        ),
        critic=CriticConfig(width=32, learning_rate=3e-3, layer_norm=True),
    )
    dataset = two_arms()
    run = new_run(config, dataset)
    batches = make_batches(run, dataset)
    for _ in range(steps):
        run.agent.update(batches.draw())
    sampler = run.agent.acting_sampler
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(sampler.num_noises, 1000, 1, generator=generator)
    with torch.no_grad():  # as the policy sees them, observations are -1 and 1
        return {
            better: sampler(torch.full((1000, 1), np.sign(better)), noise).numpy()[:, 0]
            for better in (MODE, -MODE)
        }


def test_diffusion_bc_keeps_both_modes_and_little_between() -> None:
    # Five vp steps would be too coarse for two modes, even with a perfect noise model.
    process = DiffusionConfig(schedule="cosine", num_diffusion_steps=8)
    for actions in sampled_actions("diffusion_bc", 1000, process).values():
        assert 0.38 < near(MODE, actions) < 0.55
        assert 0.38 < near(-MODE, actions) < 0.55


def test_diffusion_ql_takes_the_better_mode_whichever_it_is() -> None:
    """The observation says which: one policy learns both."""
    for better, actions in sampled_actions("diffusion_ql", 600, DiffusionConfig()).items():
        assert near(better, actions) > 0.8
        assert near(-better, actions) < 0.03
