"""What a policy node asks for before it acts, and what it tells of itself."""

import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from lifecycle_msgs.msg import State, Transition
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from std_msgs.msg import Float64MultiArray

from dql_core.runtime.manifest import read_manifest
from dql_ros.contract import load_contract
from dql_ros.processes import environment_of
from tests.ros.nodes import scripted_policy_node as scripted
from tests.ros.nodes.arm import NODE, Arm, Told, state_of
from tests.ros.nodes.robot import SAFE, Robot

pytestmark = pytest.mark.ros
SCRIPTED = "tests.ros.nodes.scripted_policy_node"


@pytest.fixture(name="safe")
def _safe(scara: Path, scara_bundle: Path) -> dict[str, Any]:
    return {"contract": str(scara), "policy": str(scara_bundle)}


def test_activation_waits_for_every_stream_and_fails_with_the_reason(
    robot: Robot, scara: Path
) -> None:
    process = robot.run(SCRIPTED, NODE, contract=str(scara), activation_timeout_s=1.0)
    probe, arm = robot.probe, Arm(robot)
    assert probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    failing = probe.begin_transition(NODE, Transition.TRANSITION_ACTIVATE)
    arm.live(failing.done, "an answer")
    assert not failing.result().success
    words = "could not activate: gave up after 1 s: no fresh observation: 'target' never came"
    probe.until(lambda: words in process.last_words, "the reason")
    assert state_of(robot) == State.PRIMARY_STATE_INACTIVE
    assert arm.commands == []
    arm.aim(arm.now_ns)
    activating = probe.begin_transition(NODE, Transition.TRANSITION_ACTIVATE)
    arm.live(activating.done, "the activation")
    assert activating.result().success
    arm.live(lambda: arm.commands, "a command")
    # It was fresh from the first tick on: nothing had to be made up.
    assert list(arm.commands[0].data) == [scripted.ACTION] * 2


def test_a_process_told_to_end_while_it_waits_ends(robot: Robot, scara: Path) -> None:
    process = robot.run(
        SCRIPTED, NODE, contract=str(scara), autostart=True, activation_timeout_s=3600.0
    )
    arm = Arm(robot)
    arm.aim(arm.now_ns)
    process.send_signal(2)
    while not process.wait(0.0):
        robot.probe.spin()
    assert process.exit_code == 2
    assert "ended while waiting: no fresh observation" in process.last_words
    assert arm.commands == []


# Python drops the exception of a Ctrl-C, and goes on, where a library's own import calls it.
_INTERRUPTED = """
import contextlib, os, signal, sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == "rclpy":
            with contextlib.suppress(BaseException):
                signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupted())
from dql_ros.nodes.start import policy_node
policy_node()
"""


def test_a_process_told_to_end_while_it_imports_does_not_start(
    robot: Robot, safe: dict[str, Any]
) -> None:
    parameters = [word for name, value in safe.items() for word in ("-p", f"{name}:={value}")]
    ended = subprocess.run(  # with autostart it would drive
        [sys.executable, "-c", _INTERRUPTED, "--ros-args", *parameters, "-p", "autostart:=true"],
        env=environment_of(robot.domain),
        timeout=30,
        check=False,
    )
    assert ended.returncode == 0


def test_without_autostart_a_node_says_what_it_waits_for(robot: Robot, scara: Path) -> None:
    program = [sys.executable, "-m", "dql_ros.nodes.policy_node", "--ros-args"]
    with subprocess.Popen(
        [*program, "-p", f"contract:={scara}"],
        env=environment_of(robot.domain),
        stderr=subprocess.PIPE,
        text=True,
    ) as node:
        given_up = threading.Timer(30.0, node.kill)
        given_up.start()
        assert node.stderr is not None
        told = next((line for line in node.stderr if "unconfigured" in line), "")
        given_up.cancel()
        node.kill()
    assert "waits for: ros2 lifecycle set /policy configure, then activate; or start it" in told


