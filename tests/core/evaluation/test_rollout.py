import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from numpy.typing import NDArray

from dql_core.errors import ConfigError, SpecMismatchError
from dql_core.evaluation.rollout import EvaluationResult, evaluate
from dql_core.runtime.policy import Committed, Decision
from dql_core.spec import FieldSpec, PolicySpec

Array = NDArray[np.float32]


class Countdown(gym.Env[Array, Array]):
    """Starts at a seeded number of steps; rewards the action; succeeds with an even start."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)
    reports_success = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self.start = self.left = 2 + (seed or 0)
        return self._observation(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        info = {"is_success": self.start % 2 == 0} if self.reports_success else {}
        return self._observation(), float(action[0]), self.left == 0, False, info

    def _observation(self) -> Array:
        return np.array([self.left, self.start], np.float32)


class Silent(Countdown):
    """The same, but it does not tell success."""

    reports_success = False


class Constant:
    """Answers the same action and writes down what it saw."""

    spec = PolicySpec(
        "countdown", 0.0, (FieldSpec("left"), FieldSpec("start")), (FieldSpec("a", "", -1.0, 1.0),)
    )

    horizon = 1

    def __init__(self) -> None:
        self.seen: list[list[float]] = []
        self.drawn: list[float] = []
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def act(
        self,
        observation: Array,
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        assert observation.dtype == np.float32
        self.seen.append(observation.tolist())
        self.drawn.append(rng.random())
        action = np.array([0.5], np.float32)
        return Decision(action, np.zeros(1, np.float32), action[None])


@pytest.fixture(autouse=True)
def _registered() -> Any:
    gym.register("Countdown-v0", lambda **_: Countdown())
    gym.register("Silent-v0", lambda **_: Silent())
    yield
    del gym.registry["Countdown-v0"], gym.registry["Silent-v0"]


def test_episode_i_starts_from_seed_plus_i() -> None:
    policy = Constant()
    result = evaluate(policy, "Countdown-v0", episodes=3, seed=4)
    assert result.lengths == (6, 7, 8)
    assert result.returns == (3.0, 3.5, 4.0)
    assert result.successes == (True, False, True)
    assert policy.resets == 3
    assert policy.seen[:2] == [[6.0, 6.0], [5.0, 6.0]]


def test_the_policys_noise_is_one_stream_over_all_episodes() -> None:
    policy = Constant()
    evaluate(policy, "Countdown-v0", episodes=2, seed=3)
    rng = np.random.default_rng(3)
    # Of 5 and 6 steps; the last state of an episode is answered too, as the node does.
    assert policy.drawn == [rng.random() for _ in range(13)]


def test_an_environment_that_tells_no_success_has_no_rate() -> None:
    result = evaluate(Constant(), "Silent-v0", episodes=2)
    assert result.success_rate is None
    assert "success_rate" not in result.to_json()


def test_each_finished_episode_is_reported() -> None:
    finished: list[int] = []
    evaluate(Constant(), "Countdown-v0", episodes=3, report=finished.append)
    assert finished == [1, 2, 3]


def test_the_summary_is_plain_json_also_for_a_single_episode() -> None:
    summary = EvaluationResult((1.0, 3.0), (5, 7), (True, False)).to_json()
    assert (summary["episodes"], summary["mean_return"], summary["std_return"]) == (2, 2.0, 1.0)
    assert summary["success_rate"] == 0.5
    assert len(summary["success_rate_ci95"]) == 2
    single = EvaluationResult((1.0,), (5,), ()).to_json()
    assert json.loads(json.dumps(single, allow_nan=False))["mean_return_ci95"] == [None, None]


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("Countdwon-v0", "environment 'Countdwon-v0' cannot be made"),
        ("no_such_module:Countdown-v0", "No module named 'no_such_module'"),
        ("nonsense", "give a Gymnasium id, or module:id"),
    ],
)
def test_an_unknown_environment_is_one_line(env_id: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        evaluate(Constant(), env_id, episodes=1)
    assert "\n" not in str(caught.value)


def test_spaces_that_do_not_fit_the_policy_are_named() -> None:
    policy = Constant()
    policy.spec = PolicySpec("arm", 0.0, policy.spec.observation[:1], policy.spec.action)
    words = r"'Countdown-v0' does not fit 'arm': its observation space is Box"
    with pytest.raises(SpecMismatchError, match=words):
        evaluate(policy, "Countdown-v0", episodes=1)


def test_the_bundled_environment_is_known_without_importing_it() -> None:
    with pytest.raises(SpecMismatchError, match="2 observation fields are needed"):
        evaluate(Constant(), "dql_core/ScaraReach-v0", episodes=1)


def test_an_environment_without_a_time_limit_is_warned_of_and_can_be_given_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    evaluate(Constant(), "Countdown-v0", episodes=1)
    assert "'Countdown-v0' has no time limit of its own" in caplog.text
    caplog.clear()
    assert evaluate(Constant(), "Countdown-v0", episodes=2, max_episode_steps=1).lengths == (1, 1)
    assert caplog.text == ""
