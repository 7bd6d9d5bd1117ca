"""Others' code is driven as it drives itself: made stand-ins note how they are called."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.suite import d3rlpy_baselines, measuring, paper_code
from benchmarks.suite.measuring import Clock, Plan, Transitions, measure
from benchmarks.suite.paper_code import CANDIDATES, PaperLearner, PaperPolicy
from benchmarks.suite.rows import Point
from benchmarks.suite.sets import find_set
from dql_core.data.dataset import LoadedDataset
from dql_core.errors import ConfigError

PLAN = Plan("walker2d-mixed", find_set("walker2d-mixed"), Path(), 0, 90, 9, 1, 1, Path())


def transitions() -> Transitions:
    """Two episodes of three steps: the first is cut off, the second terminates."""
    observations = np.arange(12, dtype=np.float32).reshape(6, 2)
    flags = np.zeros((2, 6), dtype=bool)
    flags[0, 5], flags[1, [2, 5]] = True, True
    actions, rewards = np.full((6, 1), 0.5, np.float32), np.arange(6, dtype=np.float32)
    return Transitions(observations, actions, rewards, observations + 100, *flags)


class MadeAgent:
    """Acts with the noise of torch; a candidate is worth much if it is near 0.5."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments, self.step = arguments, 0
        self.calls: list[tuple[int, int, bool]] = []
        self.actor = SimpleNamespace(sample=lambda states: torch.rand(len(states), 1))
        self.critic_target = SimpleNamespace(q_min=self.value)

    def train(self, batches: Any, iterations: int, batch_size: int) -> dict[str, list[float]]:
        self.calls.append((self.step, iterations, self.lr_decay))
        self.step += iterations
        return {"critic_loss": [float(self.step)] * iterations}

    lr_decay = True

    @staticmethod
    def value(states: Tensor, actions: Tensor) -> Tensor:
        return -1e6 * (actions - 0.5).abs()


@pytest.fixture
def learner(monkeypatch: pytest.MonkeyPatch) -> PaperLearner:
    sampler = SimpleNamespace(Data_Sampler=lambda *arguments: arguments)
    made = (SimpleNamespace(Diffusion_QL=MadeAgent), sampler)
    monkeypatch.setattr(paper_code, "_modules", lambda folder: made)
    return PaperLearner(Path(), PLAN, transitions())


def test_the_papers_learning_rate_moves_once_in_fifty_epochs(learner: PaperLearner) -> None:
    losses = [learner.learn(30_000) for _ in range(3)]
    assert losses == pytest.approx([30_000, (2 * 50_000 + 60_000) / 3, 90_000])
    assert learner._agent.calls == [
        (0, 30_000, False),
        (30_000, 20_000, True),
        (50_000, 10_000, False),
        (60_000, 30_000, False),
    ]


