"""What an installation without extras can do, by what is imported where."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from packaging.requirements import Requirement

from dql_core.extras import ALL, EXTRAS, libraries
from dql_ros.cli.main import VERBS
from tests.architecture.test_imports import ROOT, modules, relative
from tests.import_graph import extra_of, third_party
from tests.linked_environment import setup_arguments

# Distribution -> what it is imported as, where that is another name.
IMPORTED_AS = {"pillow": "PIL", "pyyaml": "yaml", "ros_jazzy_rclpy": "rclpy"}
OTHER_EXTRAS = {"dev", "docs", "suite", "test"}  # for the repository, not for a verb
# What runs on a robot, beside the verbs.
ROBOT = (
    "dql_core.runtime.bundle_policy",
    "dql_ros.nodes.policy_node",
    "dql_ros.nodes.recorder_node",
    "dql_ros.nodes.start",
)
SIMULATED = ("dql_ros.nodes.sim_bridge_node", "dql_ros.nodes.demonstrator_node")
SETUP = setup_arguments()


def module_names(requirements: list[str]) -> set[str]:
    names = (Requirement(each).name.replace("-", "_") for each in requirements)
    return {IMPORTED_AS.get(name, name) for name in names}


RUNTIME = module_names(SETUP["install_requires"])
ROS = {each.text for each in ElementTree.parse(ROOT / "package.xml").iter("exec_depend")}


def verb_modules() -> Iterator[tuple[str, str]]:
    """Every module of the command line with a `needing` block, and the extra that it names."""
    for path in (*modules("dql_core/cli"), *modules("dql_ros/cli")):
        extras = {
            extra_of(node)
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.With)
        }
        assert len(extras) <= 1, relative(path)
        for extra in filter(None, extras):
            yield relative(path).removesuffix(".py").replace("/", "."), extra


@pytest.mark.parametrize("module", ROBOT)
def test_what_runs_on_a_robot_needs_no_extra(module: str) -> None:
    assert third_party(module) <= RUNTIME | ROS


@pytest.mark.parametrize("module", SIMULATED)
def test_what_simulates_needs_what_is_for_simulations(module: str) -> None:
    found = third_party(module)
    assert found <= RUNTIME | ROS | libraries("sim")
    assert not found <= RUNTIME | ROS


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_needs_no_extra(verb: str) -> None:
    assert third_party(VERBS[verb][0]) <= RUNTIME


@pytest.mark.parametrize(("module", "extra"), list(verb_modules()))
def test_the_extra_that_a_verb_names_brings_all_that_it_imports(module: str, extra: str) -> None:
    found = third_party(module, needed=True)
    assert found <= RUNTIME | ROS | libraries(extra)
    assert not found <= RUNTIME, f"{module} needs no extra"


def all_imports(path: Path) -> set[str]:
    """The libraries that a module imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return {name.split(".")[0] for name in names} - {"dql_core", "dql_ros"}


def test_each_library_that_is_imported_anywhere_comes_with_the_package_or_an_extra() -> None:
    known = RUNTIME | ROS | {name for extra in EXTRAS for name in libraries(extra)}
    for path in (*modules("dql_core"), *modules("dql_ros")):
        assert all_imports(path) <= known | sys.stdlib_module_names, relative(path)


def test_what_the_package_requires_is_imported() -> None:
    roots = {
        name for path in (*modules("dql_core"), *modules("dql_ros")) for name in all_imports(path)
    }
    wanted = RUNTIME | {name for extra in (ALL, "ros") for name in libraries(extra)}
    # Which imageio and torch.utils import.
    assert wanted - roots == {"imageio_ffmpeg", "tensorboard"}


def test_setup_and_the_messages_know_the_same_extras() -> None:
    stated = {
        extra: module_names(requirements)
        for extra, requirements in SETUP["extras_require"].items()
        if extra not in OTHER_EXTRAS
    }
    assert set(stated) == {ALL, *EXTRAS}
    for extra in ("convert", "train", "sim", "ray", "sweep", ALL):
        assert stated[extra] == libraries(extra), extra
    assert libraries("ros") <= ROS
    assert "rclpy" in stated["ros"]
