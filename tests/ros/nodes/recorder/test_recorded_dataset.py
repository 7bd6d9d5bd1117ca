"""Recording over ROS topics, then converting, loses nothing and shifts nothing."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest

from dql_core.data.dataset import load_dataset
from dql_core.sim import SCARA_ID
from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert
from dql_ros.nodes.closed_loop import demonstrator, run_closed_loop
from tests.ros.nodes.robot import SCARA

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("forked")]
EPISODES, SEED = 5, 11


def test_in_lockstep_every_command_is_said_to_be_nobodys_but_the_policys(tmp_path: Path) -> None:
    """Time goes on as soon as a command is there: who sent it must be known by then."""
    contract = tmp_path / "scara.yaml"
    contract.write_text(f"{SCARA.read_text()}\ntakeover: {{topics: [teleop]}}\n")
    run_closed_loop(contract, demonstrator(seed=2), episodes=3, record=tmp_path / "bag")
    report = convert(Source(load_contract(contract), [tmp_path / "bag"]), tmp_path / "out")
    steps = report["totals"]["transitions"]
    assert steps > 30
    assert f"0 of {steps} actions are a person's (infos/intervention)." in report["remarks"]
    assert not any("nobody said" in remark for remark in report["remarks"])
    topics = {topic["topic"]: topic["count"] for topic in report["bags"][0]["topics"]}
    assert topics["/intervention"] == topics["/velocity_controller/commands"]


def test_dataset_of_a_lockstep_recording_is_the_simulation_to_the_bit(tmp_path: Path) -> None:
    results = run_closed_loop(
        SCARA, demonstrator(seed=2), episodes=EPISODES, seed=SEED, record=tmp_path / "bag"
    )
    report = convert(Source(load_contract(SCARA), [tmp_path / "bag"]), tmp_path / "out")
    assert report["bags"][0]["left_out"] == []
    environment = gymnasium.make(SCARA_ID)
    episodes = load_dataset(tmp_path / "out").episodes
    for index, (episode, result) in enumerate(zip(episodes, results, strict=True)):
        assert (episode.terminated, episode.truncated) == (result.terminated, result.truncated)
        observation, _ = environment.reset(seed=SEED + index)
        for step, action in enumerate(episode.actions):
            np.testing.assert_array_equal(episode.observations[step], np.float32(observation))
            observation, reward, *_ = environment.step(action.astype(np.float64))
            assert episode.rewards[step] == reward
        np.testing.assert_array_equal(episode.observations[-1], np.float32(observation))
