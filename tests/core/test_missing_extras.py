"""What a robot's installation does without the libraries that it has no need of."""

import json
from pathlib import Path
from typing import Any

import pytest

from dql_core.extras import MissingExtraError
from dql_ros.cli.main import VERBS
from tests.linked_environment import ROOT, LinkedEnvironment, required

pytestmark = pytest.mark.slow
# Reads command lines, and says for each how it ended and what it printed.
RUN = """
import contextlib, io, json, sys
from dql_ros.cli.main import main
said = {}
for line in sys.stdin.read().splitlines():
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["dql", *line.split()]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            said[line] = ended.code or 0, out.getvalue(), err.getvalue()
print(json.dumps(said))
"""
# Reads names of modules, and says of what kind the error of importing each is, and what it says.
IMPORT = """
import importlib, json, sys
said = {}
for name in sys.stdin.read().split():
    try:
        importlib.import_module(name)
    except ImportError as error:
        said[name] = type(error).__name__, str(error)
print(json.dumps(said))
"""
GROUPS = {
    "contract": ("check", "init"),
    "dataset": ("drop", "export", "keep", "merge", "score", "split", "trim"),
}
# Command line -> the extra that it lacks.
LACKING = {
    "contract check scara.yaml": "convert",
    "contract init BAG": "convert",
    "convert scara.yaml BAG --out OUT": "convert",
    "import FILE --format npz --out OUT": "convert",
    "dataset merge A B --out OUT": "convert",
    "dataset keep A --out OUT": "convert",
    "dataset trim A --out OUT": "convert",
    "dataset export A --format lerobot --out OUT": "convert",
    "dataset score A --out OUT": "train",
    "relabel A --out OUT": "convert",
    "replay BUNDLE BAG --contract scara.yaml --out OUT": "convert",
    "train --dataset A": "train",
    "sweep SPACE --dataset A": "sweep",
    "evaluate RUN --env Pendulum-v1": "train",
    "judge RUN --out OUT": "train",
    "export RUN --out OUT": "train",
    "closed-loop BUNDLE --contract scara.yaml": "sim",
    "demo": "all",
    "label": "ros",
}
# Module of what a program would import -> extras of which one is asked for.
ENTRIES = {
    "dql_core.data.dataset": ("convert", "train"),
    "dql_core.training.loop": ("train",),
    "dql_core.training.checkpoint": ("train",),
    "dql_core.algo.registry": ("train",),
    "dql_core.export.bundle": ("train",),
    "dql_core.models.actors": ("train",),
    "dql_core.evaluation.rollout": ("convert", "train", "sim"),
    "dql_core.sim": ("convert", "train", "sim"),
    "dql_ros.convert.convert": ("convert", "train"),
    "dql_ros.nodes.policy_node": ("ros",),
}


@pytest.fixture(scope="module", name="robot")
def _robot(tmp_path_factory: pytest.TempPathFactory) -> LinkedEnvironment:
    return LinkedEnvironment(tmp_path_factory.mktemp("robot"), required())


def ran(robot: LinkedEnvironment, code: str, lines: list[str]) -> dict[str, Any]:
    done = robot.run("-c", code, text="\n".join(lines), PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert set(said) == set(lines)
    return said


def test_the_environment_lacks_what_it_is_meant_to_lack(robot: LinkedEnvironment) -> None:
    code = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    libraries = ("torch", "minari", "mujoco", "tensorboard", "matplotlib", "rclpy", "dql_core")
    assert robot.run("-c", code, *libraries).stdout.strip() == "[]"


def test_every_verb_has_its_help(robot: LinkedEnvironment) -> None:
    commands = [verb for verb in VERBS if verb not in GROUPS]
    commands += [f"{group} {command}" for group in GROUPS for command in GROUPS[group]]
    lines = ["--help", *(f"{command} --help" for command in (*commands, *GROUPS))]
    for line, (code, out, err) in ran(robot, RUN, lines).items():
        assert code == 0, (line, err)
        assert f"Usage: dql {line.removesuffix('--help').strip()}".rstrip() in out
        assert err == "", line


def test_a_verb_names_the_extra_that_it_needs_on_one_line(robot: LinkedEnvironment) -> None:
    for line, (code, out, err) in ran(robot, RUN, list(LACKING)).items():
        first = "source a ROS 2 installation, or " if LACKING[line] == "ros" else ""
        assert code == 2, (line, err)
        assert out == "", line
        assert err.count("\n") == 1, err
        remedy = f" is not installed: {first}pip install 'dql_ros[{LACKING[line]}]'\n"
        assert err.startswith("dql: "), line
        assert err.endswith(remedy), err


def test_a_module_names_the_extras_that_bring_what_it_imports(robot: LinkedEnvironment) -> None:
    for module, (kind, text) in ran(robot, IMPORT, list(ENTRIES)).items():
        assert kind == MissingExtraError.__name__, module
        remedy = " or ".join(f"'dql_ros[{extra}]'" for extra in ENTRIES[module])
        assert text.endswith(f"pip install {remedy}"), (module, text)


def test_a_node_names_the_extra_that_it_needs(robot: LinkedEnvironment) -> None:
    code = "from dql_ros.nodes.start import policy_node; policy_node()"
    done = robot.run("-c", code, PYTHONPATH=str(ROOT))
    assert done.returncode == 2
    assert done.stderr.startswith("policy_node: ")
    assert done.stderr.endswith("ROS 2 installation, or pip install 'dql_ros[ros]'\n")
    assert done.stderr.count("\n") == 1


def test_a_module_that_is_run_names_them_too(robot: LinkedEnvironment) -> None:
    done = robot.run("-m", "dql_ros.nodes.recorder_node", PYTHONPATH=str(ROOT))
    last = done.stderr.splitlines()[-1]
    assert last.endswith("installation, or pip install 'dql_ros[ros]'"), done.stderr


def test_a_library_of_others_may_do_without_what_is_missing(
    robot: LinkedEnvironment, tmp_path: Path
) -> None:
    (tmp_path / "others.py").write_text(
        "import importlib.util\n"
        "found = importlib.util.find_spec('torch')\n"
        "try:\n    import torch\nexcept ModuleNotFoundError as error:\n    found = error.name\n"
    )
    code = "import dql_core, others; print(others.found)"
    done = robot.run("-c", code, PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert done.stdout == "torch\n", done.stderr


def test_what_a_robot_does_works(robot: LinkedEnvironment, tiny_bundle: Path) -> None:
    lines = [
        f"inspect {tiny_bundle}",
        f"bench {tiny_bundle} --rounds 1",
        f"inspect {ROOT}/config/contracts/scara.yaml",
        f"layout {ROOT}/config/contracts/scara.yaml {robot.folder}/layout.json",
        f"sros2 {ROOT}/config/contracts/scara.yaml {robot.folder}/policy.xml",
    ]
    for line, (code, _, err) in ran(robot, RUN, lines).items():
        assert code == 0, (line, err)


def test_a_robot_without_torch_says_so_where_torch_is_asked_for(
    robot: LinkedEnvironment, tiny_bundle: Path
) -> None:
    line = f"bench {tiny_bundle} --backend torch"
    code, _, err = ran(robot, RUN, [line])[line]
    assert code == 2
    assert "use onnx, or pip install 'dql_ros[train]'" in err
