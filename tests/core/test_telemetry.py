"""ONNX Runtime's telemetry leaves a device id and a data base in the home folder, at its import.

Each test looks at processes of its own, with an empty home and an empty folder for temporary
files: what is in them afterwards was written by the process.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
VARIABLE = "ORT_DISABLE_TELEMETRY"
ASK = """
import sys
import numpy as np
from dql_core.runtime.bundle_policy import load_policy
policy = load_policy(sys.argv[1])
policy.act(np.zeros(3, np.float32), np.random.default_rng(0))
"""


def importers_of(library: str) -> list[str]:
    """Return the modules of both packages that import ``library``."""
    found = []
    for package in ("dql_core", "dql_ros"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if library not in (text := path.read_text()):
                continue
            nodes = list(ast.walk(ast.parse(text)))
            names = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
            names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
            if library in names:
                found.append(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return found


class Place:
    """A home and a folder for temporary files."""

    def __init__(self, folder: Path) -> None:
        self._folders = {name: folder / name for name in ("HOME", "TMPDIR")}
        for path in self._folders.values():
            path.mkdir()

    def run(self, code: str, *arguments: str, **variables: str) -> str:
        """Run ``code`` in a new process and return what it wrote to stderr."""
        dropped = {VARIABLE, "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"}
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        own = {name: str(path) for name, path in self._folders.items()}
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=kept | own | {"PYTHONPATH": str(ROOT)} | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stderr

    @property
    def written(self) -> list[str]:
        """Names of the files that are in the folders now."""
        found = (path for each in self._folders.values() for path in each.rglob("*"))
        return [path.name for path in found if path.is_file()]


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(name="reports", scope="module")
def _reports(tmp_path_factory: pytest.TempPathFactory) -> bool:
    """Whether this ONNX Runtime has telemetry at all: without it, nothing here can fail."""
    place = Place(tmp_path_factory.mktemp("control"))
    place.run("import onnxruntime")
    return "onnxruntime.db" in place.written


# What a user may have exported: nothing, or what ONNX Runtime does not take for "yes".
@pytest.mark.parametrize("variables", [{}, {VARIABLE: ""}, {VARIABLE: "0"}, {VARIABLE: "off"}])
def test_a_policy_loaded_and_asked_leaves_no_trace(
    place: Place, tiny_bundle: Path, reports: bool, variables: dict[str, str]
) -> None:
    place.run(ASK, str(tiny_bundle), **variables)
    assert place.written == []
    if not reports:
        pytest.skip("this ONNX Runtime reports nothing")


@pytest.mark.parametrize("module", importers_of("onnxruntime"))
def test_whatever_imports_onnx_runtime_switches_it_off_before(
    place: Place, reports: bool, module: str
) -> None:
    place.run(f"import {module}, sys; assert 'onnxruntime' in sys.modules")
    assert place.written == []
    if not reports:
        pytest.skip("this ONNX Runtime reports nothing")


@pytest.mark.parametrize("package", ["dql_core", "dql_ros"])
def test_what_is_imported_after_either_package_is_silent(
    place: Place, reports: bool, package: str
) -> None:
    place.run(
        f"import {package}, onnxruntime, subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import onnxruntime'], check=True)"
    )
    assert place.written == []
    if not reports:
        pytest.skip("this ONNX Runtime reports nothing")


def test_who_imports_it_too_early_is_told_what_to_do(place: Place) -> None:
    said = place.run("import onnxruntime, dql_core")
    assert "RuntimeWarning: onnxruntime was imported before dql_core" in said
    assert f"import dql_core first, or export {VARIABLE}=1" in said


@pytest.mark.parametrize(
    ("code", "variables"),
    [("import dql_core, onnxruntime", {}), ("import onnxruntime, dql_core", {VARIABLE: "1"})],
)
def test_the_remedies_that_it_names_work(
    place: Place, code: str, variables: dict[str, str]
) -> None:
    assert place.run(code, **variables) == ""
    assert place.written == []


def test_ray_is_told_to_gather_no_statistics(place: Place) -> None:
    pytest.importorskip("ray")
    code = (
        "import dql_core\n"
        "from ray._common.usage.usage_lib import usage_stats_enabled\n"
        "assert not usage_stats_enabled()"
    )
    assert place.run(code, RAY_USAGE_STATS_ENABLED="1") == ""
