"""Many episodes at once are the same episodes one after the other."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Tuple
from numpy.typing import NDArray

from dql_core.algo.policy_graph import TorchPolicy, agent_choice, policy_graph
from dql_core.cli.evaluate import evaluate
from dql_core.cli.train import train as train_command
from dql_core.config import TrainConfig
from dql_core.data.dataset import Episode, write_dataset
from dql_core.data.spaces import flatten, spec_from_spaces
from dql_core.errors import ConfigError, SpecMismatchError
from dql_core.evaluation.rollout import MAX_ENVIRONMENTS, EvaluationResult, ParallelRollouts
from dql_core.spec import PolicySpec
from dql_core.training.checkpoint import Checkpoint, load_checkpoint
from dql_core.training.loop import train
from dql_core.training.preparation import load_training_data, new_run

Array = NDArray[np.float32]


class Walk(gym.Env[Any, Array]):
    """A point on a line that is pushed and drifts; its start and its length depend on the seed."""

    observation_space = Dict(
        {
            "place": Box(-np.inf, np.inf, (1,), np.float64),
            "known": Tuple([Box(-5.0, 5.0, (1, 2), np.float32), Box(0.0, 9.0, (), np.float32)]),
        }
    )
    action_space = Box(np.array([[-2.0, 1.0]], "f4"), np.array([[1.0, 1.5]], "f4"))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.length = self.left = int(self.np_random.integers(2, 9))
        self.place = self.np_random.normal()
        return self._observation(), {}

    def step(self, action: Array) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        assert self.left > 0
        self.place += float(action[0, 0]) + 0.1 * self.np_random.normal()
        self.left -= 1
        success = {"is_success": self.place > 0} if self.left == 0 else {}
        return self._observation(), -abs(self.place), self.left == 0, False, success

    def _observation(self) -> Any:
        fixed = np.array([[self.length, -self.left]], np.float32) / 2
        return {"place": np.array([self.place]), "known": (fixed, np.float32(self.left))}


SPEC = spec_from_spaces(Walk.observation_space, Walk.action_space, "walk", "the test")


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    gym.register("Walk-v0", lambda **_: Walk(), disable_env_checker=True)
    yield
    del gym.registry["Walk-v0"]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    env, episodes = Walk(), []
    env.action_space.seed(0)
    for seed in range(6):
        observation, ended = env.reset(seed=seed)[0], False
        observations, actions, rewards = [observation], [], []
        while not ended:
            actions.append(env.action_space.sample())
            observation, reward, ended, _, _ = env.step(actions[-1])
            observations.append(observation)
            rewards.append(reward)
        flat = [flatten(env.observation_space, each) for each in observations]
        pushes = np.array(actions).reshape(len(actions), 2)
        episodes.append(Episode(np.array(flat), pushes, np.array(rewards), True, False))
    write_dataset(tmp_path / "dataset", episodes, SPEC)
    return tmp_path / "dataset"


def make_config(dataset: Path, **changes: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "run": {"steps": 12, "batch_size": 8, "log_every": 4, "checkpoint_every": 4},
            "data": {"dataset": str(dataset)},
            "policy": {"width": 8},
            "critic": {"width": 8},
            "selection": {"num_candidates": 7, "weights": "online"},
            **changes,
        }
    )


def untrained(config: TrainConfig) -> Checkpoint:
    return new_run(config, load_training_data(config).recorded)


def one_by_one(run: Checkpoint, episodes: int, seed: int) -> EvaluationResult:
    """Roll out with the policy of a single observation, and a generator for each episode."""
    graph = policy_graph(run.agent, run.config, run.normalizer)
    choice = agent_choice(run.agent, run.config)
    policy = TorchPolicy(graph, run.spec, choice, run.normalizer)
    env, returns, lengths, successes = Walk(), [], [], []
    for index in range(episodes):
        rng = np.random.default_rng((seed, index))
        observation, ended, total, length = env.reset(seed=seed + index)[0], False, 0.0, 0
        info: dict[str, Any] = {}
        while not ended:
            flat = flatten(env.observation_space, observation)
            action = policy.act(flat, rng).action.reshape(1, 2)
            observation, reward, ended, _, info = env.step(action)
            total, length = total + reward, length + 1
        returns.append(total)
        lengths.append(length)
        successes.append(info["is_success"])
    return EvaluationResult(tuple(returns), tuple(lengths), tuple(successes))


@pytest.mark.parametrize(
    ("agent", "selection"),
    [
        ("diffusion_ql", {"rule": "greedy"}),
        ("diffusion_ql", {"rule": "softmax", "temperature": 0.5}),
        ("diffusion_ql", {"rule": "softmax", "temperature_scale": "raw"}),
        ("diffusion_bc", {}),
        ("td3_bc", {}),
    ],
)
def test_episodes_side_by_side_are_those_one_after_the_other(
    dataset: Path, agent: str, selection: dict[str, Any]
) -> None:
    chosen = {"num_candidates": 7, "weights": "online", **selection}
    run = untrained(make_config(dataset, agent=agent, selection=chosen))
    episodes = ParallelRollouts("Walk-v0", run.spec, 9, seed=3)
    side_by_side = episodes.run(run.policy())
    assert side_by_side is not None
    expected = one_by_one(run, 9, seed=3)
    assert side_by_side.lengths == expected.lengths
    assert side_by_side.successes == expected.successes
    np.testing.assert_allclose(side_by_side.returns, expected.returns, rtol=1e-4)
    assert episodes.run(run.policy()) == side_by_side
    episodes.close()


def test_more_episodes_than_environments_come_in_waves(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = untrained(make_config(dataset))
    at_once = ParallelRollouts("Walk-v0", run.spec, 10, seed=0)
    monkeypatch.setattr("dql_core.evaluation.rollout.MAX_ENVIRONMENTS", 4)
    in_waves = ParallelRollouts("Walk-v0", run.spec, 10, seed=0)
    first, second = (each.run(run.policy()) for each in (at_once, in_waves))
    assert first is not None
    assert second is not None
    assert first.lengths == second.lengths
    np.testing.assert_allclose(first.returns, second.returns, rtol=1e-4)
    assert MAX_ENVIRONMENTS == 64


def test_every_checkpoint_is_rolled_out_and_the_best_is_told(
    tmp_path: Path, dataset: Path
) -> None:
    evaluation = {"env": "Walk-v0", "episodes": 5, "seed": 2}
    config, run = make_config(dataset, evaluation=evaluation), tmp_path / "run"
    train(config, run)
    lines = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    returns = {line["step"]: line["online"]["mean_return"] for line in lines}
    assert list(returns) == [4, 8, 12]
    best = json.loads((run / "best.json").read_text())["best_online"]
    assert best["step"] == max(returns, key=lambda step: returns[step])
    assert best["criterion"] == "largest mean return of 5 episodes in Walk-v0"
    assert len(lines[0]["online"]["mean_return_ci95"]) == 2
    assert 0 <= lines[0]["online"]["success_rate"] <= 1
    again = one_by_one(load_checkpoint(run, which="best_online"), 5, seed=2)
    assert again.mean_return.mean == pytest.approx(best["value"], rel=1e-4)


def test_rollouts_change_nothing_of_what_is_learned(tmp_path: Path, dataset: Path) -> None:
    train(make_config(dataset), tmp_path / "without")
    train(make_config(dataset, evaluation={"env": "Walk-v0", "episodes": 3}), tmp_path / "with")
    first, second = (load_checkpoint(tmp_path / name).agent for name in ("without", "with"))
    for name, module in first.modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, second.modules[name].state_dict()[key])


def test_a_checkpoint_whose_rollouts_were_left_is_rolled_out_when_the_run_goes_on(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(dataset, evaluation={"env": "Walk-v0", "episodes": 3})
    train(config, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(ParallelRollouts, "run", lambda *_: None)  # as after a Ctrl-C
        left = train(config, tmp_path / "left")
    assert (left.finished, left.step) == (False, 4)
    assert not (tmp_path / "left" / "validation.jsonl").exists()
    train(config, tmp_path / "left", resume=True)
    whole = (tmp_path / "whole" / "validation.jsonl").read_text()
    assert (tmp_path / "left" / "validation.jsonl").read_text() == whole


def test_rollouts_can_be_left_at_any_step(dataset: Path) -> None:
    run = untrained(make_config(dataset))
    answers = iter([False, False, True])
    episodes = ParallelRollouts("Walk-v0", run.spec, 3, seed=0)
    assert episodes.run(run.policy(), lambda: next(answers)) is None


def test_an_environment_that_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, dataset: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match="environment 'Wlak-v0' cannot be made"):
        train(make_config(dataset, evaluation={"env": "Wlak-v0"}), run)
    with pytest.raises(SpecMismatchError, match="environment 'Pendulum-v1' does not fit 'walk'"):
        train(make_config(dataset, evaluation={"env": "Pendulum-v1"}), run)
    assert not run.exists()
    with pytest.raises(SpecMismatchError, match="its observation space is Discrete"):
        ParallelRollouts("FrozenLake-v1", PolicySpec("x", 0.0, SPEC.observation, ()), 1, 0)


def test_the_command_line_tells_the_best_checkpoint_and_takes_it(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run, figures = tmp_path / "walk.yaml", tmp_path / "run", tmp_path / "figures.json"
    file.write_text(make_config(dataset).to_yaml())
    train_command(file, out=run, eval_env="Walk-v0", overrides=["evaluation.episodes=2"])
    shown = capsys.readouterr().out
    assert "step 4: online mean return " in shown
    assert "best_online: " in shown
    assert "(largest mean return of 2 episodes in Walk-v0: " in shown
    evaluate(run, "Walk-v0", episodes=2, checkpoint="best_online", json_file=figures)
    # However wide the terminal is: a title is broken and centred.
    assert f"{run}(best_online)inWalk-v0" in "".join(capsys.readouterr().out.split())
    assert json.loads(figures.read_text())["checkpoint"] == "best_online"
