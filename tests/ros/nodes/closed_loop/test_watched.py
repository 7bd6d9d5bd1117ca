"""A policy drives, and the scripted operator takes over from it, between real processes."""

from pathlib import Path

import numpy as np
import pytest

from dql_core.data.dataset import Episode, load_dataset
from dql_core.errors import ContractError
from dql_core.sim.scara_watcher import ScaraWatcher
from dql_ros.bag.reader import Bag
from dql_ros.contract import load_contract
from dql_ros.contract.watching import watching
from dql_ros.convert.convert import Source, convert
from dql_ros.diagnostics import Report
from dql_ros.nodes.closed_loop import WATCHER, policy_driver, run_closed_loop
from dql_ros.sim.result import EpisodeResult

pytestmark = pytest.mark.ros
TAKEOVER = """
takeover:
  topics: [teleop/commands]
  switch: {topic: joy, type: sensor_msgs/msg/Joy, path: buttons.1}
  ramp_s: 0.0
"""
EPISODES = 3


@pytest.fixture(name="arm")
def _arm(scara: Path, tmp_path: Path) -> Path:
    """The arm's contract with a takeover."""
    path = tmp_path / "arm.yaml"
    path.write_text(scara.read_text() + TAKEOVER)
    return path


def watched(arm: Path, bundle: Path, bag: Path) -> tuple[list[EpisodeResult], tuple[Episode, ...]]:
    """Drive under watch in lockstep; return the results and what a conversion makes of it."""
    results = run_closed_loop(
        arm,
        policy_driver(bundle, seed=3),
        episodes=EPISODES,
        seed=3,
        watched=True,
        record=bag,
    )
    out = bag.with_name(f"{bag.name}-data")
    convert(Source(load_contract(arm), [bag]), out)
    return results, load_dataset(out, infos=["intervention"]).episodes


@pytest.mark.usefixtures("forked")
def test_in_lockstep_each_state_is_answered_by_whoever_commands_at_that_very_tick(
    arm: Path, scara_bundle: Path, tmp_path: Path
) -> None:
    """The recorded interventions are the operator's commands to those observations, to the bit."""
    results, episodes = watched(arm, scara_bundle, tmp_path / "bag")
    assert [result.success for result in results] == [True] * EPISODES
    assert [len(episode) for episode in episodes] == [result.length for result in results]
    operator = ScaraWatcher(watching(load_contract(arm)).policy_spec())
    rng = np.random.default_rng(0)
    for episode in episodes:
        persons = episode.infos["intervention"]
        assert persons.any()
        assert not persons.all()
        for observation, action, is_persons in zip(
            episode.observations, episode.actions, persons, strict=False
        ):
            *command, switch = operator.act(observation, rng).action
            assert bool(switch) == is_persons
            if is_persons:
                np.testing.assert_array_equal(action, np.array(command))
    with Bag(tmp_path / "bag") as bag:
        assert {"/teleop/commands", "/joy", "/intervention"} <= set(bag.topics)
    again, repeated = watched(arm, scara_bundle, tmp_path / "again")
    assert again == results
    for one, other in zip(episodes, repeated, strict=True):
        for name in ("observations", "actions", "rewards"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        np.testing.assert_array_equal(one.infos["intervention"], other.infos["intervention"])


@pytest.mark.usefixtures("forked")
def test_in_real_time_the_operator_takes_over_too(arm: Path, scara_bundle: Path) -> None:
    reports: list[Report] = []
    (result,) = run_closed_loop(
        arm,
        policy_driver(scara_bundle, seed=3),
        episodes=1,
        seed=3,
        real_time=True,
        watched=True,
        on_report=reports.append,
    )
    assert result.length > 0
    policy = [report for report in reports if report.name == "policy: control loop"]
    assert int(policy[-1].values["commands of a person"]) > 0
    assert any(report.name.startswith(WATCHER) for report in reports)


def test_without_a_takeover_nobody_watches(scara: Path, scara_bundle: Path) -> None:
    with pytest.raises(ContractError, match="of 'scara' has no 'takeover', by which an operator"):
        run_closed_loop(scara, policy_driver(scara_bundle, seed=0), episodes=1, watched=True)
