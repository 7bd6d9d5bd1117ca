"""A run over topics is the rollout in this process, for every shipped contract."""

from pathlib import Path

import numpy as np
import pytest

from dql_core.evaluation.rollout import evaluate
from dql_core.runtime.bundle_policy import load_policy
from dql_ros.cli.closed_loop import summarize
from dql_ros.closed_loop import policy_driver, run_closed_loop
from dql_ros.codecs import StreamDecoder, stamp_ns
from dql_ros.contract import load_contract
from dql_ros.nodes.stream_io import parts
from tests.ros.nodes.robot import untrained_bundle
from tests.ros.nodes.test_closed_loop import recorded, steps_in_process
from tests.ros.test_shipped_contracts import CONTRACTS, SIMULATED

pytestmark = pytest.mark.ros

EPISODES = {"half_cheetah": 1}
SEED = 11


@pytest.mark.parametrize("robot", SIMULATED)
def test_the_run_over_topics_is_the_rollout_in_process(robot: str, tmp_path: Path) -> None:
    """Observations, commands, rewards and returns, to the last bit."""
    path, env = CONTRACTS / f"{robot}.yaml", SIMULATED[robot]
    episodes = EPISODES.get(robot, 2)
    bundle = untrained_bundle(tmp_path, path)
    results = run_closed_loop(
        path,
        policy_driver(bundle, seed=SEED),
        episodes=episodes,
        env=env,
        seed=SEED,
        record=tmp_path / "bag",
    )
    expected = evaluate(load_policy(bundle), env, episodes, seed=SEED)
    assert summarize(results) == expected
    contract, messages = load_contract(path), recorded(tmp_path / "bag")
    rewards = [message.data for _, message in messages["/reward"]]
    assert len(rewards) == sum(expected.lengths)
    steps = list(steps_in_process(load_policy(bundle), env, episodes, seed=SEED))
    stamps = [index * contract.period_ns for index in range(len(steps))]
    begins = [0, *np.cumsum(np.array(expected.lengths) + 1)][:episodes]
    for stream, part in zip(contract.observation, parts(contract.observation), strict=True):
        decode, found = StreamDecoder(stream), messages[f"/{stream.topic}"]
        shown = begins if stream.latched else range(len(steps))
        assert [stamp_ns(message) for _, message in found] == [stamps[index] for index in shown]
        for (_, message), index in zip(found, shown, strict=True):
            np.testing.assert_array_equal(decode(message), steps[index][0][part])
    decode = StreamDecoder(contract.action[0])
    commands = [decode(message) for _, message in messages[f"/{contract.action[0].topic}"]]
    for command, (_, action) in zip(commands, steps, strict=False):
        if action is not None:
            np.testing.assert_array_equal(command, action)