@pytest.mark.parametrize("name", ["policy", "demonstrator", "sim_bridge", "recorder"])
def test_help_shows_an_example_and_starts_nothing(name: str) -> None:
    code = f"from dql_ros.nodes.start import {name}_node; {name}_node()"
    shown = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert shown.startswith(f"for example: {name}_node --ros-args -p contract:=")
    assert "\n  -p contract:=…, required\n" in shown
    assert all(len(line) < 80 for line in shown.splitlines()[1:])


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (["shadow:=true"], [], "write --ros-args -p shadow:=true"),
        (["-p", "shadow:=true"], [], "'-p shadow:=true' is no argument of a node"),
        ([], ["--", "shadow:=true"], "write --ros-args -p shadow:=true"),
        (["bogus"], [], "'bogus' is no argument of a node: see --help"),
    ],
)
def test_what_ros_would_ignore_or_remap_is_refused(
    before: list[str], after: list[str], told: str, robot: Robot, scara: Path
) -> None:
    given = ["--ros-args", "-p", f"contract:={scara}", "-p", "autostart:=true"]
    ended = subprocess.run(
        [sys.executable, "-m", "dql_ros.nodes.policy_node", *before, *given, *after],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment_of(robot.domain),
    )
    assert ended.returncode == 2
    assert told in ended.stderr.splitlines()[-1]


def test_a_policy_that_is_too_slow_is_refused(robot: Robot, scara: Path) -> None:
    process = robot.run(SCRIPTED, NODE, contract=str(scara), candidate_s=0.02)
    assert not robot.probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    robot.probe.until(lambda: "lower num_candidates" in process.last_words, "the reason")
    assert "inference with num_candidates 8 takes p50 16" in process.last_words


def test_a_policy_that_is_too_slow_samples_fewer_candidates(robot: Robot, scara: Path) -> None:
    robot.run(
        SCRIPTED,
        NODE,
        contract=str(scara),
        candidate_s=0.02,
        when_too_slow="fewer_candidates",
    )
    assert robot.probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    told = Told(robot)
    robot.probe.until(lambda: int(told.values.get("num_candidates", 8)) in {1, 2, 4}, "fewer")


def test_diagnostics_say_what_runs_and_how_well(robot: Robot, safe: dict[str, Any]) -> None:
    robot.start(NODE, **safe, autostart=True, candidates_hz=5.0, seed=3)
    arm, told = Arm(robot), Told(robot)
    candidates = robot.probe.collect(Float64MultiArray, f"{NODE}/candidates")
    arm.aim(arm.now_ns)
    arm.live(lambda: told.count("guard published") > 20, "commands")
    values = told.values
    manifest = read_manifest(Path(safe["policy"]))
    assert values["bundle SHA-256"] == manifest.sha256
    assert values["back end"] == "onnx on cpu"
    assert (values["num_candidates"], values["seed"], values["mode"]) == ("4", "3", "real_time")
    assert 0 < float(values["inference p50 (ms)"]) <= float(values["inference p99 (ms)"])
    assert float(values["state to command p50 (ms)"]) > 0
    assert float(values["tick jitter p50 (ms)"]) <= float(values["tick jitter max (ms)"])
    assert float(values["rate (Hz)"]) == pytest.approx(10.0, rel=0.2)
    assert values["missed ticks"].isdigit()
    assert values["QoS incompatibilities"] == "0"
    arm.live(lambda: candidates, "candidates")
    rows, columns = (dim.size for dim in candidates[-1].layout.dim)
    assert (rows, columns) == (4, 3)
    assert len(candidates[-1].data) == 12


def test_the_same_seed_and_states_give_the_same_commands(
    robot: Robot, safe: dict[str, Any]
) -> None:
    robot.start(NODE, **safe, mode="lockstep", seed=11, autostart=True)
    arm, probe = Arm(robot), robot.probe
    arm.aim(0)
    runs = []
    for _ in range(2):
        runs.append([arm.answered(index * 100_000_000) for index in range(4)])
        assert probe.change_state(NODE, Transition.TRANSITION_DEACTIVATE)
        probe.until(lambda: arm.last == SAFE, "the safe command")
        assert probe.change_state(NODE, Transition.TRANSITION_ACTIVATE)
    assert runs[0] == runs[1]


def test_an_unusual_observation_stops_the_robot_if_that_is_asked_for(
    robot: Robot, safe: dict[str, Any]
) -> None:
    robot.start(NODE, **safe, mode="lockstep", autostart=True, when_unusual="stop")
    arm, told = Arm(robot), Told(robot)
    arm.aim(0)
    assert arm.answered(0) != SAFE
    assert arm.answered(100_000_000, shoulder=50.0) == SAFE
    robot.probe.until(lambda: told.said("standard deviations from the training data"), "why")
    assert arm.answered(200_000_000) != SAFE


