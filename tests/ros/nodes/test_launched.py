"""The launch files under the real launch: whole runs, respawn, refusals."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import Float64MultiArray

from dql_ros.bag.reader import Bag
from dql_ros.nodes.topics import reliable
from dql_ros.processes import own_domain
from tests.ros.nodes.launched import environment, needs_launch, start_launch
from tests.ros.nodes.robot import SCARA, Probe
from tests.ros.untrained import untrained_bundle
from tests.ros.workspace import Workspace, build

pytestmark = [pytest.mark.ros, pytest.mark.ros_launch, pytest.mark.slow, needs_launch]
LAUNCH_TEST = Path(__file__).with_name("policy_launch_testing.py")


@pytest.fixture(scope="module", name="workspace")
def _workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return build(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module", name="bundle")
def _bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_bundle(tmp_path_factory.mktemp("bundle"), SCARA)


class Launch:
    """A launch that runs on a domain of its own, and a probe on it."""

    def __init__(self, domain: int, folder: Path, process: "subprocess.Popen[str]") -> None:
        self.domain = domain
        self.probe = Probe(domain, lambda: None)
        self._folder = folder
        self._process = process

    @property
    def said(self) -> str:
        return (self._folder / "said").read_text()

    def await_words(self, words: str, times: int = 1) -> None:
        """Wait until the launch has said something so often."""
        try:
            self.probe.until(lambda: self.said.count(words) >= times, f"'{words}'")
        except AssertionError as error:
            raise AssertionError(f"{error} in\n{self.said}") from None

    def pid_of(self, executable: str) -> int:
        """Return the process that was started last for an executable."""
        started = f"[{executable}-"
        lines = [line for line in self.said.splitlines() if "process started with pid" in line]
        last = [line for line in lines if started in line][-1]
        return int(last.partition("pid [")[2].rstrip("]"))

    def end(self) -> int:
        """Wait for its end; interrupt it if it does not come by itself."""
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.interrupt()
        return self._process.wait(30)

    def interrupt(self) -> int:
        """End it as Ctrl-C does."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        return self._process.wait(30)

    def close(self) -> None:
        """End all that it has started, whatever has happened."""
        self.probe.close()
        try:
            self.interrupt()
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)


@contextmanager
def launched(workspace: Workspace, folder: Path, file: str, **arguments: Any) -> Iterator[Launch]:
    with own_domain() as domain:
        process = start_launch(workspace, domain, folder, file, arguments)
        with closing(Launch(domain, folder, process)) as launch:
            yield launch


def test_one_launch_drives_records_and_ends(
    workspace: Workspace, bundle: Path, tmp_path: Path
) -> None:
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text("/**: {ros__parameters: {episodes: 2, seed: 3}}")
    arguments = {
        "contract": SCARA,
        "policy": bundle,
        "mode": "lockstep",
        "sim": "true",
        "record": "true",
        "out": tmp_path / "bag",
        "namespace": "arm",
        "params_file": parameters,
    }
    with launched(workspace, tmp_path, "policy.launch.py", **arguments) as launch:
        assert launch.end() == 0, launch.said
        said = launch.said
    assert said.count("process has finished cleanly") == 3, said
    assert "[arm.policy]: running" in said
    with Bag(tmp_path / "bag") as bag:
        counts = {name: topic.count for name, topic in bag.topics.items()}
    assert counts["/arm/target"] == 2
    assert counts["/diagnostics"] > 0
    # A state that is not answered soon enough is sent again.
    assert counts["/arm/joint_states"] >= counts["/arm/reward"] + 2
    assert counts["/arm/velocity_controller/commands"] >= counts["/arm/reward"]


def test_a_killed_policy_is_started_configured_and_activated_again(
    workspace: Workspace, bundle: Path, tmp_path: Path
) -> None:
    arguments = {"contract": SCARA, "policy": bundle, "sim": "true", "respawn": "true"}
    with launched(workspace, tmp_path, "policy.launch.py", **arguments) as launch:
        launch.await_words("[policy]: running")
        os.kill(launch.pid_of("policy_node"), signal.SIGKILL)
        launch.await_words("[policy]: running", times=2)
        launch.interrupt()
        assert "Traceback" not in launch.said


def test_a_policy_whose_robot_comes_later_is_activated_then(
    workspace: Workspace, bundle: Path, tmp_path: Path
) -> None:
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text("/**: {ros__parameters: {activation_timeout_s: 0.5}}")
    arguments: dict[str, Any] = {"contract": SCARA, "policy": bundle, "use_sim_time": "true"}
    arguments["params_file"] = parameters
    with launched(workspace, tmp_path, "policy.launch.py", **arguments) as launch:
        launch.await_words("could not activate", times=2)
        (tmp_path / "sim").mkdir()
        domain = launch.domain
        process = start_launch(
            workspace, domain, tmp_path / "sim", "sim.launch.py", {"contract": SCARA}
        )
        with closing(Launch(domain, tmp_path / "sim", process)):
            launch.await_words("[policy]: running")
        launch.interrupt()


