"""`dql closed-loop` as a user runs it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dql_core.evaluation.rollout import evaluate
from dql_core.runtime.bundle_policy import load_policy
from dql_core.sim import SCARA_ID
from dql_core.sim.scara_demonstrator import ScaraDemonstrator
from dql_ros.contract import load_contract
from tests.cli_process import dql
from tests.ros.nodes.process_marks import processes_with

pytestmark = pytest.mark.ros


def run(
    bundle: Path, contract: Path, *arguments: object, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return dql("closed-loop", bundle, "--contract", contract, *arguments, cwd=cwd)


def figures_in(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "closed_loop.json").read_text())
    return document


def test_a_run_in_lockstep_tells_outcome_timing_and_guards(
    scara: Path, scara_bundle: Path, tmp_path: Path
) -> None:
    arguments = ("--episodes", 3, "--seed", 2)
    done = run(scara_bundle, scara, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (out,) = (tmp_path / "runs" / "closed_loop").iterdir()
    assert f"figures and picture: {out.relative_to(tmp_path)}" in done.stdout
    document = figures_in(out)
    expected = evaluate(load_policy(scara_bundle), SCARA_ID, 3, seed=2).to_json()
    assert {key: document[key] for key in expected} == expected
    assert (document["mode"], document["seed"], document["faults"]) == ("lockstep", 2, {})
    policy = document["nodes"]["policy: control loop"]["values"]
    assert policy["state"] == "inactive"
    assert policy["ticks"] >= sum(expected["lengths"]) + 2
    assert policy["guard published"] == policy["ticks"]
    assert policy["inference p50 (ms)"] > 0
    assert document["guards"]["non_finite_action"] == 0
    assert "mean return" in done.stdout
    assert "inference p99 (ms)" in done.stdout
    assert (out / "closed_loop.png").stat().st_size > 5_000
    again = run(scara_bundle, scara, "--out", out)
    assert again.returncode == 2
    assert again.stderr.splitlines() == [
        f"dql: {out}: already exists; name another --out folder or remove it"
    ]
    assert figures_in(out) == document


def test_a_run_in_real_time_keeps_the_contracts_rate(
    scara: Path, scara_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ("--episodes", 1, "--real-time", "--out", out)
    done = run(scara_bundle, scara, *arguments)
    assert done.returncode == 0, done.stderr
    document = figures_in(out)
    assert document["mode"] == "real_time"
    values = document["nodes"]["policy: control loop"]["values"]
    assert values["rate (Hz)"] == pytest.approx(10, rel=0.2)
    assert values["guard published"] > 0


def test_ctrl_c_ends_every_process_and_says_how_far_it_came(
    scara: Path, scara_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DQL_TEST_MARK", str(tmp_path))
    out = tmp_path / "run"
    command = [sys.executable, "-m", "dql_ros.cli.main", "closed-loop", str(scara_bundle)]
    options = ["--contract", str(scara), "--episodes", "100000", "--out", str(out)]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    mark = f"DQL_TEST_MARK={tmp_path}"
    try:
        # The command line itself, the simulation and the policy.
        while len(processes_with(mark) - {os.getpid()}) < 3:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "of 100000 episodes; every process is ended" in " ".join(told.split())
    assert not processes_with(mark) - {os.getpid()}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--faults", "dorp=1"), "--faults: no fault 'dorp' (did you mean 'drop'?)"),
        (
            ("--faults", "drop=2"),
            "--faults: drop is 2 (share of the messages that are lost): give 0 to 0.95",
        ),
    ],
)
def test_a_mistake_is_told_before_anything_starts(
    arguments: tuple[str, ...], told: str, scara: Path, scara_bundle: Path
) -> None:
    done = run(scara_bundle, scara, *arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"dql: {told}"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "nobody drives: name a policy bundle, or give --operator drives"),
        (
            ("BUNDLE", "--operator", "drives"),
            "BUNDLE: with --operator drives no policy does: leave the bundle out, or give "
            "--operator watches",
        ),
        (
            ("--operator", "drives", "--candidates", "4"),
            "--candidates is for a policy, and the operator drives: leave it out",
        ),
        (
            ("BUNDLE", "--operator", "watches"),
            "the contract of 'scara' has no 'takeover', by which an operator who watches takes "
            "over: give it a takeover with a switch",
        ),
    ],
)
def test_one_drives_and_one_may_watch(
    arguments: tuple[str, ...], told: str, scara: Path, tmp_path: Path
) -> None:
    done = dql("closed-loop", *arguments, "--contract", scara, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"dql: {told}"]
    assert not list(tmp_path.iterdir())


def test_the_operator_drives_no_other_robot(pendulum: Path, tmp_path: Path) -> None:
    options = ("--operator", "drives", "--env", "Pendulum-v1", "--out", tmp_path / "out")
    done = dql("closed-loop", "--contract", pendulum, *options)
    assert done.returncode == 2
    told = "'pendulum' is no robot for the scripted operator, who knows the simulated arm and"
    assert told in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_the_operator_drives_in_a_policys_place(scara: Path, tmp_path: Path) -> None:
    options = ("--operator", "drives", "--episodes", 2, "--seed", 1, "--out", tmp_path / "out")
    done = dql("closed-loop", "--contract", scara, *options)
    assert done.returncode == 0, done.stderr
    assert "the scripted operator over topics" in done.stdout
    operator = ScaraDemonstrator(load_contract(scara).policy_spec())
    expected = evaluate(operator, SCARA_ID, 2, seed=1).to_json()
    document = figures_in(tmp_path / "out")
    assert {key: document[key] for key in expected} == expected
    assert (document["policy"], document["operator"]) == (None, "drives")


def test_faults_reach_the_robot_and_are_told(
    scara: Path, scara_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ("--episodes", 2, "--faults", "drop=0.3,noise=0.01,fault_seed=1", "--out", out)
    done = run(scara_bundle, scara, *arguments)
    assert done.returncode == 0, done.stderr
    document = figures_in(out)
    assert document["faults"]["command_drop"] == document["faults"]["state_drop"] == 0.3
    values = document["nodes"]["sim_bridge: simulation"]["values"]
    assert values["states lost on purpose"] + values["commands lost on purpose"] > 0
    assert "states lost on purpose" in done.stdout


def test_a_film_is_made_or_it_is_told_why_not(
    scara: Path, scara_bundle: Path, tmp_path: Path
) -> None:
    out, film = tmp_path / "run", tmp_path / "film.mp4"
    arguments = ("--episodes", 1, "--out", out, "--video", film)
    done = run(scara_bundle, scara, *arguments)
    assert done.returncode == 0, done.stderr
    told = figures_in(out)["nodes"]["sim_bridge: simulation"]["values"]["video"]
    if not re.fullmatch(r"\d+ pictures", told):
        assert not film.exists()
        pytest.skip(f"no pictures can be rendered here: {told}")
    # A slow machine renders on when the bridge has ended.
    deadline_s = time.monotonic() + 30.0
    while not film.exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    assert film.read_bytes()[4:8] == b"ftyp"