@pytest.mark.parametrize("bound", [True, False])
def test_beyond_the_training_data_the_node_acts_as_at_its_edge(
    robot: Robot, safe: dict[str, Any], bound: bool
) -> None:
    robot.start(NODE, **safe, mode="lockstep", seed=11, autostart=True, bound_observations=bound)
    arm, told, probe = Arm(robot), Told(robot), robot.probe
    arm.aim(0)
    sent = []
    for shoulder in (5.0, 9.0):  # the training data ends before 3
        sent.append(arm.answered(0, shoulder=shoulder))
        assert probe.change_state(NODE, Transition.TRANSITION_DEACTIVATE)
        assert probe.change_state(NODE, Transition.TRANSITION_ACTIVATE)
    assert (sent[0] == sent[1]) is bound
    probe.until(lambda: told.count("guard unseen_observation") == 2, "both to be counted")
    assert told.count("guard unusual_observation") == 0


@pytest.mark.parametrize("damaged", ["policy.onnx", "manifest.json"])
def test_a_bundle_damaged_on_disk_is_refused(
    robot: Robot, safe: dict[str, Any], tmp_path: Path, damaged: str
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(safe["policy"], bundle)
    content = bytearray((bundle / damaged).read_bytes())
    content[len(content) // 2] ^= 0x01
    (bundle / damaged).write_bytes(content)
    process = robot.start(NODE, contract=safe["contract"], policy=str(bundle))
    assert not robot.probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    robot.probe.until(lambda: damaged in process.last_words, "the file to be named")
    assert state_of(robot) == State.PRIMARY_STATE_UNCONFIGURED


def test_a_contract_that_the_bundle_was_not_made_for_is_refused(
    robot: Robot, safe: dict[str, Any], tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(Path(safe["contract"]).read_text().replace("high: 2.0", "high: 2.5"))
    process = robot.start(NODE, contract=str(other), policy=safe["policy"])
    assert not robot.probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    words = "action field 0 ('shoulder_velocity') high is 2.5 in the former and 2.0 in the latter"
    robot.probe.until(lambda: words in process.last_words, "the first difference")
    assert load_contract(other).hash() != load_contract(Path(safe["contract"])).hash()


def test_a_parameter_cannot_be_changed_to_nonsense(robot: Robot, safe: dict[str, Any]) -> None:
    robot.start(NODE, **safe, mode="lockstep", autostart=True)
    arm = Arm(robot)
    arm.aim(0)
    assert arm.answered(0)
    text = ParameterType.PARAMETER_STRING
    request = SetParameters.Request(
        parameters=[
            Parameter(name=name, value=ParameterValue(type=text, string_value=value))
            for name, value in (
                ("mode", "backwards"),
                ("contract", "/nowhere.yaml"),
                ("max_z_score", "NaN"),
                ("no_such_parameter", "1"),
            )
        ]
    )
    results = robot.probe.call(SetParameters, f"{NODE}/set_parameters", request).results
    assert [result.successful for result in results] == [False] * 4
    assert arm.answered(100_000_000)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (
            {"num_candiates": 5},
            "policy has no parameter 'num_candiates' (did you mean 'num_cand",
        ),
        (
            {"inference_limit_s": 0.5},
            "inference_limit_s is 0.5, longer than the control period of 0.1 s",
        ),
        ({"when_unusual": "panic"}, "'when_unusual' of policy is 'panic', which is not allowed"),
        ({"activation_timeout_s": -1.0}, "parameter 'activation_timeout_s' of policy: "),
        ({"candidates_hz": 5}, "parameter 'candidates_hz' of policy: "),
    ],
)
def test_parameters_that_cannot_be_obeyed_are_refused(
    robot: Robot, safe: dict[str, Any], parameters: dict[str, Any], words: str
) -> None:
    process = robot.start(NODE, **safe, autostart=True, **parameters)
    assert process.wait(30)
    assert process.exit_code == 2
    assert words in process.last_words


def test_an_unknown_parameter_meant_for_this_node_is_refused_and_another_nodes_is_not(
    robot: Robot, tmp_path: Path, safe: dict[str, Any]
) -> None:
    shared, own = tmp_path / "shared.yaml", tmp_path / "own.yaml"
    shared.write_text("/**: {ros__parameters: {max_episode_steps: 9}}")
    own.write_text("policy: {ros__parameters: {max_episode_steps: 9}}")
    for arguments, refused in (
        (["--params-file", str(shared)], False),
        (["--params-file", str(own)], True),
        (["-p", "max_episode_steps:=9"], True),
    ):
        command = [sys.executable, "-m", "dql_ros.nodes.policy_node", "--ros-args", *arguments]
        ended = subprocess.run(
            [*command, "-p", "autostart:=true"],
            env=environment_of(robot.domain) | {"ROS_LOG_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 2
        assert ("policy has no parameter 'max_episode_steps'" in ended.stderr) == refused
        assert ("'contract' of policy is not set" in ended.stderr) != refused


SLOW: dict[str, Any] = {"candidate_s": 1.0, "num_candidates": 1000}


def test_a_policy_that_never_answers_is_given_up_in_time(robot: Robot, scara: Path) -> None:
    process = robot.run(
        "tests.ros.nodes.scripted_policy_node",
        NODE,
        contract=str(scara),
        configure_timeout_s=1.0,
        **SLOW,
    )
    assert not robot.probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    words = "the policy was not loaded and timed within 1 s"
    robot.probe.until(lambda: words in process.last_words, "the reason")


@pytest.mark.parametrize("mode", ["real_time", "lockstep"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_policy_that_never_answers_does_not_keep_the_node_from_ending(
    robot: Robot, scara: Path, number: signal.Signals, mode: str
) -> None:
    process = robot.run(
        "tests.ros.nodes.scripted_policy_node", NODE, contract=str(scara), mode=mode, **SLOW
    )
    answer = robot.probe.begin_transition(NODE, Transition.TRANSITION_CONFIGURE)
    robot.probe.until(lambda: scripted.NEVER in process.last_words, "the policy to be asked")
    assert not answer.done()
    process.send_signal(number)
    assert process.wait(10.0)
    assert "ended while the policy was loading" in process.last_words


@pytest.mark.slow
def test_cycles_of_the_lifecycle_leave_no_memory_behind(
    robot: Robot, safe: dict[str, Any]
) -> None:
    process = robot.start(NODE, **safe)
    arm = Arm(robot)
    kilobytes: list[int] = []
    for _ in range(36):
        assert robot.probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
        arm.aim(arm.now_ns)
        for transition in (Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE):
            answer = robot.probe.begin_transition(NODE, transition)
            arm.live(answer.done, "the transition")
            assert answer.result().success
        assert robot.probe.change_state(NODE, Transition.TRANSITION_CLEANUP)
        kilobytes.append(resident_kilobytes(process.pid))
    # The first cycles fill caches; each one left 700 kB behind when nothing was let go of. Over a
    # few cycles, a megabyte that the allocator takes at once would look like a leak.
    assert kilobytes[-1] - kilobytes[11] < 24 * 200, kilobytes


def resident_kilobytes(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1])


def test_a_contract_with_tighter_limits_and_other_live_keys_is_run_within_them(
    robot: Robot, scara: Path, safe: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "tighter.yaml"
    document = yaml.safe_load(scara.read_text())
    document["observation"][0]["max_age_s"] = 1.5
    document["episode"] = {}
    document["reward"] = None
    for field in document["action"][0]["fields"]:
        field.update({"low": -0.5, "high": 0.5, "max_rate": 100.0})
    path.write_text(yaml.safe_dump(document))
    robot.start(NODE, **safe | {"contract": str(path)}, when_too_slow="warn")
    arm = Arm(robot)
    assert robot.probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    arm.aim(arm.now_ns)
    activating = robot.probe.begin_transition(NODE, Transition.TRANSITION_ACTIVATE)
    arm.live(activating.done, "the activation")
    assert activating.result().success
    arm.live(lambda: len(arm.commands) > 10, "commands")
    assert all(abs(value) <= 0.5 for command in arm.commands for value in command.data)


def test_a_contract_with_looser_limits_is_refused_with_key_and_values(
    robot: Robot, scara: Path, safe: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "looser.yaml"
    document = yaml.safe_load(scara.read_text())
    document["action"][0]["fields"][0]["high"] = 9.0
    path.write_text(yaml.safe_dump(document))
    process = robot.start(NODE, **safe | {"contract": str(path)})
    assert not robot.probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    robot.probe.until(lambda: "high is 9.0 in the former and 2.0" in process.last_words, "why")
