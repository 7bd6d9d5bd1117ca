from typing import Any

import gymnasium
import numpy as np
import pytest

from dql_core.errors import ConfigError, SimulationError, SpecMismatchError
from dql_ros.contract import Contract
from dql_ros.sim.episodes import EpisodeRunner, Frame, open_environment
from dql_ros.sim.result import EpisodeResult

PERIOD_NS = 50_000_000


def contract(
    observed: tuple[str, ...] = ("cos", "sin", "velocity"), rate_hz: float = 20.0
) -> Contract:
    return Contract.model_validate(
        {
            "robot": "pendulum",
            "rate_hz": rate_hz,
            "observation": [
                {
                    "topic": "state",
                    "type": "std_msgs/msg/Float64MultiArray",
                    "fields": [{"path": "data", "slice": f"0:{len(observed)}", "names": observed}],
                }
            ],
            "action": [
                {
                    "topic": "torque",
                    "type": "std_msgs/msg/Float64",
                    "fields": [{"path": "data", "low": -2.0, "high": 2.0}],
                }
            ],
        }
    )


def runner(episodes: int = 0, seed: int = 3) -> EpisodeRunner:
    return EpisodeRunner(
        open_environment("Pendulum-v1", contract()), PERIOD_NS, seed=seed, episodes=episodes
    )


def play(episode: EpisodeRunner, command: float = 0.7) -> list[Frame]:
    frames = [episode.begin()]
    while frames[-1].result is None:
        frames.append(episode.advance(np.array([command])))
    return frames


def test_an_episode_is_what_gymnasium_gives_for_the_same_seed_and_commands() -> None:
    episode = runner()
    play(episode)
    frames = play(episode)
    environment = gymnasium.make("Pendulum-v1")
    observation, _ = environment.reset(seed=4)
    np.testing.assert_array_equal(frames[0].observation, observation)
    rewards: list[float] = []
    for frame in frames[1:]:
        observation, reward, *_ = environment.step(np.array([0.7], dtype=np.float32))
        np.testing.assert_array_equal(frame.observation, observation)
        rewards.append(float(reward))
    assert frames[-1].result == EpisodeResult(
        episode=1,
        seed=4,
        return_=sum(rewards),
        length=200,
        terminated=False,
        truncated=True,
        success=None,
    )


def test_time_advances_by_one_period_also_over_resets() -> None:
    episode = runner()
    stamps = [frame.stamp_ns for _ in range(2) for frame in play(episode)]
    assert stamps == [index * PERIOD_NS for index in range(2 * 201)]


def test_commands_are_clipped_to_the_action_space() -> None:
    wild, tame = runner(), runner()
    wild.begin()
    tame.begin()
    np.testing.assert_array_equal(
        wild.advance(np.array([50.0])).observation, tame.advance(np.array([2.0])).observation
    )


def test_an_interrupted_episode_is_truncated_and_counts() -> None:
    episode = runner(episodes=1)
    episode.begin()
    frame = episode.advance(np.zeros(1), interrupt=True)
    assert frame.transition is not None
    assert (frame.transition.terminated, frame.transition.truncated) == (False, True)
    assert frame.result is not None
    assert frame.result.length == 1
    assert episode.finished


def test_no_episode_is_the_last_when_none_was_asked_for() -> None:
    episode = runner(episodes=0)
    play(episode)
    assert not episode.finished


def test_a_result_survives_json() -> None:
    result = EpisodeResult(2, 5, -1.25, 80, True, False, True)
    assert EpisodeResult.from_json(result.to_json()) == result
    assert '"return": -1.25' in result.to_json()


def test_an_unknown_environment_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"environment 'Pendulun-v1' cannot be made.*`Pendulum`"):
        open_environment("Pendulun-v1", contract())


def test_an_environment_of_another_width_is_refused() -> None:
    wider = contract(("cos", "sin", "velocity", "extra"))
    with pytest.raises(SpecMismatchError, match=r"'pendulum': .* 4 observation fields are needed"):
        open_environment("Pendulum-v1", wider)


def test_an_environment_with_discrete_actions_is_refused() -> None:
    with pytest.raises(SpecMismatchError, match=r"action space is Discrete\(3\)"):
        open_environment("Acrobot-v1", contract(tuple("abcdef")))


def test_an_environment_of_another_rate_is_refused_with_its_own() -> None:
    with pytest.raises(SimulationError, match=r"every 0\.05 s, .* every 0\.1 s: .*'rate_hz: 20'"):
        open_environment("Pendulum-v1", contract(rate_hz=10.0))


def test_a_step_limit_truncates() -> None:
    environment = open_environment("Pendulum-v1", contract(), max_episode_steps=3)
    frames = play(EpisodeRunner(environment, PERIOD_NS, seed=0, episodes=1))
    assert frames[-1].result is not None
    assert (frames[-1].result.length, frames[-1].result.truncated) == (3, True)


class GoalPendulum(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A pendulum that observes a Dict."""

    def __init__(self, environment: gymnasium.Env[Any, Any]) -> None:
        super().__init__(environment)
        goal = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.observation_space = gymnasium.spaces.Dict(
            {"state": environment.observation_space, "goal": goal}
        )

    def reset(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        state, info = self.env.reset(**options)
        return {"state": state, "goal": np.full(1, 0.5, np.float32)}, info


def test_a_dict_of_vectors_is_laid_out_by_its_sorted_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*_: Any, **__: Any) -> gymnasium.Env[Any, Any]:
        return GoalPendulum(pendulum)

    pendulum = gymnasium.make("Pendulum-v1")
    monkeypatch.setattr(gymnasium, "make", make)
    environment = open_environment("Goal-v0", contract(("goal", "cos", "sin", "velocity")))
    observation = EpisodeRunner(environment, PERIOD_NS, seed=3, episodes=1).begin().observation
    np.testing.assert_array_equal(observation[0], 0.5)
    np.testing.assert_array_equal(observation[1:], pendulum.reset(seed=3)[0])


def test_a_seed_that_is_asked_for_counts_for_one_episode() -> None:
    asked, plain = runner(seed=3), runner(seed=40)
    asked.begin()
    asked.set_next_start(seed=40, keyframe="")
    np.testing.assert_array_equal(asked.begin().observation, plain.begin().observation)
    third = runner(seed=5)
    np.testing.assert_array_equal(asked.begin().observation, third.begin().observation)


def test_a_robot_without_a_model_has_no_keyframes() -> None:
    with pytest.raises(SimulationError, match="'Pendulum-v1' has no keyframes: leave 'keyframe'"):
        runner().set_next_start(seed=None, keyframe="home")
