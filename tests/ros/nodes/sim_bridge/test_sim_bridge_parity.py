"""A run over topics is the rollout in this process, for every shipped contract."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.evaluation.rollout import evaluate
from dql_core.runtime.bundle_policy import load_policy
from dql_core.runtime.policy import Policy
from dql_ros.bag.reader import Bag
from dql_ros.codecs import StreamDecoder, stamp_ns
from dql_ros.contract import load_contract, parts
from dql_ros.nodes.closed_loop import policy_driver, run_closed_loop
from tests.ros.bag.messages import messages_of
from tests.ros.contract.test_shipped_contracts import CONTRACTS, SIMULATED
from tests.ros.untrained import untrained_bundle

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("forked")]
EPISODES = {"half_cheetah": 1}
SEED = 11
Vector = NDArray[np.float64]


def rollout(policy: Policy, env: str, episodes: int) -> Iterator[tuple[Vector, Vector]]:
    """Yield each observation with the action that the policy answers, the last one's too."""
    environment = gymnasium.make(env)
    rng = np.random.default_rng(SEED)
    for episode in range(episodes):
        observation, _ = environment.reset(seed=SEED + episode)
        policy.reset()
        ended = False
        while True:
            action = policy.act(np.asarray(observation, np.float32), rng).action
            yield np.asarray(observation, np.float64), action.astype(np.float64)
            if ended:
                break
            command = action.astype(environment.action_space.dtype)
            observation, _, terminated, truncated, _ = environment.step(command)
            ended = terminated or truncated


def recorded(bag_path: Path) -> dict[str, list[Any]]:
    """Return a bag's messages by topic; one that was shown again, for a late answer, once.

    That is told by its header: the simulation stamps each instant differently.
    """
    messages: dict[str, list[Any]] = {}
    with Bag(bag_path) as bag:
        for topic, _, message in messages_of(bag, frozenset(bag.topics)):
            found = messages.setdefault(topic, [])
            if not (found and hasattr(message, "header") and found[-1].header == message.header):
                found.append(message)
    return messages


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
    assert tuple(result.return_ for result in results) == expected.returns
    assert tuple(result.length for result in results) == expected.lengths
    contract, messages = load_contract(path), recorded(tmp_path / "bag")
    assert len(messages["/reward"]) == sum(expected.lengths)
    steps = list(rollout(load_policy(bundle), env, episodes))
    stamps = [index * contract.period_ns for index in range(len(steps))]
    begins = [0, *np.cumsum(np.array(expected.lengths) + 1)][:episodes]
    for stream, part in zip(contract.observation, parts(contract.observation), strict=True):
        decode, found = StreamDecoder(stream), messages[f"/{stream.topic}"]
        shown = begins if stream.latched else range(len(steps))
        assert [stamp_ns(message) for message in found] == [stamps[index] for index in shown]
        for message, index in zip(found, shown, strict=True):
            np.testing.assert_array_equal(decode(message), steps[index][0][part])
    decode = StreamDecoder(contract.action[0])
    commands = [decode(message) for message in messages[f"/{contract.action[0].topic}"]]
    # The last state may go unanswered; the safe command comes last of all.
    assert len(commands) >= len(steps) - 1
    for command, (_, action) in zip(commands[: len(steps) - 1], steps, strict=False):
        np.testing.assert_array_equal(command, action)
