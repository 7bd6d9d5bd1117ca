"""A closed loop ends, with its reason, whatever becomes of its processes."""

import os
import signal
from pathlib import Path

import pytest

from dql_core.errors import SimulationError
from dql_ros.diagnostics import DiagnosticsLog, Report
from dql_ros.nodes import closed_loop
from dql_ros.nodes.closed_loop import BRIDGE, DRIVER, policy_driver, run_closed_loop
from dql_ros.sim.result import EpisodeResult
from tests.ros.nodes.process_marks import processes_with

pytestmark = pytest.mark.ros
MARK = "DQL_TEST_MARK"


def pid_of(module: str, mark: str) -> int:
    """Return the one process of this test that runs ``module``."""
    (pid,) = (
        pid
        for pid in processes_with(f"{MARK}={mark}")
        if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    return pid


@pytest.mark.usefixtures("forked")
def test_the_last_report_is_that_of_the_deactivated_driver(
    scara: Path, scara_bundle: Path
) -> None:
    log = DiagnosticsLog()
    results = run_closed_loop(
        scara, policy_driver(scara_bundle, seed=0), episodes=1, on_report=log.reports.append
    )
    states = [report.values["state"] for report in log.of_node(DRIVER)]
    assert states[-1] == "inactive"
    last = log.of_node(DRIVER)[-1]
    # Every state was answered but the last, which may be.
    assert int(last.values["ticks"]) in {results[0].length, results[0].length + 1}


@pytest.mark.usefixtures("forked")
def test_the_simulation_is_heard_from_its_beginning_to_its_end(
    scara: Path, scara_bundle: Path
) -> None:
    for seed in range(3):
        log = DiagnosticsLog()
        driver = policy_driver(scara_bundle, seed=seed)
        run_closed_loop(scara, driver, episodes=1, seed=seed, on_report=log.reports.append)
        told = [report.message for report in log.of_node(BRIDGE)]
        assert told[0] == "waiting for a policy and recorders to subscribe"
        assert told[-1] == "all episodes are done"


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("policy_node", r"policy ended with code -9"),
        ("sim_bridge_node", r"sim_bridge ended with code -9"),
    ],
)
def test_a_killed_process_ends_the_run(
    module: str,
    told: str,
    scara: Path,
    scara_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(MARK, str(tmp_path))
    killed: list[int] = []

    def kill(report: Report) -> None:
        if report.values.get("state") == "running" and not killed:
            killed.append(pid_of(module, str(tmp_path)))
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(SimulationError, match=told):
        run_closed_loop(
            scara, policy_driver(scara_bundle, seed=0), episodes=100_000, on_report=kill
        )
    assert not processes_with(f"{MARK}={tmp_path}") - {os.getpid()}


@pytest.mark.slow
def test_a_driver_that_hangs_is_given_up_and_killed(
    scara: Path, scara_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, str(tmp_path))
    monkeypatch.setattr(closed_loop, "_STALL_TIMEOUT_S", 5.0)

    def hang(_: EpisodeResult) -> None:
        os.kill(pid_of("policy_node", str(tmp_path)), signal.SIGSTOP)

    told = r"no tick( of the driver, which says '.*',)? for 5 s: gave up waiting for episode"
    with pytest.raises(SimulationError, match=told):
        run_closed_loop(
            scara, policy_driver(scara_bundle, seed=0), episodes=100_000, on_episode=hang
        )
    assert not processes_with(f"{MARK}={tmp_path}") - {os.getpid()}
