"""What is told of a run: from the nodes' reports to figures, JSON and a picture."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.image import imread

from dql_core.cli.terminal import Terminal
from dql_ros.cli.closed_loop import RunProgress, undelayed
from dql_ros.cli.closed_loop_report import ClosedLoop, draw_closed_loop, summarize
from dql_ros.contract import Contract, contract_path, load_contract
from dql_ros.diagnostics import DiagnosticsLog, Report
from dql_ros.sim.result import EpisodeResult

POLICY, BRIDGE = "policy: control loop", "sim_bridge: simulation"


def result(episode: int, return_: float, success: bool | None = True) -> EpisodeResult:
    return EpisodeResult(episode, 7 + episode, return_, 10, True, False, success)


def report(name: str, time_s: float, level: int = 0, message: str = "", **values: str) -> Report:
    return Report(
        name, time_s, level, message, {k.replace("_", " "): v for k, v in values.items()}
    )


@pytest.fixture(name="run")
def _run() -> ClosedLoop:
    log = DiagnosticsLog()
    log.reports.append(report(POLICY, 0.5, 1, "waiting", state="waiting", ticks="0"))
    log.reports.append(report(BRIDGE, 0.2, 2, "waiting", steps="0"))
    log.reports.append(report(BRIDGE, 1.0, 1, "behind", factor="0.9"))
    log.reports.append(
        Report(POLICY, 1.5, 2, "no fresh observation", {"ticks": "10", "state": "stale"})
    )
    log.reports.append(report("policy_2: control loop", 1.6, 2, "someone else"))
    last = {
        "state": "inactive",
        "ticks": "20",
        "missed ticks": "0",
        "clock jumps": "0",
        "inference p50 (ms)": "0.25",
        "guard stale_stream": "3",
        "guard warm_up": "0",
        "guard published": "17",
    }
    log.reports.append(Report(POLICY, 2.5, 0, "inactive", last))
    results = [result(0, -1.0), result(1, 3.0, success=False)]
    return ClosedLoop(Path("bundle"), "Arm-v0", 7, True, {"state_drop": 0.1}, results, log)


def test_counts_are_those_of_the_last_report(run: ClosedLoop) -> None:
    assert run.guards == {"stale_stream": 3, "warm_up": 0}
    facts = run.policy_facts()
    assert facts["state"] == "inactive"
    assert facts["guards"] == "stale_stream 3"
    assert not {"guard published", "clock jumps"} & set(facts)
    assert facts["missed ticks"] == "0"


def test_the_worst_report_is_told_once_the_node_acts(run: ClosedLoop) -> None:
    assert run.policy_facts()["worst"] == "no fresh observation (after 1.5 s)"
    assert run.simulation_facts() == {
        "episodes": 2,
        "factor": "0.9",
        "worst": "behind (after 1.0 s)",
    }
    run.log.reports = [each for each in run.log.reports if each.level < 2]
    assert "worst" not in run.policy_facts()


def test_a_node_that_told_nothing_is_said_so(run: ClosedLoop) -> None:
    run.log.reports.clear()
    assert run.policy_facts() == {"diagnostics": "none received"}
    assert run.guards == {}
    assert run.to_json()["nodes"] == {}


def test_guards_that_did_not_object_are_said_so(run: ClosedLoop) -> None:
    run.log.reports.append(Report(POLICY, 3.0, 0, "", {"guard warm_up": "0"}))
    assert run.policy_facts()["guards"] == "none tripped"


def test_json_holds_episodes_guards_and_the_last_report_of_each_node(run: ClosedLoop) -> None:
    document = json.loads(json.dumps(run.to_json()))
    assert document["mode"] == "real_time"
    assert document["faults"] == {"state_drop": 0.1}
    assert document["returns"] == [-1.0, 3.0]
    assert document["success_rate"] == 0.5
    assert document["guards"] == {"stale_stream": 3, "warm_up": 0}
    assert document["nodes"][POLICY] == {
        "level": "ok",
        "message": "inactive",
        "values": {
            "state": "inactive",
            "ticks": 20,
            "missed ticks": 0,
            "clock jumps": 0,
            "inference p50 (ms)": 0.25,
            "guard stale_stream": 3,
            "guard warm_up": 0,
            "guard published": 17,
        },
    }
    assert document["nodes"][BRIDGE]["level"] == "warn"


def test_numbers_are_read_where_there_are_any() -> None:
    told = report(POLICY, 0.0, state="running", age="never came", rate="9.5")
    assert [told.number(key) for key in ("rate", "age", "none")] == [9.5, None, None]


def test_episodes_without_success_have_no_rate() -> None:
    outcome = summarize([result(0, 1.0, None), result(1, 3.0, None)])
    assert outcome.success_rate is None
    assert outcome.returns == (1.0, 3.0)


def test_the_picture_is_drawn(run: ClosedLoop, tmp_path: Path) -> None:
    path = tmp_path / "run.png"
    draw_closed_loop(run, path)
    assert path.stat().st_size > 5_000
    assert imread(path).shape[:2] == (600, 1800)


def test_a_run_without_reports_can_be_drawn(run: ClosedLoop, tmp_path: Path) -> None:
    run.log.reports.clear()
    draw_closed_loop(run, tmp_path / "run.png")
    assert (tmp_path / "run.png").is_file()


def test_failed_episodes_are_named_with_why() -> None:
    lost = replace(result(1, 0.0, success=False), failure="the physics was lost")
    outcome = summarize([result(0, 1.0), lost])
    assert outcome.failures == ("episode 1: the physics was lost",)
    assert outcome.to_json()["failures"] == ["episode 1: the physics was lost"]


def test_a_simulated_robot_that_is_quicker_than_its_contract_is_told() -> None:
    document = load_contract(contract_path(Path("scara.yaml"))).model_dump(exclude_none=True)
    assert not list(undelayed(Contract.model_validate(document), {}, real_time=False))
    document["action"][0]["delay_s"] = 0.15
    slow = Contract.model_validate(document)
    assert list(undelayed(slow, {"command_latency_ms": 20}, real_time=False)) == [
        "'velocity_controller/commands' takes effect after 0.15 s (delay_s), but in this "
        "simulation after at most 0.02 s: give --faults command_latency_ms=150, or the policy "
        "drives another robot than it learned"
    ]
    assert list(undelayed(slow, {"command_latency_ms": 150}, real_time=False)) == [
        "'velocity_controller/commands' takes effect after 0.15 s (delay_s), but in this "
        "simulation after whole control periods of 0.1 s: the robot is another one than the "
        "policy learned, by a part of a period"
    ]
    document["action"][0]["delay_s"] = 0.2
    slow = Contract.model_validate(document)
    assert not list(undelayed(slow, {"command_latency_ms": 200}, real_time=False))
    spread = {"command_latency_ms": 150, "command_latency_spread_ms": 60}
    assert not list(undelayed(slow, spread, real_time=False))
    assert not list(undelayed(slow, {"command_latency_ms": 110}, real_time=True))
    assert len(list(undelayed(slow, {"command_latency_ms": 90}, real_time=True))) == 1


def test_without_a_terminal_a_line_shows_now_and_then_how_far_it_is(
    run: ClosedLoop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    run.results.clear()
    with RunProgress(Terminal(), run, episodes=3) as progress:
        progress.note_report(report(POLICY, 1.0, state="running"))
        progress.note_report(report(BRIDGE, 1.0, steps="5"))
        now_s += 11.0
        progress.note_report(report(BRIDGE, 12.0, steps="340"))
        progress.note_episode(result(0, 0.0))
        now_s += 11.0
        progress.note_report(report(BRIDGE, 13.0, steps="500"))
        progress.note_episode(result(1, 5.0))
        now_s += 11.0
        progress.note_report(report(BRIDGE, 23.0, steps="700"))
    assert capsys.readouterr().out.splitlines() == [
        "0 of 3 episodes, running, 340 steps",
        "1 of 3 episodes, no reward yet, 500 steps",
        "2 of 3 episodes, mean return 2.50, 700 steps",
    ]
    assert [each.return_ for each in run.results] == [0.0, 5.0]
