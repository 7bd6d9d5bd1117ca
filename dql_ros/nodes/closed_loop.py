"""Episodes of a simulated robot that is driven over ROS 2 topics, between real processes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dql_core.errors import SimulationError
from dql_core.runtime.controller import State
from dql_core.sim import is_model_file
from dql_ros.contract import load_contract
from dql_ros.contract.shadow import shadow_topic
from dql_ros.contract.watching import watching
from dql_ros.diagnostics import DiagnosticsLog, Report
from dql_ros.nodes.remote import RefusedTransitionError, Supervisor
from dql_ros.processes import NodeCommand, NodeProcess, NodeProcesses, own_domain
from dql_ros.sim.episodes import BUNDLED_ENVIRONMENT
from dql_ros.sim.options import MODEL_EPISODE_STEPS
from dql_ros.sim.result import EpisodeResult

logger = logging.getLogger(__name__)
BRIDGE = "sim_bridge"
DRIVER = "policy"
WATCHER = "operator"
_DEMONSTRATOR = "dql_ros.nodes.demonstrator_node"
_START_TIMEOUT_S = 60.0
# An episode may take as long as it likes, but not without a tick of the driver.
_STALL_TIMEOUT_S = 60.0
_RESULT_TIMEOUT_S = 2.0
_DEACTIVATION_TIMEOUT_S = 5.0
_END_TIMEOUT_S = 20.0


def policy_driver(bundle: Path, *, seed: int, num_candidates: int | None = None) -> NodeCommand:
    """Return the command for a policy node that runs the bundle in a folder."""
    parameters = {
        "policy": str(bundle.resolve()),
        "seed": seed,
        "num_candidates": num_candidates or 0,
    }
    return NodeCommand("dql_ros.nodes.policy_node", DRIVER, parameters)


def demonstrator(*, seed: int) -> NodeCommand:
    """Return the command for a node in which the scripted operator drives the demo robot."""
    return NodeCommand(_DEMONSTRATOR, DRIVER, {"seed": seed})


def run_closed_loop(
    contract: Path,
    driver: NodeCommand,
    *,
    episodes: int,
    env: str = BUNDLED_ENVIRONMENT,
    seed: int = 0,
    real_time: bool = False,
    watched: bool = False,
    shadows: Mapping[str, Path] = MappingProxyType({}),
    max_episode_steps: int = 0,
    bridge_parameters: Mapping[str, Any] = MappingProxyType({}),
    record: Path | None = None,
    on_episode: Callable[[EpisodeResult], None] = lambda _: None,
    on_report: Callable[[Report], None] = lambda _: None,
) -> list[EpisodeResult]:
    """Drive a simulated robot and return how its episodes ended.

    Simulation bridge, driver and, if asked for, recorder run as processes of their own, on a ROS
    domain of their own on the loopback interface, and are ended whatever happens.

    Args:
        contract: Path of the robot contract.
        driver: The lifecycle node that answers states with commands; it is given the parameters
            ``contract``, ``mode``, ``recorders`` and ``use_sim_time`` beside its own.
        episodes: How many episodes to run.
        env: Gymnasium id of the environment, or the path of an MJCF file.
        seed: Episode i is reset with ``seed + i``.
        real_time: Let the simulation run with the clock, instead of waiting for each command.
        watched: Let the scripted operator watch the driver and take over where it goes wrong, by
            the contract's ``takeover``; in lockstep each state then waits for the operator, too.
        shadows: Bundles that look on in shadow mode while the driver drives, by the names of
            their nodes; only in real time. A recording has what they would have sent.
        max_episode_steps: Truncate episodes after so many steps; 0 for the environment's own
            limit, or for `MODEL_EPISODE_STEPS` with an MJCF file, which has none.
        bridge_parameters: Further parameters of the bridge, such as faults to inject.
        record: Folder to record all topics into; it must not exist yet.
        on_episode: Called after each episode, in order.
        on_report: Called with everything that a node reports on ``/diagnostics``, of the driver
            at last with what it reported when it was deactivated.

    Raises:
        DqlError: If the contract is wrong.
        SimulationError: If a process fails; the message ends with the last line that it wrote.
    """
    rules = load_contract(contract)
    if watched:
        watching(rules)
    path, recorders = str(contract.resolve()), int(record is not None)
    mode = "real_time" if real_time else "lockstep"
    common = {"contract": path, "mode": mode, "recorders": recorders}
    # In lockstep the driver ticks by the states' stamps and asks no clock.
    common_control = {**common, "use_sim_time": real_time}
    awaited = {"await_person": True} if watched and not real_time else {}
    driving = replace(driver, parameters={**driver.parameters, **common_control, **awaited})
    limit = max_episode_steps or (MODEL_EPISODE_STEPS if is_model_file(env) else 0)
    simulation = {**common, "env": env, "episodes": episodes, "seed": seed}
    simulation |= {"max_episode_steps": limit, **bridge_parameters}
    with (
        own_domain() as domain,
        NodeProcesses(domain) as processes,
        Supervisor(domain, BRIDGE, DRIVER, processes.check, on_report) as supervisor,
    ):
        recorder = None
        if record is not None:
            topics = [
                shadow_topic(stream.topic, f"/{name}")
                for name in shadows
                for stream in rules.action
            ]
            recorder = processes.start(_recorder(path, record, topics))
        bridge = processes.start(NodeCommand("dql_ros.nodes.sim_bridge_node", BRIDGE, simulation))
        driven = processes.start(replace(driving, node=DRIVER))
        for name, bundle in shadows.items():
            looking = policy_driver(bundle, seed=seed)
            own = {**looking.parameters, **common_control, "shadow": True, "autostart": True}
            processes.start(replace(looking, node=name, parameters=own))
        if watched:
            alone = {"watch": True, "autostart": True}
            processes.start(NodeCommand(_DEMONSTRATOR, WATCHER, {**common_control, **alone}))
        # Its reports come only after its topic was found, and a short run may be over before.
        supervisor.wait_until(
            lambda: bool(supervisor.log.of_node(BRIDGE)), _START_TIMEOUT_S, "the simulation bridge"
        )
        _bring_up(supervisor, driven)
        for warning in dict.fromkeys(driven.warnings):
            if not warning.startswith(State.WAITING.value):  # for its first state
                logger.warning("%s: %s", DRIVER, warning)
        for index in range(episodes):
            _await_episode(supervisor, index, bridge, driven)
            on_episode(supervisor.results[index])
        if recorder is not None:
            # The bridge ends by itself once the recorder has everything.
            supervisor.wait_until(lambda: bridge.exit_code == 0, _END_TIMEOUT_S, "the end")
        supervisor.deactivate(_DEACTIVATION_TIMEOUT_S)
        processes.stop()
        supervisor.take_all()
        if recorder is not None:
            _require_finished(recorder)
    return supervisor.results


def _recorder(contract: str, folder: Path, topics: Sequence[str]) -> NodeCommand:
    parameters = {
        "contract": contract,
        "out": str(folder.resolve()),
        "topics": ["/diagnostics", *topics],
        "use_sim_time": True,
    }
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
    """Wait for the end of an episode, as long as the driver acts.

    Raises:
        SimulationError: If a process fails, or nothing happens any more.
    """
    progress = _Progress(supervisor.log)

    def has_ended() -> bool:
        return len(supervisor.results) > index

    def is_over() -> bool:
        return has_ended() or bridge.exit_code is not None or progress.has_stalled()

    what = f"episode {index} to end (the driver's last line: {driving.last_words})"
    supervisor.wait_until(is_over, math.inf, what)
    # The last result may still be on its way when its sender has ended.
    if bridge.exit_code is not None:
        supervisor.wait_until(has_ended, _RESULT_TIMEOUT_S, what)
    if not has_ended():
        raise SimulationError(
            f"{progress} for {_STALL_TIMEOUT_S:.0f} s: gave up waiting for {what}"
        )


class _Progress:
    """Notices when the driver ticks no more."""

    def __init__(self, log: DiagnosticsLog) -> None:
        self._log = log
        self._ticks: str | None = None
        self._since_s = time.monotonic()

    def has_stalled(self) -> bool:
        """Whether the driver has reported no new tick for too long."""
        last = self._log.last_of(DRIVER)
        ticks = None if last is None else last.values.get("ticks")
        if ticks != self._ticks:
            self._ticks, self._since_s = ticks, time.monotonic()
        return time.monotonic() - self._since_s > _STALL_TIMEOUT_S

    def __str__(self) -> str:
        last = self._log.last_of(DRIVER)
        return f"no tick of the driver, which says '{last.message}'," if last else "no tick"


def _require_finished(recorder: NodeProcess) -> None:
    if recorder.exit_code != 0:
        raise SimulationError(
            f"the recording was not finished (code {recorder.exit_code}); the recorder's last "
            f"line: {recorder.last_words}"
        )
    logger.info("%s", recorder.last_words)
