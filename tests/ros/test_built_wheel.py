"""What is built to be installed elsewhere: complete, and enough for a robot."""

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tarfile
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import GetState

from dql_core.runtime.bundle_policy import load_policy
from dql_ros.processes import NodeProcess, environment_of, own_domain
from tests.linked_environment import LinkedEnvironment
from tests.ros.nodes.robot import SCARA, Robot
from tests.ros.untrained import untrained_bundle
from tests.ros.workspace import copy_sources

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("setuptools.command.bdist_wheel") is None,
        reason="setuptools before 70.1 builds no wheel by itself: pip install -U setuptools",
    ),
]
BUILD = "from setuptools import build_meta; import sys; build_meta.build_{}(sys.argv[1])"
DECIDE = """
import json, sys
import numpy as np
from dql_core.runtime.bundle_policy import load_policy
policy = load_policy(sys.argv[1])
decision = policy.act(np.zeros(len(policy.spec.observation), np.float32), np.random.default_rng(7))
print(json.dumps(decision.action.tolist()))
print(*sorted({name.split(".")[0] for name in sys.modules} & set(sys.argv[2:])))
"""
NOT_ON_A_ROBOT = ("torch", "minari", "mujoco", "tensorboard", "matplotlib", "gymnasium", "rclpy")


@pytest.fixture(scope="module", name="sdist")
def _sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    built(copy_sources(folder / "source"), "sdist", folder)
    (archive,) = folder.glob("dql_ros-*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module", name="wheel")
def _wheel(sdist: Path) -> Path:
    """The wheel that the source distribution makes."""
    built(sdist, "wheel", sdist.parent)
    (wheel,) = sdist.parent.glob("dql_ros-*.whl")
    return wheel


def built(source: Path, kind: str, folder: Path) -> None:
    command = [sys.executable, "-c", BUILD.format(kind), str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def installed(folder: Path, wheel: Path, *extras: str) -> LinkedEnvironment:
    """Return an environment with the wheel, and with what its own metadata says it requires."""
    with ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(files.read(name))
    requirements = [
        line.partition(";")[0].strip()
        for line in metadata.get_all("Requires-Dist", [])
        if "extra ==" not in line or any(f'extra == "{extra}"' in line for extra in extras)
    ]
    environment = LinkedEnvironment(folder, requirements)
    pip = [sys.executable, "-m", "pip", "--python", str(environment.python), "--quiet"]
    without = ["--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check"]
    command = [*pip, "install", *without, str(wheel)]
    subprocess.run(command, env=environment.environment({}), check=True)
    return environment


@pytest.fixture(scope="module", name="robot")
def _robot(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> LinkedEnvironment:
    return installed(tmp_path_factory.mktemp("robot"), wheel)


@pytest.fixture(scope="module", name="bundle")
def _bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_bundle(tmp_path_factory.mktemp("bundle"), SCARA)


def test_a_source_distribution_holds_what_is_built_from_it(sdist: Path, wheel: Path) -> None:
    assert (sdist / "LICENSE").is_file()
    with ZipFile(wheel) as files:
        names = files.namelist()
    assert {"dql_core/page.html", "dql_core/sim/models/scara.xml"} <= set(names)
    for shared in ("package.xml", "launch/policy.launch.py", "config/contracts/scara.yaml"):
        assert any(name.endswith(f"data/share/dql_ros/{shared}") for name in names), shared
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)


def test_all_that_an_installation_requires_is_there(robot: LinkedEnvironment) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(robot.python), "check"]
    apart = robot.environment({})
    done = subprocess.run(pip, env=apart, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_an_installation_decides_as_here_without_ros_and_without_extras(
    robot: LinkedEnvironment, bundle: Path
) -> None:
    done = robot.run("-c", DECIDE, bundle, *NOT_ON_A_ROBOT)
    assert done.returncode == 0, done.stderr
    action, imported = done.stdout.split("\n")[:2]
    assert imported == ""
    policy = load_policy(bundle)
    zeros = np.zeros(len(policy.spec.observation), np.float32)
    decision = policy.act(zeros, np.random.default_rng(7))
    assert json.loads(action) == decision.action.tolist()


def test_an_installation_has_the_commands_and_the_configuration(
    robot: LinkedEnvironment, bundle: Path
) -> None:
    names = {path.name for path in (robot.folder / "bin").iterdir()}
    assert {"dql", "policy_node", "recorder_node", "sim_bridge_node"} <= names
    for arguments in (("inspect", bundle), ("layout", "scara.yaml", "layout.json")):
        done = robot.run(robot.folder / "bin/dql", *arguments)
        assert done.returncode == 0, done.stderr


@pytest.mark.ros
@pytest.mark.skipif(
    not any(importlib.metadata.distributions(name="ros-jazzy-rclpy")),
    reason="ROS 2 is sourced here, not installed from wheels",
)
def test_an_installation_with_the_ros_wheels_runs_the_policy_node(
    tmp_path: Path, wheel: Path, bundle: Path
) -> None:
    environment = installed(tmp_path / "robot", wheel, "ros")
    with own_domain() as domain, Robot(domain) as robot:
        command = [str(environment.folder / "bin/policy_node"), "--ros-args"]
        for name, value in (("contract", SCARA), ("policy", bundle)):
            command += ["-p", f"{name}:={value}"]
        node = NodeProcess("policy", command, environment.environment(environment_of(domain)))
        try:
            assert robot.probe.change_state("policy", Transition.TRANSITION_CONFIGURE)
            request = GetState.Request()
            state = robot.probe.call(GetState, "policy/get_state", request).current_state.id
            assert state == State.PRIMARY_STATE_INACTIVE
            started = Path(f"/proc/{node.pid}/cmdline").read_text()
            assert started.startswith(str(environment.python)), started
        finally:
            node.stop()
        assert node.exit_code == 0, node.last_words
