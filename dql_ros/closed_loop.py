"""Episodes of a simulated robot that is driven over ROS 2 topics, between real processes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dql_core.errors import SimulationError
from dql_ros.contract import load_contract
from dql_ros.domain import own_domain
from dql_ros.nodes.supervisor import RefusedTransitionError, Supervisor
from dql_ros.processes import NodeCommand, NodeProcess, NodeProcesses
from dql_ros.simulation import BUNDLED_ENVIRONMENT, EpisodeResult

logger = logging.getLogger(__name__)

_BRIDGE = "sim_bridge"
_DRIVER = "policy"
_START_TIMEOUT_S = 60.0
_EPISODE_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 20.0


def policy_driver(bundle: Path, *, seed: int, num_candidates: int | None = None) -> NodeCommand:
    """Return the command for a policy node that runs ``bundle``.

    Args:
        bundle: Folder of the policy bundle.
        seed: Seed of the sampled actions.
        num_candidates: Actions sampled to choose from; the bundle's own number by default.
    """
    parameters = {
        "policy": str(bundle.resolve()),
        "seed": seed,
        "num_candidates": num_candidates or 0,
    }
    return NodeCommand("dql_ros.nodes.policy_node", _DRIVER, parameters)


def demonstrator(*, seed: int) -> NodeCommand:
    """Return the command for a node in which the scripted operator drives the demo robot."""
    return NodeCommand("dql_ros.nodes.demonstrator_node", _DRIVER, {"seed": seed})


def run_closed_loop(
    contract: Path,
    driver: NodeCommand,
    *,
    episodes: int,
    env: str = BUNDLED_ENVIRONMENT,
    seed: int = 0,
    record: Path | None = None,
    on_episode: Callable[[EpisodeResult], None] = lambda _: None,
) -> list[EpisodeResult]:
    """Drive a simulated robot in lockstep and return how its episodes ended.

    Simulation bridge, driver and, if asked for, recorder run as processes of their own, on a ROS
    domain of their own on the loopback interface, and are ended whatever happens.

    Args:
        contract: Path of the robot contract.
        driver: The lifecycle node that answers states with commands; it is given the parameters
            ``contract``, ``mode`` and ``recorders`` beside its own.
        episodes: How many episodes to run.
        env: Gymnasium id of the environment.
        seed: Episode i is reset with ``seed + i``.
        record: Folder to record all topics into; it must not exist yet.
        on_episode: Called after each episode, in order.

    Raises:
        DqlError: If the contract is wrong.
        SimulationError: If a process fails; the message ends with the last line that it wrote.
    """
    load_contract(contract)
    path, recorders = str(contract.resolve()), int(record is not None)
    common = {"contract": path, "mode": "lockstep", "recorders": recorders}
    with (
        own_domain() as domain,
        NodeProcesses(domain) as processes,
        Supervisor(domain, _BRIDGE, _DRIVER, processes.check) as supervisor,
    ):
        recorder = processes.start(_recorder(path, record)) if record is not None else None
        simulation = {**common, "env": env, "episodes": episodes, "seed": seed}
        bridge = processes.start(NodeCommand("dql_ros.nodes.sim_bridge_node", _BRIDGE, simulation))
        driving = processes.start(
            replace(driver, node=_DRIVER, parameters={**driver.parameters, **common})
        )
        _bring_up(supervisor, driving)
        for index in range(episodes):
            _await_episode(supervisor, index, bridge, driving)
            on_episode(supervisor.results[index])
        if recorder is not None:
            # The bridge ends by itself once the recorder has everything.
            supervisor.wait_until(lambda: bridge.exit_code == 0, _END_TIMEOUT_S, "the end")
        processes.stop()
        if recorder is not None:
            _require_finished(recorder)
    return supervisor.results


def _recorder(contract: str, folder: Path) -> NodeCommand:
    parameters = {"contract": contract, "out": str(folder.resolve()), "use_sim_time": True}
    return NodeCommand("dql_ros.nodes.recorder_node", "recorder", parameters)


def _bring_up(supervisor: Supervisor, driving: NodeProcess) -> None:
    try:
        supervisor.bring_up(_START_TIMEOUT_S)
    except RefusedTransitionError as error:
        # Its last line says why; all of it is there once the process has ended.
        driving.stop()
        raise SimulationError(f"{driving.name}: {driving.last_words}") from error


def _await_episode(
    supervisor: Supervisor, index: int, bridge: NodeProcess, driving: NodeProcess
) -> None:
    def has_ended() -> bool:
        return len(supervisor.results) > index

    def cannot_end() -> bool:
        return bridge.exit_code is not None

    what = f"episode {index} to end (the driver's last line: {driving.last_words})"
    supervisor.wait_until(lambda: has_ended() or cannot_end(), _EPISODE_TIMEOUT_S, what)
    # The last result may still be on its way when its sender has ended.
    supervisor.wait_until(has_ended, _EPISODE_TIMEOUT_S if not cannot_end() else 2.0, what)


def _require_finished(recorder: NodeProcess) -> None:
    if recorder.exit_code != 0:
        raise SimulationError(
            f"the recording was not finished (code {recorder.exit_code}): {recorder.last_words}"
        )
    logger.info("%s", recorder.last_words)
