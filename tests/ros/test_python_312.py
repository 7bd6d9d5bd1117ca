"""Without torch, on the Python of ROS 2 Jazzy's own system, where one is found beside this one."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.linked_environment import ROOT, required

# Of what needs neither torch nor ROS: a policy at work, contracts, messages, bags.
CHOSEN = (
    "tests/core/runtime",
    "tests/core/test_strict_yaml.py",
    "tests/ros/bag/test_bag_storage_ros1.py",
    "tests/ros/contract",
    "tests/ros/control",
)
LEAST_PASSED = 400
INSTALL_TIMEOUT_S = 240.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="all tests run on 3.12 here"),
]


def found_python() -> Path | None:
    """A Python 3.12 that can make environments: on the path, or one of pyenv's."""
    named = shutil.which("python3.12")
    places = [
        *([Path(named)] if named else []),
        *Path.home().glob(".pyenv/versions/3.12.*/bin/python"),
    ]
    code = "import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 12))"
    for place in places:
        if not subprocess.run([place, "-c", code], capture_output=True, check=False).returncode:
            return place
    return None


@pytest.fixture(scope="module", name="python")
def _python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with what a robot needs, and pytest."""
    base = found_python()
    if base is None:
        pytest.skip("there is no Python 3.12 with venv on this machine")
    folder = tmp_path_factory.mktemp("python312")
    subprocess.run([base, "-m", "venv", folder], check=True)
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--no-compile"]
    wanted = ["-c", str(ROOT / "constraints.txt"), *required("test")]
    try:
        done = subprocess.run(
            [*pip, *wanted], capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"the packages did not come in {INSTALL_TIMEOUT_S:.0f} s")
    if done.returncode:
        pytest.skip(f"the packages are not at hand: {done.stderr.strip().splitlines()[-1]}")
    return folder / "bin/python"


def test_what_needs_no_torch_works_on_it(python: Path) -> None:
    options = ["--installed-only", "-q", "-p", "no:cacheprovider", "-m", "not slow and not ros"]
    done = subprocess.run(
        [python, "-m", "pytest", *options, *CHOSEN],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= LEAST_PASSED, done.stdout.splitlines()[-1]
