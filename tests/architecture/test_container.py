"""The containers and package.xml name what there is; no container is built here."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dql_core.extras import ALL, EXTRAS
from dql_ros.cli.main import VERBS
from tests.architecture.test_imports import ROOT, modules
from tests.import_graph import OURS
from tests.linked_environment import setup_arguments

DOCKERFILE = ROOT / "Dockerfile"
DEVCONTAINER = ROOT / ".devcontainer/devcontainer.json"
# Packages of Ubuntu 24.04, on which ROS 2 Jazzy is.
UBUNTU = {"git", "make", "python3-colcon-common-extensions", "python3-venv"}
# Which the interfaces of a package bring that has none of its own.
BROUGHT_BY = {"common_interfaces": {"std_msgs", "sensor_msgs"}, "rmw_fastrtps_cpp": {"rclpy"}}
# What a shell, Python or the base image has.
SHELL = {"apt-get", "bash", "echo", "python3", "rm", "source"}
# Keys of rosdep/python.yaml of ros/rosdistro, read on 2026-08-22.
ROSDEP = {"python3-numpy", "python3-pytest", "python3-rich", "python3-yaml"}


def instructions() -> Iterator[tuple[str, str]]:
    """Each instruction of the Dockerfile, with its words on one line."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.M).replace("\\\n", " ")
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, words = line.partition(" ")
        yield name, " ".join(words.split())


def commands() -> Iterator[list[str]]:
    """Each command that the containers run."""
    lines = [words for name, words in instructions() if name == "RUN"]
    lines += [" ".join(json.loads(words)[2:]) for name, words in instructions() if name == "CMD"]
    lines += [shlex.split(json.loads(DEVCONTAINER.read_text())["postCreateCommand"])[2]]
    for line in lines:
        yield from (shlex.split(part) for part in line.split("&&"))


def package_xml(*tags: str) -> set[str]:
    tree = ElementTree.parse(ROOT / "package.xml")
    return {str(each.text) for tag in tags for each in tree.iter(tag)}


def test_what_is_copied_is_there_and_is_all_that_the_package_is_built_from() -> None:
    copied = set()
    for name, words in instructions():
        if name == "COPY":
            *sources, _ = words.split()
            copied |= set(sources)
    assert all((ROOT / source).exists() for source in copied)
    arguments = setup_arguments()
    shared = {file for _, files in arguments["data_files"] for file in files}
    needed = {Path(file).parts[0] for file in shared} | {"dql_core", "dql_ros", "setup.py"}
    assert needed | {"LICENSE", "pyproject.toml", "setup.cfg"} <= copied


def test_the_packages_that_are_installed_exist() -> None:
    known = package_xml("exec_depend", "test_depend")
    for command in commands():
        if command[:2] == ["apt-get", "install"]:
            for name in (word for word in command[2:] if not word.startswith("-")):
                package = name.removeprefix("ros-jazzy-").replace("-", "_")
                brings = BROUGHT_BY.get(package, {package})
                assert name in UBUNTU or brings <= known, name


def test_the_commands_that_are_run_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for program, *words in commands():
        name = program.rpartition("/")[2]
        if name == "make":
            assert set(words) <= set(targets)
        elif name == "dql":
            assert words[0] in VERBS
        else:
            assert name in SHELL | {"pip", "python"}, program


def test_the_extras_of_the_containers_exist() -> None:
    for extra in re.findall(r"\[(\w+)\]", DOCKERFILE.read_text()):
        assert extra in {ALL, *EXTRAS}


def test_the_stages_that_are_built_exist() -> None:
    stages = {words.split()[-1] for name, words in instructions() if name == "FROM"}
    asked = set(re.findall(r"--target (\w+)", DOCKERFILE.read_text()))
    build = json.loads(DEVCONTAINER.read_text())["build"]
    assert asked | {build["target"]} <= stages
    assert (DEVCONTAINER.parent / build["dockerfile"]).resolve() == DOCKERFILE
    assert (DEVCONTAINER.parent / build["context"]).resolve() == ROOT


@pytest.mark.parametrize("tag", ["name", "version", "description", "license"])
def test_package_xml_says_what_setup_says(tag: str) -> None:
    assert package_xml(tag) == {setup_arguments()[tag]}


def test_package_xml_names_its_licence_maintainer_and_home() -> None:
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    licence, maintainer = root.find("license"), root.find("maintainer")
    assert licence is not None
    assert maintainer is not None
    assert (ROOT / licence.attrib["file"]).is_file()
    assert "@" in maintainer.attrib["email"]
    assert root.findtext("url")


def test_package_xml_depends_on_all_of_ros_that_is_imported() -> None:
    ours = {*OURS, "rclpy"}
    ros = re.compile(r"^(?:from|import) (\w+(?:_msgs|_interfaces|_srvs)|rclpy|launch\w*)\b", re.M)
    files = [*modules("dql_core"), *modules("dql_ros"), *(ROOT / "launch").glob("*.py")]
    imported = {name for file in files for name in ros.findall(file.read_text())}
    assert imported - {"dql_ros"} <= package_xml("exec_depend")
    tests = (ROOT / "tests").rglob("*launch_testing.py")
    tested = {
        name
        for file in tests
        for name in re.findall(r"^from (\w+)", file.read_text(), re.M)
        if re.match(r"launch|ament", name)
    }
    assert tested <= package_xml("exec_depend", "test_depend") | ours


def test_keys_of_rosdep_are_those_that_it_has() -> None:
    keys = package_xml("exec_depend", "test_depend")
    assert {key for key in keys if key.startswith("python3")} <= ROSDEP
