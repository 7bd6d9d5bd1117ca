"""A robot of an MJCF file over topics: time limit, the contract's task, resets, lost physics."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dql_core.data.dataset import load_dataset
from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert
from dql_ros.diagnostics import DiagnosticsLog
from dql_ros.nodes.closed_loop import BRIDGE, policy_driver, run_closed_loop
from tests.cli_process import dql
from tests.ros.sim.test_task import CONTRACT, MODEL
from tests.ros.untrained import untrained_bundle

pytestmark = pytest.mark.ros
EPISODES, STEPS = 3, 12
JUMP = 0.06  # m, more than the sled moves in a period


@pytest.fixture(name="sled")
def _sled(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Paths of a contract, its bundle and its model."""
    contract, model = tmp_path / "sled.yaml", tmp_path / "sled.xml"
    contract.write_text(CONTRACT)
    model.write_text(MODEL)
    return contract, untrained_bundle(tmp_path, contract), model


@pytest.mark.usefixtures("forked")
def test_a_recording_has_no_transition_over_a_reset(
    sled: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    path, bundle, model = sled
    results = run_closed_loop(
        path,
        policy_driver(bundle, seed=0),
        episodes=EPISODES,
        env=str(model),
        max_episode_steps=STEPS,
        record=tmp_path / "bag",
    )
    convert(Source(load_contract(path), [tmp_path / "bag"]), tmp_path / "out")
    episodes = load_dataset(tmp_path / "out").episodes
    assert [len(episode) for episode in episodes] == [STEPS] * EPISODES
    for episode, result in zip(episodes, results, strict=True):
        assert (episode.truncated, result.truncated, result.success) == (True, True, None)
        assert np.abs(np.diff(episode.observations[:, 0])).max() < JUMP
        assert result.return_ == pytest.approx(episode.rewards.sum())
        assert result.return_ < 0


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("has_topic", [True, False])
def test_a_recording_knows_the_next_episode_after_one_that_the_contract_ends(
    sled: tuple[Path, Path, Path], tmp_path: Path, has_topic: bool
) -> None:
    """Whether or not the contract has a topic that says so."""
    path, bundle, model = sled
    soon = "{function: dql_core.rewards:outside_bounds, arguments: {fields: [x], high: 0.02}}"
    topic = "truncated: {topic: truncated, type: std_msgs/msg/Bool}" if has_topic else ""
    path.write_text(f"{CONTRACT}episode:\n  terminated: {soon}\n  {topic}\n")
    results = run_closed_loop(
        path,
        policy_driver(bundle, seed=0),
        episodes=EPISODES,
        env=str(model),
        max_episode_steps=STEPS,
        bridge_parameters={"reset_noise_scale": 0.04},
        record=tmp_path / "bag",
    )
    assert any(result.terminated for result in results)
    convert(Source(load_contract(path), [tmp_path / "bag"]), tmp_path / "out")
    episodes = load_dataset(tmp_path / "out").episodes
    assert [(len(each), each.terminated) for each in episodes] == [
        (result.length, result.terminated) for result in results
    ]


def test_lost_physics_ends_episodes_as_failed(
    sled: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    path, bundle, model = sled
    model.write_text(MODEL.replace('kv="50"', 'kv="1e12"'))
    folder = tmp_path / "here"
    folder.mkdir()
    done = dql(
        "closed-loop", bundle, "--contract", path, "--env", model, "--episodes", 2, cwd=folder
    )
    assert done.returncode == 3, done.stderr
    assert "MuJoCo warns" in done.stdout
    assert re.search(r"success rate\W+0\.0%", done.stdout)
    (out,) = (folder / "runs" / "closed_loop").iterdir()
    figures = json.loads((out / "closed_loop.json").read_text())
    assert figures["success_rate"] == 0.0
    assert [line.partition(":")[0] for line in figures["failures"]] == ["episode 0", "episode 1"]
    assert [each.name for each in folder.iterdir()] == ["runs"]


@pytest.mark.usefixtures("forked")
def test_an_episode_of_a_model_ends_by_itself(sled: tuple[Path, Path, Path]) -> None:
    path, bundle, model = sled
    log = DiagnosticsLog()
    (result,) = run_closed_loop(
        path,
        policy_driver(bundle, seed=0),
        episodes=1,
        env=str(model),
        on_report=log.reports.append,
    )
    assert (result.length, result.truncated) == (1000, True)
    last = log.last_of(BRIDGE)
    assert last is not None
    assert last.values["failed episodes"] == "0"