class LearningAgent(MadeAgent):
    """Follows the noise of torch and of numpy with an optimiser that has a memory."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.weight = torch.nn.Linear(1, 1)
        self.optimizer = torch.optim.Adam(self.weight.parameters(), lr=0.1)

    def train(self, batches: Any, iterations: int, batch_size: int) -> dict[str, list[float]]:
        losses: list[float] = []
        for _ in range(iterations):
            aim = float(np.random.standard_normal())
            loss = ((self.weight(torch.rand(1)) - aim) ** 2).sum()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        self.step += iterations
        return {"critic_loss": losses}


class NoRollouts:
    """Notes the losses; one rollout may be the last before the power goes."""

    def __init__(self, fails_at: int = -1) -> None:
        self.fails_at = fails_at

    def point(self, step: int, clock: Clock, policy: object, critic_loss: float | None) -> Point:
        if step == self.fails_at:
            raise KeyboardInterrupt
        return Point(step, clock.seconds, clock.cpu_seconds, (0.0,), critic_loss=critic_loss)

    def close(self) -> None:
        """Nothing is open."""


def test_the_papers_training_goes_on_to_the_bit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sampler = SimpleNamespace(Data_Sampler=lambda *arguments: arguments)
    made = (SimpleNamespace(Diffusion_QL=LearningAgent), sampler)
    monkeypatch.setattr(paper_code, "_modules", lambda folder: made)
    data = cast(LoadedDataset, None)  # only rollouts look at it

    def curve(folder: str, fails_at: int = -1) -> list[Point]:
        rollouts = NoRollouts(fails_at)
        monkeypatch.setattr(measuring, "Rollouts", lambda plan, data: rollouts)
        plan = replace(PLAN, updates=35, points=5, folder=tmp_path / folder)
        return measure(plan, data, PaperLearner(Path(), plan, transitions()))

    whole = curve("whole")
    with pytest.raises(KeyboardInterrupt):
        curve("interrupted", fails_at=21)
    resumed = curve("interrupted")
    assert [point.step for point in resumed] == [7, 14, 21, 28, 35]
    assert [point.critic_loss for point in resumed] == [point.critic_loss for point in whole]
    assert resumed[-1].cpu_seconds > resumed[1].cpu_seconds > 0
    assert not list(tmp_path.glob("*/*"))


def test_the_papers_agent_is_made_as_its_script_makes_it(learner: PaperLearner) -> None:
    arguments = learner._agent.arguments
    assert (arguments["state_dim"], arguments["action_dim"]) == (2, 1)
    assert (arguments["eta"], arguments["lr"], arguments["grad_norm"]) == (1.0, 3e-4, 4.0)
    assert (arguments["n_timesteps"], arguments["beta_schedule"]) == (5, "vp")


def test_the_papers_policy_draws_the_valued_candidate_and_leaves_the_training_alone() -> None:
    policy, before = PaperPolicy(MadeAgent()), torch.get_rng_state()
    observations = np.zeros((4, 2), np.float32)
    drawn = [
        policy.act_for_each(observations, [np.random.default_rng(seed)] * 4) for seed in (0, 0, 1)
    ]
    assert drawn[0].shape == (4, 1)
    assert np.abs(drawn[0] - 0.5).max() < 5.0 / CANDIDATES
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).all()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_folder_without_the_papers_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not the paper's code"):
        PaperLearner(tmp_path, PLAN, transitions())


def test_d3rlpy_gets_what_followed_where_an_episode_was_cut_off() -> None:
    library = SimpleNamespace(
        dataset=SimpleNamespace(MDPDataset=lambda *arrays, action_space: arrays),
        ActionSpace=SimpleNamespace(CONTINUOUS="continuous"),
    )
    observations, actions, rewards, terminals, timeouts = d3rlpy_baselines.as_dataset(
        library, transitions()
    )
    first = transitions().observations
    expected = [*first[:3], first[2] + 100, *first[3:]]
    np.testing.assert_array_equal(observations, expected)
    np.testing.assert_array_equal(actions[:, 0], [0.5, 0.5, 0.5, 0, 0.5, 0.5, 0.5])
    np.testing.assert_array_equal(rewards, [0, 1, 2, 0, 3, 4, 5])
    np.testing.assert_array_equal(terminals, [0, 0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(timeouts, [0, 0, 0, 1, 0, 0, 0])


@pytest.mark.parametrize("method", ["d3rlpy_td3_bc", "d3rlpy_iql"])
def test_d3rlpy_learns_and_acts(method: str) -> None:
    pytest.importorskip("d3rlpy", reason="d3rlpy is not installed")
    plan = Plan("hopper-mixed", find_set("hopper-mixed"), Path(), 0, 4, 2, 1, 1, Path())
    learner = d3rlpy_baselines.D3rlpyLearner(method, plan, transitions())
    learner.learn(2)
    before = learner.policy().act_for_each(np.ones((3, 2), np.float32), [])
    learner.learn(2)
    after = learner.policy().act_for_each(np.ones((3, 2), np.float32), [])
    assert before.shape == after.shape == (3, 1)
    assert (np.abs(after) <= 1.0).all()
    assert (before != after).all()
