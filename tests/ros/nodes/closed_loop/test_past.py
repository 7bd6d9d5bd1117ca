"""A policy that observes the past drives over topics; its recording has the same, to the bit."""

from pathlib import Path

import numpy as np
import pytest

from dql_core.data.dataset import load_dataset
from dql_core.runtime.controller import State
from dql_ros.bag.reader import Bag
from dql_ros.contract import load_contract
from dql_ros.control.loaded_policy import load_bundle
from dql_ros.control.settings import LoopSettings
from dql_ros.convert.convert import Source, convert
from dql_ros.nodes.closed_loop import demonstrator, policy_driver, run_closed_loop
from dql_ros.tools.replay.replayed_bag import replay_bag
from tests.ros.nodes.robot import SCARA
from tests.ros.untrained import untrained_bundle

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("forked")]
EPISODES, SEED = 3, 11


@pytest.fixture(name="contract")
def _contract(tmp_path: Path) -> Path:
    path = tmp_path / "past.yaml"
    text = SCARA.read_text().replace("max_age_s: 0.3", "max_age_s: 0.3\n    history: 3")
    path.write_text(f"{text.replace('[0.0, 0.0]', '[0.5, -0.25]')}previous_action: 2\n")
    return path


def test_the_replay_of_a_drive_decides_what_the_node_decided(
    contract: Path, tmp_path: Path
) -> None:
    bundle, rules = untrained_bundle(tmp_path, contract), load_contract(contract)
    driver = policy_driver(bundle, seed=SEED)
    results = run_closed_loop(
        contract, driver, episodes=EPISODES, seed=SEED, record=tmp_path / "bag"
    )
    assert len(results) == EPISODES
    loaded = load_bundle(bundle, rules.policy_spec())
    with Bag(tmp_path / "bag") as bag:
        ours = replay_bag(bag, rules, loaded, LoopSettings(lockstep=True, seed=SEED))
    # Each episode begins with two ticks of which the past is not known.
    states = State.WAITING, State.RUNNING, State.STALE
    assert set(ours.states) == {state.value for state in states}
    assert ours.states["waiting"] == 2
    assert ours.states["stale"] == 2 * (EPISODES - 1)
    assert ours.recorded[:2].tolist() == [[0.5, -0.25]] * 2
    np.testing.assert_array_equal(ours.sent[:-1], ours.recorded[:-1].astype(np.float32))

    convert(Source(rules, [tmp_path / "bag"]), tmp_path / "out")
    episodes = load_dataset(tmp_path / "out").episodes
    lengths = [each.length for each in results]
    assert [len(each) for each in episodes] == [length - 2 for length in lengths]
    seen = [tick.observation.values for tick in ours.ticks]
    vectors = [values for values in seen if values is not None]
    written = np.concatenate([episode.observations for episode in episodes])
    np.testing.assert_array_equal(vectors[: len(written)], written)


def test_the_operator_drives_a_robot_whose_past_is_observed(
    contract: Path, tmp_path: Path
) -> None:
    results = run_closed_loop(
        contract, demonstrator(seed=2), episodes=2, seed=SEED, record=tmp_path / "bag"
    )
    convert(Source(load_contract(contract), [tmp_path / "bag"]), tmp_path / "out")
    episodes = load_dataset(tmp_path / "out").episodes
    assert [len(each) for each in episodes] == [each.length - 2 for each in results]
    for episode in episodes:
        np.testing.assert_array_equal(episode.observations[1:, 8:10], episode.actions)
        np.testing.assert_array_equal(episode.observations[1:, 2:4], episode.observations[:-1, :2])
