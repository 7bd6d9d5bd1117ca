"""The paper's bandit in small: imitation keeps four modes, Q-guidance finds the best one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dql_core.config import DiffusionConfig
from dql_core.data.transitions import TransitionTable
from dql_core.models.sampler import StepPrediction, make_process
from dql_core.models.schedule import NoiseSchedule, ScheduleName
from examples import bandit


def test_the_recorded_actions_are_the_papers() -> None:
    table = bandit.record(best=1)
    assert len(table) == 10_000
    np.testing.assert_allclose(bandit.near(table.actions), 0.25, atol=1e-3)
    for corner, pays in enumerate([1.5, 5.0, 3.0, 0.0]):
        here = slice(2500 * corner, 2500 * (corner + 1))
        np.testing.assert_allclose(
            table.actions[here].mean(axis=0), bandit.CORNERS[corner], atol=0.01
        )
        np.testing.assert_allclose(table.actions[here].std(axis=0), 0.05, atol=0.003)
        assert table.rewards[here].mean() == pytest.approx(pays, abs=0.05)
        assert table.rewards[here].std() == pytest.approx(0.5, abs=0.03)
    assert np.abs(table.actions).max() <= 1.0


def test_the_example_runs_and_draws_its_figure(tmp_path: Path) -> None:
    bandit.main(tmp_path / "bandit.png", shorter=500)
    assert (tmp_path / "bandit.png").read_bytes().startswith(b"\x89PNG")


class PerfectModel:
    """The noise in an action of four Gaussians at the corners, by Bayes' rule."""

    def __init__(self, schedule: NoiseSchedule) -> None:
        self.alpha_bars = torch.tensor(schedule.alpha_bars)

    def condition(self, observation: torch.Tensor) -> StepPrediction:
        return self.noise

    def noise(self, action: torch.Tensor, step: int) -> torch.Tensor:
        kept, corners, variance = self.alpha_bars[step], torch.tensor(bandit.CORNERS), 0.05**2
        offset = action[:, None] - kept.sqrt() * corners  # (B, 4, A)
        spread = kept * variance + 1 - kept
        belief = (-0.5 * offset.square().sum(dim=-1) / spread).softmax(dim=-1)
        each = corners + kept.sqrt() * variance / spread * offset
        clean = (belief[..., None] * each).sum(dim=1)
        return (action - kept.sqrt() * clean) / (1 - kept).sqrt()


@pytest.mark.parametrize(
    ("name", "num_steps", "expected"),
    [("vp", 5, 0.55), ("cosine", 5, 0.81), ("vp", 10, 0.94), ("cosine", 10, 0.99)],
)
def test_too_few_steps_blur_the_modes_even_with_a_perfect_noise_model(
    name: ScheduleName, num_steps: int, expected: float
) -> None:
    schedule = NoiseSchedule.make(name, num_steps)
    process = make_process(schedule)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(process.num_noises, 10_000, 2, generator=generator, dtype=torch.float64)
    actions = process.sample(PerfectModel(schedule), torch.zeros(1, 2), noise)
    assert bandit.near(actions.numpy()).sum() == pytest.approx(expected, abs=0.015)


@pytest.mark.slow
def test_diffusion_bc_keeps_the_four_modes_and_hardly_anything_between() -> None:
    torch.set_num_threads(1)
    config = bandit.settings("diffusion_bc", 6000)
    share = bandit.near(bandit.act(bandit.train(config, bandit.record()), 5000))
    assert share.sum() >= 0.97
    assert share.min() > 0.2
    assert share.max() < 0.3


@pytest.mark.slow
def test_diffusion_ql_takes_the_best_corner_whichever_it_is() -> None:
    """The observation says which: one policy learns all four."""
    torch.set_num_threads(1)
    tables = [bandit.record(best, seed=best) for best in range(4)]
    table = TransitionTable(
        observations=bandit.CORNERS.astype(np.float32),
        rows=np.repeat(np.arange(4), 10_000),
        next_rows=np.repeat(np.arange(4), 10_000),
        actions=np.concatenate([each.actions for each in tables]),
        rewards=np.concatenate([each.rewards for each in tables]),
        bootstraps=np.zeros(40_000, dtype=np.float32),
    )
    config = bandit.settings("diffusion_ql", 500)
    # Five steps that predict the action itself learn a single mode in seconds.
    process = DiffusionConfig(prediction="x0", loss="prediction", schedule="cosine")
    policy = config.policy.model_copy(update={"eta": 16.0})
    agent = bandit.train(config.model_copy(update={"diffusion": process, "policy": policy}), table)
    for best, observation in enumerate(table.observations):
        share = bandit.near(bandit.act(agent, 5000, observation.tolist()))
        assert share[best] >= 0.95
