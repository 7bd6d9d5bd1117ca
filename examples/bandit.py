"""The bandit of the Diffusion-QL paper: one decision, 10,000 recorded actions, four ways to act.

The recorded actions lie in four corners that pay differently. Imitation should keep all four,
and Diffusion-QL should find the best one; TD3+BC, whose policy is one point, falls in between.
Takes two minutes on one core and draws docs/images/bandit.png:

    .venv/bin/python examples/bandit.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from dql_core.algo.agent import Agent
from dql_core.algo.noise import RunSeeds, make_generator
from dql_core.algo.registry import make_agent
from dql_core.config import (
    AgentName,
    CriticConfig,
    DiffusionConfig,
    PolicyConfig,
    RunConfig,
    TrainConfig,
)
from dql_core.data.transitions import BatchSampler, TransitionTable
from dql_core.spec import FieldSpec, PolicySpec

CORNERS = np.array([[-0.8, 0.8], [-0.8, -0.8], [0.8, 0.8], [0.8, -0.8]])
PAYS = np.array([3.0, 0.0, 1.5, 5.0])  # the right bottom one is the best
NEAR = 0.25  # five standard deviations of the recorded actions
SPEC = PolicySpec(
    robot="bandit",
    rate_hz=1.0,
    observation=(FieldSpec("always_zero"), FieldSpec("zero_as_well")),
    action=(FieldSpec("x", "", -1.0, 1.0), FieldSpec("y", "", -1.0, 1.0)),
)

STEPS: dict[AgentName, int] = {"diffusion_bc": 8000, "td3_bc": 2000, "diffusion_ql": 1500}


def settings(agent: AgentName, steps: int) -> TrainConfig:
    """Return what to train; all agents have the same networks."""
    return TrainConfig(
        agent=agent,
        run=RunConfig(steps=steps, batch_size=128),
        # Fine enough for modes this narrow; the five steps of the paper's tasks blur them.
        diffusion=DiffusionConfig(
            num_diffusion_steps=20, schedule="cosine", prediction="epsilon", variance="beta"
        ),
        policy=PolicyConfig(
            width=64,
            learning_rate=5e-3,
            eta=8.0,
            max_imitation_ratio=None,  # three of the four ways are not worth imitating
            ema_rate=0.02,
            ema_every=1,
        ),
        critic=CriticConfig(width=64, learning_rate=5e-3),
    )


def record(best: int = 3, seed: int = 0) -> TransitionTable:
    """Return 2,500 noisy actions at each corner and what they paid; the corner ``best`` pays 5."""
    rng = np.random.default_rng(seed)
    corner = np.repeat(np.arange(4), 2500)
    actions = np.clip(CORNERS[corner] + 0.05 * rng.standard_normal((10_000, 2)), -1.0, 1.0)
    rewards = np.roll(PAYS, best - 3)[corner] + 0.5 * rng.standard_normal(10_000)
    return TransitionTable(
        observations=np.zeros((1, 2), dtype=np.float32),
        rows=np.zeros(10_000, dtype=np.int64),
        next_rows=np.zeros(10_000, dtype=np.int64),
        actions=actions.astype(np.float32),
        rewards=rewards.astype(np.float32),
        bootstraps=np.zeros(10_000, dtype=np.float32),  # nothing follows an action
    )


def train(config: TrainConfig, table: TransitionTable) -> Agent:
    """Train an agent on the CPU."""
    seeds = RunSeeds.derive(config.run.seed)
    torch.manual_seed(seeds.weights)
    agent = make_agent(config, SPEC, make_generator(seeds.updates, "cpu"))
    generator = make_generator(seeds.batches, "cpu")
    batches = BatchSampler(table, config.run.batch_size, generator, "cpu")
    for _ in range(config.run.steps):
        agent.update(batches.draw())
    return agent


def act(
    agent: Agent, count: int, observation: Sequence[float] = (0.0, 0.0)
) -> NDArray[np.float32]:
    """Draw actions from the policy alone, none ranked by the critics, shape (count, 2)."""
    sampler = agent.acting_sampler
    noise = torch.randn(sampler.num_noises, count, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return sampler(torch.tensor([observation], dtype=torch.float32), noise).numpy()


def near(actions: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return which share of the actions is near each corner, shape (4,)."""
    distance = np.linalg.norm(actions[:, None] - CORNERS, axis=-1)
    share: NDArray[np.float64] = np.mean(distance < NEAR, axis=0)
    return share


def draw(panels: dict[str, NDArray[np.float32]], path: Path) -> None:
    """Draw the actions of each panel side by side."""
    figure = Figure(figsize=(2.7 * len(panels), 3.3), layout="constrained")
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True)
    for axis, (title, actions) in zip(axes, panels.items(), strict=True):
        for corner in CORNERS:
            axis.add_patch(Circle(corner, NEAR, fill=False, color="lightgray"))
        axis.scatter(*actions.T, s=12, alpha=0.3, linewidths=0)
        axis.set_title(f"{title}\n{near(actions)[PAYS.argmax()]:.0%} at the best corner", size=10)
        axis.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), xlabel="x", box_aspect=1)
    for corner, pay in zip(CORNERS, PAYS, strict=True):
        axes[0].annotate(f"pays {pay:g}", 0.45 * corner, ha="center", va="center")
    axes[0].set_ylabel("y")
    figure.savefig(path, dpi=90)


def main(path: Path = Path("docs/images/bandit.png"), shorter: int = 1) -> None:
    """Train all agents, with ``shorter`` times fewer updates, and draw what they do."""
    torch.set_num_threads(1)
    table = record()
    panels = {"recorded actions": table.actions[::10]}
    for name, steps in STEPS.items():
        panels[name] = act(train(settings(name, steps // shorter), table), 1000)
    draw(panels, path)


if __name__ == "__main__":
    main()
