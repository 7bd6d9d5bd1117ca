import subprocess
import sys
from pathlib import Path

import pytest

from dql_ros.cli.main import VERBS
from tests.cli_process import dql

pytestmark = pytest.mark.slow


def output_of(code: str) -> str:
    """Run code in an interpreter of its own, which must succeed; return what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_help_lists_every_verb_without_importing_torch() -> None:
    code = (
        "import sys; from dql_ros.cli.main import main; sys.argv[1:] = ['--help']\n"
        "try: main()\n"
        "except SystemExit: assert 'torch' not in sys.modules; raise"
    )
    shown = output_of(code)
    assert all(verb in shown for verb in VERBS)


def test_each_verb_can_be_imported_before_the_others() -> None:
    """In a process that has imported nothing of ours, but torch, which takes a second."""
    code = (
        "import os, importlib, torch\n"
        "from dql_ros.cli.main import VERBS\n"
        "for verb, (module, _) in VERBS.items():\n"
        "    if not (child := os.fork()):\n"
        "        importlib.import_module(module)\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0, verb"
    )
    output_of(code)


@pytest.mark.parametrize("verb", list(VERBS))
def test_help_of_each_verb_explains_every_option(verb: str) -> None:
    result = dql(verb, "--help")
    assert result.returncode == 0, result.stderr
    assert f"dql {verb}" in result.stdout


def test_users_mistake_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    result = dql(
        "convert", str(tmp_path / "none.yaml"), str(tmp_path), "--out", str(tmp_path / "o")
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [f"dql: {tmp_path}/none.yaml: no such file"]
    assert not (tmp_path / "o").exists()


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = dql(
        "--debug",
        "convert",
        str(tmp_path / "none.yaml"),
        str(tmp_path),
        "--out",
        str(tmp_path / "o"),
    )
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "ContractError" in result.stderr
