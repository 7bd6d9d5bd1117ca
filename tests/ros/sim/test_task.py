"""A contract's own reward, end and success, with a robot that is simulated from an MJCF file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from dql_core.errors import ContractError
from dql_core.rewards import LoggedEpisode, distance_to_goal
from dql_ros.contract import Contract, load_contract
from dql_ros.sim.episodes import EpisodeRunner, open_environment, task_of
from dql_ros.sim.result import EpisodeResult

FAULTS = Path(__file__).parents[4] / "shared" / "data" / "faults"
# Moves along x as it is told.
MODEL = """
<mujoco><option timestep="0.01" gravity="0 0 0"/>
  <worldbody><body name="sled"><joint name="rail" type="slide" axis="1 0 0"/>
    <geom size="0.1" mass="1"/></body></worldbody>
  <actuator><velocity name="drive" joint="rail" kv="50"/></actuator></mujoco>
"""
CONTRACT = """
robot: sled
rate_hz: 20.0
observation:
  - topic: /joint_states
    type: sensor_msgs/msg/JointState
    fields:
      - {path: position, joints: [rail], names: [x]}
      - {constant: 0.5, names: [goal]}
action:
  - topic: /cmd
    type: std_msgs/msg/Float64
    fields: [{path: data, names: [drive], low: -1.0, high: 1.0}]
reward: {function: "dql_core.rewards:distance_to_goal", arguments: {position: [x], goal: [goal]}}
"""
REACHED = {
    "function": "dql_core.rewards:within_distance",
    "arguments": {"position": ["x"], "goal": ["goal"], "radius": 0.05},
}
BEYOND = {
    "function": "dql_core.rewards:outside_bounds",
    "arguments": {"fields": ["x"], "low": [-0.2], "high": [9.0]},
}


def contract(**changes: Any) -> Contract:
    return Contract.model_validate(yaml.safe_load(CONTRACT) | changes)


def play(
    folder: Path, rules: Contract, speed: float, steps: int = 30
) -> tuple[EpisodeResult, NDArray[np.float32]]:
    """Drive an episode at a speed; return its result and all observations."""
    (folder / "sled.xml").write_text(MODEL)
    environment = open_environment(str(folder / "sled.xml"), rules, max_episode_steps=steps)
    runner = EpisodeRunner(
        environment, rules.period_ns, seed=0, episodes=0, task=task_of(environment, rules)
    )
    frames = [runner.begin()]
    while frames[-1].result is None:
        frames.append(runner.advance(np.array([speed])))
    return frames[-1].result, np.array([frame.observation for frame in frames], np.float32)


def test_the_return_is_that_of_the_contracts_function(tmp_path: Path) -> None:
    rules = contract()
    result, observations = play(tmp_path, rules, 0.4)
    actions = np.full((30, 1), 0.4, np.float32)
    episode = LoggedEpisode(observations, actions, rules.policy_spec(), truncated=True)
    expected = distance_to_goal(episode, position=["x"], goal=["goal"]).sum()
    assert result.return_ == pytest.approx(expected)
    assert (result.length, result.truncated, result.success) == (30, True, None)


def test_the_episode_ends_where_the_contract_says_and_succeeds(tmp_path: Path) -> None:
    result, observations = play(tmp_path, contract(episode={"terminated": REACHED}), 0.8)
    assert (result.terminated, result.truncated, result.success) == (True, False, True)
    assert abs(observations[-1, 0] - 0.5) <= 0.05
    assert (np.abs(observations[:-1, 0] - 0.5) > 0.05).all()


def test_an_episode_that_does_not_get_there_fails(tmp_path: Path) -> None:
    result, _ = play(tmp_path, contract(episode={"terminated": REACHED}), 0.1)
    assert (result.terminated, result.truncated, result.success) == (False, True, False)


def test_leaving_the_bounds_is_no_success(tmp_path: Path) -> None:
    result, _ = play(tmp_path, contract(episode={"terminated": BEYOND}), -0.8)
    assert (result.terminated, result.success) == (True, None)
    rules = contract(episode={"terminated": BEYOND, "success": REACHED})
    assert play(tmp_path, rules, -0.8)[0].success is False
    passed, _ = play(tmp_path, rules, 0.8)
    assert (passed.terminated, passed.success) == (False, True)


def test_long_episodes_are_judged_whole(tmp_path: Path) -> None:
    rules = contract()
    result, observations = play(tmp_path, rules, 0.01, steps=700)
    assert result.length == 700
    distances = np.abs(observations[1:, 0].astype(np.float64) - 0.5)
    assert result.return_ == pytest.approx(-distances.sum())


def test_success_is_no_part_of_the_contracts_hash() -> None:
    assert contract(episode={"success": REACHED}).hash() == contract().hash()


def test_a_function_that_is_not_there_is_refused_at_the_start(tmp_path: Path) -> None:
    wrong = REACHED | {"function": "dql_core.rewards:within_distanse"}
    with pytest.raises(ContractError, match=r"episode.success: .*did you mean"):
        play(tmp_path, contract(episode={"success": wrong}), 0.0)


@pytest.mark.realdata
@pytest.mark.skipif(not FAULTS.is_dir(), reason="the faulty model is not here")
def test_the_faulty_model_ends_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = FAULTS / "mjcf_unstable_and_without_end"
    rules = load_contract(name.with_suffix(".yaml"))
    environment = open_environment(str(name.with_suffix(".xml")), rules, max_episode_steps=100)
    runner = EpisodeRunner(environment, rules.period_ns, seed=0, episodes=0)
    frames = [runner.begin()]
    while frames[-1].result is None:
        frames.append(runner.advance(np.array([1000.0])))
    result = frames[-1].result
    assert (result.truncated, result.success) == (True, False)
    assert "MuJoCo warns" in result.failure
    assert result.length < 100
    assert np.isfinite([frame.observation for frame in frames]).all()
    assert list(tmp_path.iterdir()) == []


def test_an_unstable_model_ends_the_episode_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    stiff = MODEL.replace('kv="50"', 'kv="1e9"')
    monkeypatch.setitem(globals(), "MODEL", stiff)
    result, observations = play(tmp_path, contract(episode={"terminated": REACHED}), 1.0)
    assert "MuJoCo warns BAD" in result.failure
    assert "'rail'" in result.failure
    assert (result.terminated, result.truncated, result.success) == (False, True, False)
    assert np.isfinite(observations).all()
    assert list((tmp_path / "here").iterdir()) == []