def test_policy_and_simulator_go_by_the_same_real_time_factor(
    workspace: Workspace, bundle: Path, tmp_path: Path
) -> None:
    arguments = {"contract": SCARA.name, "policy": bundle, "sim": "true"}
    arguments["real_time_factor"] = "2"
    with launched(workspace, tmp_path, "policy.launch.py", **arguments) as launch:
        launch.await_words("the period is 50.0 ms")
        reports = launch.probe.collect(DiagnosticArray, "/diagnostics")

        def factors() -> set[str]:
            pairs = (pair for r in list(reports) for s in r.status for pair in s.values)
            return {pair.value for pair in pairs if pair.key == "real-time factor wanted"}

        launch.probe.until(factors, "a report of the simulation")
        assert {float(factor) for factor in factors()} == {2.0}
        launch.interrupt()


@pytest.mark.parametrize("asked_by", ["argument", "file"])
def test_in_shadow_mode_somebody_else_drives_and_both_are_recorded(
    workspace: Workspace, bundle: Path, tmp_path: Path, asked_by: str
) -> None:
    commands = "velocity_controller/commands"
    arguments = {"contract": SCARA, "policy": bundle, "sim": "true", "record": "true"}
    arguments["out"] = tmp_path / "bag"
    if asked_by == "argument":
        arguments["shadow"] = "true"
    else:
        arguments["params_file"] = tmp_path / "parameters.yaml"
        (tmp_path / "parameters.yaml").write_text("/**: {ros__parameters: {shadow: true}}")
    with launched(workspace, tmp_path, "policy.launch.py", **arguments) as launch:
        probe = launch.probe
        driver = probe.node.create_publisher(Float64MultiArray, commands, reliable(10))
        shadow = probe.collect(Float64MultiArray, f"policy/shadow/{commands}")

        def is_followed() -> bool:
            driver.publish(Float64MultiArray(data=[0.1, 0.0]))
            found = probe.node.get_publishers_info_by_topic(commands)
            assert {each.node_name for each in found} == {"probe"}
            return len(shadow) > 10

        probe.until(is_followed, "the policy to follow")
        assert "[policy]: running; shadow mode: the robot is sent nothing" in launch.said
        launch.interrupt()
    with Bag(tmp_path / "bag") as bag:
        counts = {name: topic.count for name, topic in bag.topics.items()}
    assert counts[f"/policy/shadow/{commands}"] > 10
    assert counts[f"/{commands}"] > 10


def test_a_policy_that_cannot_be_configured_ends_the_launch(
    workspace: Workspace, tmp_path: Path
) -> None:
    arguments = {"contract": SCARA, "policy": tmp_path / "nothing", "sim": "true"}
    with launched(workspace, tmp_path, "policy.launch.py", **arguments) as launch:
        assert launch.end() == 1
        assert "could not configure" in launch.said
        assert "the policy node could not be configured; its last error says why" in launch.said


def test_without_autostart_the_policy_waits_to_be_configured(
    workspace: Workspace, bundle: Path, tmp_path: Path
) -> None:
    arguments = {"contract": SCARA, "policy": bundle, "sim": "true", "autostart": "false"}
    with launched(workspace, tmp_path, "policy.launch.py", **arguments) as launch:
        launch.probe.activate("policy")
        launch.await_words("[policy]: running")
        launch.interrupt()


def test_a_recorder_that_is_killed_goes_on_in_a_folder_of_its_own(
    workspace: Workspace, tmp_path: Path
) -> None:
    arguments = {"contract": SCARA, "out": tmp_path / "bag", "respawn": "true"}
    with launched(workspace, tmp_path, "record.launch.py", **arguments) as launch:
        launch.probe.until((tmp_path / "bag" / "bag_0.mcap").exists, "the first bag")
        os.kill(launch.pid_of("recorder_node"), signal.SIGKILL)
        launch.probe.until((tmp_path / "bag_1" / "bag_1_0.mcap").exists, "the second bag")
        launch.interrupt()
        assert "[recorder]: recorded" in launch.said
    assert (tmp_path / "bag_1" / "metadata.yaml").exists()
    assert not (tmp_path / "bag" / "metadata.yaml").exists()


def test_an_argument_that_is_neither_true_nor_false_is_named(
    workspace: Workspace, tmp_path: Path
) -> None:
    with launched(workspace, tmp_path, "sim.launch.py", respawn="yes") as launch:
        assert launch.end() == 1
        assert "launch argument 'respawn' is 'yes': give true or false" in launch.said


@pytest.mark.parametrize("file", ["policy.launch.py", "sim.launch.py", "record.launch.py"])
def test_ros2_launch_shows_every_argument(workspace: Workspace, tmp_path: Path, file: str) -> None:
    code = "import sys; from ros2cli.cli import main; sys.exit(main())"
    pytest.importorskip("ros2launch")
    command = [sys.executable, "-c", code, "launch", "dql_ros", file, "--show-args"]
    with own_domain() as domain:
        shown = subprocess.run(
            command,
            env=environment(workspace, domain, tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
    assert shown.returncode == 0, shown.stderr
    assert "'contract':" in shown.stdout
    assert "no description" not in shown.stdout


def test_launch_testing_finds_the_policy_running_and_every_process_ended_well(
    workspace: Workspace, bundle: Path, tmp_path: Path
) -> None:
    pytest.importorskip("launch_testing")
    code = "import sys; from launch_testing.launch_test import main; sys.exit(main())"
    command = [sys.executable, "-c", code, str(LAUNCH_TEST)]
    command += [f"contract:={SCARA}", f"policy:={bundle}"]
    with own_domain() as domain:
        ran = subprocess.run(
            command,
            env=environment(workspace, domain, tmp_path),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
