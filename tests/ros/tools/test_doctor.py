"""What the doctor says of machines that are well and of machines that are not."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from dql_ros.cli.doctor import line_of, summary_of
from dql_ros.tools.doctor import checks
from dql_ros.tools.doctor.checks import (
    LIBRARIES,
    check_governor,
    check_load,
    check_python,
    check_timing,
    check_variables,
    lateness_ns,
    parts_of,
)
from dql_ros.tools.doctor.finding import (
    Finding,
    ProcessError,
    Verdict,
    failure,
    fine,
    run_python,
    warning,
)
from dql_ros.tools.doctor.ros import check_ros, judge_installation
from tests.linked_environment import ROOT, LinkedEnvironment, required, setup_arguments

JAZZY = {
    "rclpy": "7.1.6",
    "place": "/opt/ros/jazzy",
    "distro": "jazzy",
    "rmw": "rmw_fastrtps_cpp",
    "events_executor": True,
    "launch": True,
    "needed": 11,
    "missing": [],
}


def verdicts(environment: dict[str, str]) -> dict[str, Verdict]:
    return {finding.check: finding.verdict for finding in check_variables(environment)}


def test_a_process_answers_with_json_on_its_last_line() -> None:
    assert run_python(["-c", "print('noise'); print('[1, 2]')"]) == [1, 2]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise SystemExit('no such thing')", "no such thing"),
        ("import os; os._exit(3)", "ended with code 3"),
        ("pass", "printed no result"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended with code -11"),
    ],
)
def test_a_process_that_fails_is_told_in_one_line(code: str, told: str) -> None:
    with pytest.raises(ProcessError, match=f"^{told}$"):
        run_python(["-c", code])


def test_a_process_that_hangs_is_given_up() -> None:
    with pytest.raises(ProcessError, match=r"^no answer within 0 s$"):
        run_python(["-c", "import threading; threading.Event().wait()"], timeout_s=0.1)


@pytest.mark.parametrize(
    ("version", "verdict"),
    [((3, 9, 2), "failure"), ((3, 10, 0), "fine"), ((3, 12, 8), "fine"), ((3, 13, 0), "failure")],
)
def test_python_must_be_one_that_ros_is_built_for(version: tuple[int, ...], verdict: str) -> None:
    finding = check_python(version)
    assert finding.verdict.value == verdict
    assert bool(finding.remedy) == (verdict == "failure")


def test_the_versions_asked_for_are_those_of_the_package() -> None:
    arguments = setup_arguments()
    for library in LIBRARIES:
        extras = arguments["extras_require"]
        wanted = extras[library.extra] if library.extra else arguments["install_requires"]
        (found,) = (each for each in map(Requirement, wanted) if each.name == library.name)
        assert str(found.specifier) == (f">={library.minimum}" if library.minimum else "")


def test_versions_compare_as_numbers() -> None:
    assert parts_of("2.13.0+cpu") > parts_of("2.5")
    assert parts_of("0.9") < parts_of("0.11")
    assert parts_of("") == ()


def test_an_unset_environment_is_fine() -> None:
    assert set(verdicts({}).values()) == {Verdict.FINE}


@pytest.mark.parametrize(
    ("variable", "value", "check", "verdict"),
    [
        ("ROS_DOMAIN_ID", "7", "ROS_DOMAIN_ID", Verdict.FINE),
        ("ROS_DOMAIN_ID", "150", "ROS_DOMAIN_ID", Verdict.WARNING),
        ("ROS_DOMAIN_ID", "300", "ROS_DOMAIN_ID", Verdict.FAILURE),
        ("ROS_DOMAIN_ID", "arm", "ROS_DOMAIN_ID", Verdict.FAILURE),
        ("ROS_LOCALHOST_ONLY", "1", "discovery range", Verdict.WARNING),
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST", "discovery range", Verdict.FINE),
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF", "discovery range", Verdict.WARNING),
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "localhost", "discovery range", Verdict.FAILURE),
        ("ROS_DISCOVERY_SERVER", "10.0.0.1:11811", "ROS_DISCOVERY_SERVER", Verdict.WARNING),
        (
            "FASTRTPS_DEFAULT_PROFILES_FILE",
            "/none.xml",
            "FASTRTPS_DEFAULT_PROFILES_FILE",
            Verdict.FAILURE,
        ),
        (
            "FASTRTPS_DEFAULT_PROFILES_FILE",
            __file__,
            "FASTRTPS_DEFAULT_PROFILES_FILE",
            Verdict.FINE,
        ),
        ("ROS_SECURITY_ENABLE", "", "security", Verdict.FINE),
        ("ROS_SECURITY_ENABLE", "True", "security", Verdict.FAILURE),
        ("ROS_SECURITY_ENABLE", "true", "security", Verdict.FAILURE),  # without a keystore
        ("ROS_SECURITY_STRATEGY", "Enforce", "security", Verdict.WARNING),
    ],
)
def test_variables_that_mislead_are_told(
    variable: str, value: str, check: str, verdict: Verdict
) -> None:
    assert verdicts({variable: value})[check] is verdict


def test_governors_are_counted(tmp_path: Path) -> None:
    assert check_governor(tmp_path).verdict is Verdict.FINE
    for core, name in enumerate(("performance", "powersave", "powersave")):
        folder = tmp_path / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        folder.joinpath("scaling_governor").write_text(f"{name}\n")
    finding = check_governor(tmp_path)
    assert finding.verdict is Verdict.WARNING
    assert finding.found == "performance on 1 cores, powersave on 2 cores"


@pytest.mark.parametrize(
    ("load", "cores", "verdict"),
    [(0.2, 4, Verdict.FINE), (3.5, 4, Verdict.WARNING), (0.0, 1, Verdict.WARNING)],
)
def test_a_busy_or_small_machine_is_told(load: float, cores: int, verdict: Verdict) -> None:
    finding = check_load(load, cores)
    assert finding.verdict is verdict
    assert finding.found.endswith(": ticks will be late") == (verdict is not Verdict.FINE)


def test_lateness_is_that_of_each_wait_and_a_long_pause_counts_once() -> None:
    now = [0]
    delays = iter([100, 30_000, 200, 300])

    def wait(seconds: float) -> None:
        now[0] += round(seconds * 1e9) + next(delays)

    late = lateness_ns(4, 1000, lambda: now[0], wait)
    assert late == [100, 30_000, 200, 300]


def test_timing_is_measured_here() -> None:
    finding = check_timing(ticks=20)
    assert re.match(r"a timer wakes up \d+\.\d\d ms late \(p50\)", finding.found)
    assert finding.verdict is not Verdict.FAILURE


@pytest.mark.parametrize(
    ("answer", "present", "verdict", "remedy"),
    [
        ({"name": "H100", "cuda": "12.8"}, True, Verdict.FINE, ""),
        ({"name": "", "cuda": ""}, False, Verdict.FINE, ""),
        ({"name": "", "cuda": ""}, True, Verdict.WARNING, "CUDA index"),
        ({"name": "", "cuda": "12.8"}, True, Verdict.WARNING, "nvidia-smi"),
        (ProcessError("no torch"), True, Verdict.WARNING, "pip install 'dql_ros[train]'"),
        (ProcessError("no torch"), False, Verdict.FINE, ""),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_told(
    answer: Any,
    present: bool,
    verdict: Verdict,
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ask(_: object) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(checks, "run_python", ask)
    device = tmp_path / "nvidia0"
    if present:
        device.touch()
    finding = checks.check_gpu(device)
    assert finding.verdict is verdict
    assert remedy in finding.remedy


def test_an_installation_that_is_whole_is_fine() -> None:
    findings = list(judge_installation(JAZZY))
    assert [finding.check for finding in findings] == ["ros", "rmw", "messages", "ros2 launch"]
    assert {finding.verdict for finding in findings} == {Verdict.FINE}


def test_an_installation_that_is_not_is_told_with_its_remedy() -> None:
    for untested in ("rolling", "humble", "lyrical", ""):
        found, *_ = judge_installation({**JAZZY, "distro": untested})
        assert (found.verdict, found.check) == (Verdict.WARNING, "ros")
        assert re.search(r"none was run|was run with it", found.found)
    old, *_ = judge_installation({**JAZZY, "events_executor": False})
    assert "EventsExecutor" in old.found
    _, cyclone, *_ = judge_installation({**JAZZY, "rmw": "rmw_cyclonedds_cpp"})
    assert cyclone.verdict is Verdict.WARNING
    _, _, lacking, _ = judge_installation({**JAZZY, "missing": ["nav_msgs"]})
    assert (lacking.verdict, lacking.found) == (Verdict.FAILURE, "missing: nav_msgs")


def test_an_rmw_that_is_not_installed_is_told_by_name() -> None:
    (finding,) = check_ros({**os.environ, "RMW_IMPLEMENTATION": "rmw_of_no_one"})
    assert finding.verdict is Verdict.FAILURE
    assert finding.remedy == "install rmw_of_no_one or unset RMW_IMPLEMENTATION"


def test_a_missing_default_rmw_is_told_with_its_package(tmp_path: Path) -> None:
    package = tmp_path / "rclpy"
    package.mkdir()
    package.joinpath("__init__.py").write_text(
        "raise ImportError('librmw_fastrtps_cpp.so: cannot open shared object file')"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    environment.pop("RMW_IMPLEMENTATION", None)
    (finding,) = check_ros(environment)
    assert finding.verdict is Verdict.FAILURE
    assert finding.remedy.startswith("sudo apt install ros-jazzy-rmw-fastrtps-cpp, or ")


def test_a_distribution_with_which_less_was_run_is_told_so() -> None:
    kilted, *_ = judge_installation({**JAZZY, "distro": "kilted"})
    assert kilted.verdict is Verdict.FINE
    assert kilted.found.endswith("launch files and SROS 2 were not")


def test_a_machine_without_ros_is_told_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = LinkedEnvironment(tmp_path, required())
    monkeypatch.setattr("sys.executable", str(machine.python))
    (finding,) = check_ros(machine.environment({"PYTHONPATH": str(ROOT)}))
    assert (finding.verdict, finding.found) == (Verdict.FAILURE, "rclpy is not installed")
    assert "source /opt/ros/jazzy/setup.bash" in finding.remedy


def test_what_only_other_machines_need_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    findings = list(checks.check_libraries())
    assert {finding.verdict for finding in findings} == {Verdict.FINE}
    lacking = [finding.found for finding in findings if "not installed" in finding.found]
    assert len(lacking) == sum(bool(library.extra) for library in LIBRARIES)
    assert lacking[0].endswith(": pip install 'dql_ros[train]'")


def test_lines_name_check_finding_and_remedy() -> None:
    line = line_of(warning("cpu governor", "powersave", "mend it")).plain
    assert line == "warn  cpu governor      powersave -> mend it"
    assert line_of(fine("rmw", "there")).plain.endswith("there")


@pytest.mark.parametrize(
    ("findings", "told"),
    [
        ([fine("a", "")], "everything works"),
        ([fine("a", ""), warning("b", "", "")], "everything works; 1 of 2 checks warn"),
        ([failure("a", "", ""), warning("b", "", "")], "1 of 2 checks failed"),
    ],
)
def test_the_summary_counts(findings: list[Finding], told: str) -> None:
    assert summary_of(findings).plain == told


def test_findings_come_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def check(name: str) -> Any:
        def findings() -> Any:
            asked.append(name)
            yield fine(name, "")

        return findings

    monkeypatch.setattr(checks, "CHECKS", (check("one"), check("two")))
    findings = checks.run_checks()
    assert next(findings).check == "one"
    assert asked == ["one"]
