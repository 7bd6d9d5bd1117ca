"""Whole episodes between real processes: bridge, driver and recorder."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.errors import SimulationError
from dql_core.evaluation.rollout import evaluate
from dql_core.runtime.bundle_policy import load_policy
from dql_core.runtime.policy import Policy
from dql_core.sim import SCARA_ID
from dql_core.sim.scara_demonstrator import ScaraDemonstrator
from dql_ros.bag.reader import Bag
from dql_ros.cli.closed_loop_report import summarize
from dql_ros.codecs import StreamDecoder, stamp_ns
from dql_ros.contract import load_contract
from dql_ros.diagnostics import DiagnosticsLog
from dql_ros.nodes.closed_loop import DRIVER, demonstrator, policy_driver, run_closed_loop
from dql_ros.sim.result import EpisodeResult
from tests.ros.bag.messages import messages_of
from tests.ros.nodes.process_marks import processes_with
from tests.ros.nodes.robot import SCARA
from tests.ros.untrained import untrained_bundle

pytestmark = pytest.mark.ros
Vector = NDArray[np.float64]


def steps_in_process(
    policy: Policy, env_id: str, episodes: int, seed: int
) -> Iterator[tuple[Vector, Vector | None]]:
    """Yield each observation of a rollout with the action that it led to, if any."""
    environment = gymnasium.make(env_id)
    rng = np.random.default_rng(seed)
    for episode in range(episodes):
        observation, _ = environment.reset(seed=seed + episode)
        ended = False
        while not ended:
            action = policy.act(np.asarray(observation, np.float32), rng).action
            yield observation.astype(np.float64), action.astype(np.float64)
            command = action.astype(environment.action_space.dtype)
            observation, _, terminated, truncated, _ = environment.step(command)
            ended = terminated or truncated
        # The bridge waits for an answer to the last state too, and drops it.
        policy.act(np.asarray(observation, np.float32), rng)
        yield observation.astype(np.float64), None


def recorded(bag_path: Path) -> dict[str, list[tuple[int, Any]]]:
    """Return the messages of a bag with their log times, by topic.

    A state that the simulator showed again, because the answer took long, counts once.
    """
    messages: dict[str, list[tuple[int, Any]]] = {}
    with Bag(bag_path) as bag:
        for topic, log_time_ns, message in messages_of(bag, frozenset(bag.topics)):
            found = messages.setdefault(topic, [])
            shown_again = found and hasattr(message, "header") and found[-1][0] == log_time_ns
            if not shown_again:
                found.append((log_time_ns, message))
    return messages


@pytest.mark.usefixtures("forked")
def test_a_run_over_topics_is_the_run_in_process_step_by_step(
    pendulum: Path, pendulum_bundle: Path, tmp_path: Path
) -> None:
    """Both streams, the commands, rewards and times, to the last bit."""
    contract = load_contract(pendulum)
    seen: list[EpisodeResult] = []
    results = run_closed_loop(
        pendulum,
        policy_driver(pendulum_bundle, seed=5),
        episodes=2,
        env="Pendulum-v1",
        seed=5,
        record=tmp_path / "bag",
        on_episode=seen.append,
    )
    assert seen == results
    assert [(result.episode, result.seed, result.length) for result in results] == [
        (0, 5, 200),
        (1, 6, 200),
    ]
    messages = recorded(tmp_path / "bag")
    expected = list(steps_in_process(load_policy(pendulum_bundle), "Pendulum-v1", 2, seed=5))
    assert len(expected) == 402
    times = [index * contract.period_ns for index in range(402)]
    start = 0
    for stream in contract.observation:
        part, decode = slice(start, start + stream.width), StreamDecoder(stream)
        start += stream.width
        states = messages[f"/{stream.topic}"]
        assert [time for time, _ in states] == times
        assert [stamp_ns(message) for _, message in states] == times
        for (_, message), (observation, _) in zip(states, expected, strict=True):
            np.testing.assert_array_equal(decode(message), observation[part])
    decode = StreamDecoder(contract.action[0])
    # The last command of all is the safe one, when the policy node is told to end.
    *commands, (_, safe) = messages["/torque"]
    # As it was asked for: again, where the machine stalled and a state was shown again.
    commands = [
        command for before, command in pairwise([(-1, None), *commands]) if command[0] != before[0]
    ]
    assert [time for time, _ in commands] == times[: len(commands)]
    assert len(commands) in {401, 402}
    np.testing.assert_array_equal(decode(safe), [0.125])
    for (_, message), (_, action) in zip(commands, expected, strict=False):
        if action is not None:
            np.testing.assert_array_equal(decode(message), action)
    rewards = [message.data for _, message in messages["/reward"]]
    assert [sum(rewards[:200]), sum(rewards[200:])] == [result.return_ for result in results]
    ends = [time for time, message in messages["/truncated"] if message.data]
    assert ends == [times[200], times[401]]


@pytest.mark.usefixtures("forked")
def test_the_demo_robot_gives_the_returns_of_evaluate(scara: Path, scara_bundle: Path) -> None:
    results = run_closed_loop(scara, policy_driver(scara_bundle, seed=2), episodes=3, seed=2)
    assert summarize(results) == evaluate(load_policy(scara_bundle), SCARA_ID, 3, seed=2)


@pytest.mark.usefixtures("forked")
def test_whole_chunks_of_actions_give_the_returns_of_evaluate(scara: Path, tmp_path: Path) -> None:
    bundle = untrained_bundle(tmp_path, scara, horizon=4)
    driver = policy_driver(bundle, seed=2)
    driver = replace(driver, parameters={**driver.parameters, "execute": 4})
    results = run_closed_loop(scara, driver, episodes=3, seed=2)
    assert summarize(results) == evaluate(load_policy(bundle), SCARA_ID, 3, seed=2)


@pytest.mark.usefixtures("forked")
def test_a_demonstration_is_recorded_whole(tmp_path: Path) -> None:
    results = run_closed_loop(
        SCARA, demonstrator(seed=1), episodes=3, seed=1, record=tmp_path / "bag"
    )
    operator = ScaraDemonstrator(load_contract(SCARA).policy_spec())
    assert summarize(results) == evaluate(operator, SCARA_ID, 3, seed=1)
    messages = recorded(tmp_path / "bag")
    steps = sum(result.length for result in results)
    counts = Counter({topic: len(found) for topic, found in messages.items()})
    commands = counts.pop("/velocity_controller/commands")
    # From both nodes, once a second and at each change.
    assert counts.pop("/diagnostics") >= 2
    assert counts == {
        "/clock": steps + 3,
        "/joint_states": steps + 3,
        "/target": 3,
        "/reward": steps,
        "/terminated": steps,
        "/truncated": steps,
    }
    # The last state may go unanswered; the safe command comes on top.
    assert commands in {steps + 3, steps + 4}
    # Not in the contract's order, lest anyone rely on it.
    assert all(message.name == ["elbow", "shoulder"] for _, message in messages["/joint_states"])
    ends = [message.data for _, message in messages["/terminated"]]
    assert sum(ends) == sum(result.terminated for result in results)


@pytest.mark.usefixtures("forked")
def test_a_bundle_for_another_robot_is_refused_with_the_first_difference(
    scara_bundle: Path, pendulum: Path
) -> None:
    with pytest.raises(
        SimulationError,
        match=r"policy: could not configure: .*observation field 0 .* name is 'direction",
    ):
        run_closed_loop(
            pendulum, policy_driver(scara_bundle, seed=0), episodes=1, env="Pendulum-v1"
        )


@pytest.mark.usefixtures("forked")
def test_a_policy_keeps_its_rate_on_the_clock_of_a_fast_simulator(
    scara: Path, scara_bundle: Path
) -> None:
    log = DiagnosticsLog()
    driver, fast = policy_driver(scara_bundle, seed=0), {"real_time_factor": 3.0}
    results = run_closed_loop(
        scara,
        replace(driver, parameters={**driver.parameters, **fast}),
        episodes=4,
        real_time=True,
        bridge_parameters=fast,
        on_report=log.reports.append,
    )
    last = log.of_node(DRIVER)[-1]
    assert last.number("rate (Hz)") == pytest.approx(3 * 10, rel=0.1)
    assert last.number("guard published") == pytest.approx(
        sum(result.length for result in results), rel=0.2
    )


@pytest.mark.usefixtures("forked")
def test_what_the_policy_warns_of_when_it_configures_is_said(
    scara: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    driver = policy_driver(untrained_bundle(tmp_path, scara, horizon=5), seed=0)
    parameters = {**driver.parameters, "execute": 3}
    run_closed_loop(scara, replace(driver, parameters=parameters), episodes=1, real_time=True)
    (said,) = [each.message for each in caplog.records if "max_age_s" in each.message]
    assert said.startswith("policy: execute is 3, and a decision takes 1 tick, but by max_age_s")


@pytest.mark.usefixtures("forked")
def test_a_robots_time_has_no_factor(scara: Path, scara_bundle: Path) -> None:
    driver = policy_driver(scara_bundle, seed=0)
    with pytest.raises(
        SimulationError, match=r"real_time_factor is 3, but use_sim_time is false: .* for a simula"
    ):
        run_closed_loop(
            scara,
            replace(driver, parameters={**driver.parameters, "real_time_factor": 3.0}),
            episodes=1,
        )


@pytest.mark.usefixtures("forked")
def test_an_environment_that_does_not_fit_is_told_in_one_line(
    scara: Path, scara_bundle: Path
) -> None:
    with pytest.raises(
        SimulationError,
        match=r"sim_bridge ended with code 2: .*'Pendulum-v1' does not fit",
    ):
        run_closed_loop(scara, policy_driver(scara_bundle, seed=0), episodes=1, env="Pendulum-v1")


def test_no_process_is_left_when_the_caller_fails(
    scara: Path, scara_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DQL_TEST_MARK", "left-behind")

    def fail(_: EpisodeResult) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_closed_loop(scara, policy_driver(scara_bundle, seed=0), episodes=100, on_episode=fail)
    assert not processes_with("DQL_TEST_MARK=left-behind") - {os.getpid()}


def test_the_policy_process_does_not_load_torch() -> None:
    code = "import dql_ros.nodes.policy_node, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
