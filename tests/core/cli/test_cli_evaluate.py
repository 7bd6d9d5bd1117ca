import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import typer
from gymnasium.spaces import Box
from numpy.typing import NDArray

from dql_core.cli.console import evaluation_table
from dql_core.cli.evaluate import evaluate
from dql_core.cli.terminal import Terminal
from dql_core.errors import CheckpointError
from dql_core.evaluation.rollout import EvaluationResult
from dql_core.sim import FAILURE_KEY
from tests.printed import words

Array = NDArray[np.float32]


class Drift(gym.Env[Array, Array]):
    """Three numbers drift at random; the first action is the reward; five steps."""

    observation_space = Box(-np.inf, np.inf, (3,), np.float32)
    action_space = Box(np.array([-2.0, 0.0], "f4"), np.array([1.0, 0.1], "f4"))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = 5
        return self._observation(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        ended = self.left == 0
        return self._observation(), float(action[0]), False, ended, {"is_success": True}

    def _observation(self) -> Array:
        return self.np_random.normal(size=3).astype(np.float32)


class Unstable(Drift):
    """Its physics is lost at the end."""

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, ended, info = super().step(action)
        failure = {FAILURE_KEY: "the physics was lost", "is_success": False} if ended else {}
        return observation, reward, terminated, ended, info | failure


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    for kind in (Drift, Unstable):
        gym.register(f"{kind.__name__}-v0", lambda kind=kind, **_: kind())
    yield
    del gym.registry["Drift-v0"], gym.registry["Unstable-v0"]


def test_an_episode_that_failed_is_in_the_exit_code(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    with pytest.raises(typer.Exit) as ended:
        evaluate(tiny_run, "Unstable-v0", episodes=2, json_file=file)
    assert ended.value.exit_code == 3
    shown = capsys.readouterr().out
    assert "episode 0: the physics was lost (the first of 2)" in shown
    assert "0.0%" in shown
    assert len(json.loads(file.read_text())["failures"]) == 2


def test_the_figures_are_shown_and_written(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "figures.json"
    evaluate(tiny_run, "Drift-v0", episodes=4, seed=3, json_file=file)
    figures = json.loads(file.read_text())
    assert (figures["episodes"], figures["seed"], figures["env"]) == (4, 3, "Drift-v0")
    assert figures["mean_return"] == pytest.approx(np.mean(figures["returns"]))
    assert figures["std_return"] == pytest.approx(np.std(figures["returns"]))
    assert figures["success_rate"] == 1.0
    shown = capsys.readouterr().out
    assert f"{figures['mean_return']:.2f} (95 %:" in shown
    assert "100.0%" in shown


def test_a_run_its_checkpoint_and_its_bundle_act_alike(
    tiny_run: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    sources = (tiny_run, tiny_run / "checkpoints" / "step-00000000", tiny_bundle)
    returns = []
    for index, source in enumerate(sources):
        file = tmp_path / f"{index}.json"
        evaluate(source, "Drift-v0", episodes=3, json_file=file)
        returns.append(json.loads(file.read_text())["returns"])
    assert returns[0] == returns[1]
    np.testing.assert_allclose(returns[2], returns[0], atol=1e-3)


def test_imitation_is_evaluated_without_a_critic(tiny_bc_run: Path, tmp_path: Path) -> None:
    evaluate(tiny_bc_run, "Drift-v0", episodes=1, json_file=tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["mean_return_ci95"] == [None, None]


def test_what_is_no_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such run folder, checkpoint or bundle"):
        evaluate(tmp_path / "nothing", "Drift-v0", episodes=1)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        evaluate(tmp_path, "Drift-v0", episodes=1)


def test_returns_without_rewards_are_not_shown_as_results(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Terminal().print(evaluation_table("", EvaluationResult((0.0, 0.0), (5, 5), ())))
    assert "mean return 0.00 (no episode earned a reward)" in words(capsys.readouterr().out)


def test_one_episode_has_no_interval(capsys: pytest.CaptureFixture[str]) -> None:
    for returns in ((1.5,), (1.0, 2.0)):
        lengths, successes = (5,) * len(returns), (True,) * len(returns)
        Terminal().print(evaluation_table("", EvaluationResult(returns, lengths, successes)))
        text = words(capsys.readouterr().out)
        assert ("mean return 1.50 (1 episode)" in text) == (len(returns) == 1)
        assert ("mean return 1.50 (95 %: -4.85 to 7.85)" in text) == (len(returns) == 2)
