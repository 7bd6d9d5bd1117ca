"""The same surroundings for all tests, however they are started, and the longest first.

``--installed-only`` leaves out the test modules that import what is not installed, for an
interpreter that has no torch or no ROS; without it, they fail.
"""

import importlib.util
import os
import signal
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path

import pytest

from dql_core.extras import EXTRAS
from tests.import_graph import ROOT, third_party

# nohup and some runners have it ignored; what the tests start would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# Nor is output broken at the width of the terminal that the tests were started from.
os.environ.pop("COLUMNS", None)

# What takes longest begins first, so that no process works alone in the end; what waits for nodes
# alternates with what computes.
LONGEST = (
    "test_demo",
    "test_first_hour",
    "test_bandit",
    "test_policy_attacks",
    "test_convert_property",
    "test_convert_ray",
    "test_policy_start",
    "test_convert_workers",
    "test_convert_resume",
    "test_cli_closed_loop",
    "test_divergence",
    "test_blocked_log",
    "test_resume",
    "test_sweep_on_ray",
    "test_fuzz_live",
    "test_closed_loop_end",
    "test_learning",
    "test_policy_node",
    "test_convert_fuzz",
    "test_bag_live_topics",
    "test_exact_law",
    "test_cli_main",
    "test_seeds",
    "test_cli_end",
    "test_execution",
    "test_real_bag_conversion",
    "test_policy_faults",
    "test_clock",
    "test_sim_bridge_parity",
    "test_bag_fuzz",
    "test_model_loop",
    "test_closed_loop",
    "test_unwritable",
    "test_sim_bridge_control",
    "test_python_312",
    "test_wheel",
    "test_built_wheel",
    "test_missing_extras",
)


# Packages of messages that the tests use.
MESSAGES = {"geometry_msgs", "nav_msgs", "sensor_msgs", "trajectory_msgs"}
# Library that is not installed -> how many test modules were left out for it.
_left_out: dict[str, int] = {}


@pytest.fixture(autouse=True)
def _working_folder() -> Iterator[None]:
    """A test that leaves the process in another folder fails, and not those behind it."""
    folder = os.getcwd()
    yield
    left_in = os.getcwd()
    os.chdir(folder)
    assert left_in == folder, f"the test left its process in {left_in}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--installed-only",
        action="store_true",
        help="leave out the test modules that import what is not installed",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if not config.getoption("--installed-only") or not _imports(collection_path):
        return None
    lacking = {each for each in _imports(collection_path) if not _is_installed(each)}
    for each in lacking:
        _left_out[each] = _left_out.get(each, 0) + 1
    return True if lacking else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Skip the single test that asks for something else that is not installed."""
    lacking = _lacking(call.excinfo.value if call.excinfo else None)
    if call.excinfo and lacking and item.config.getoption("--installed-only"):
        skipped = pytest.skip.Exception(f"{lacking} is not installed")
        where = call.excinfo.value.__traceback__
        call.excinfo = pytest.ExceptionInfo.from_exception(skipped.with_traceback(where))
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _left_out:
        found = ", ".join(f"{name} ({count})" for name, count in sorted(_left_out.items()))
        terminalreporter.write_line(f"test modules left out for want of: {found}")


def _lacking(error: BaseException | None) -> str:
    """The library for want of which a test failed, of those that a robot or ROS has."""
    while error is not None:
        library = str(error.name).partition(".")[0] if isinstance(error, ImportError) else ""
        if any(library in known for known in (*EXTRAS.values(), MESSAGES)):
            return library if not _is_installed(library) else ""
        error = error.__cause__ or error.__context__
    return ""


def _imports(path: Path) -> set[str]:
    """The libraries that a test module imports, or the ``conftest.py`` of a folder."""
    file = path / "conftest.py" if path.is_dir() else path
    if file.suffix != ".py" or not file.is_file() or not file.is_relative_to(ROOT / "tests"):
        return set()
    # Also what a verb needs: its tests run it.
    return third_party(".".join(file.relative_to(ROOT).with_suffix("").parts), needed=True)


@cache
def _is_installed(library: str) -> bool:
    return importlib.util.find_spec(library) is not None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))
