"""What is shown of runs, beside what their files say."""

import json
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from dql_core.config import load_config
from dql_core.documents import RUN_FILE
from dql_core.errors import CheckpointError, DqlError
from dql_core.live_page import MAX_POINTS, Chart, View
from dql_core.training.live import SILENT_S, RunView
from dql_core.training.loop import train
from dql_core.training.run_files import (
    METRICS_FILE,
    VALIDATION_FILE,
    append_record,
    read_best,
    read_records,
    record_alarm,
    record_alarm_end,
    update_run_info,
)
from dql_core.training.sweep.space import TRIAL_FILE
from dql_core.training.sweep.trials import note_end
from tests.core.training.test_seeds import CONFIG, tiny_dataset  # noqa: F401

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:  # noqa: F811
    """A run of twelve updates with two checkpoints."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "config.yaml").write_text(CONFIG)
    config = load_config(folder / "config.yaml", [f"data.dataset={tiny_dataset}"])
    assert train(config, folder / "run").finished
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(trained, tmp_path / "run")


def chart(view: View, title: str) -> Chart:
    (found,) = (each for each in view.charts if each.title == title)
    return found


def test_every_number_of_the_files_has_its_curve(run: Path) -> None:
    view = RunView(run)()
    assert view.state == "finished: 12 of 12 updates"
    assert view.level == "ok"
    readings, checkpoints = read_records(run / METRICS_FILE), read_records(run / VALIDATION_FILE)
    assert len(readings) == 4
    assert len(checkpoints) == 2
    for key in readings[0].keys() - {"step"}:
        (line,) = chart(view, key.replace("_", " ")).lines
        assert list(line.x) == [3, 6, 9, 12]
        assert list(line.y) == [each[key] for each in readings]
    held_out = [key for key in checkpoints[0] if key.startswith("held_out")]
    assert held_out
    for key in held_out:
        shown = chart(view, f"{key.replace('_', ' ')} of checkpoints")
        value = [each[key] for each in checkpoints]
        means = [each["mean"] if isinstance(each, dict) else each for each in value]
        assert list(shown.lines[0].y) == means
        best = read_best(run)["best_offline"]
        assert list(shown.marks) == [(best["step"], "best_offline")]
    assert any(best["criterion"] in remark for remark in view.remarks)
    json.loads(view.to_json())


def test_estimates_are_shown_with_their_intervals(run: Path) -> None:
    for record in (
        {
            "step": 20,
            "judged": {
                "verdict": "better",
                "difference": {"mean": 1.5, "ci95": [0.5, 2.5]},
                "floor": 0.7,
            },
            "online": {"mean_return": 3.0, "mean_return_ci95": [2.0, None], "returns": [2, 4]},
        },
        {"step": 30, "judged": {"verdict": "no verdict", "difference": None, "floor": None}},
    ):
        append_record(run / VALIDATION_FILE, record)
    view = RunView(run)()
    (line,) = chart(view, "difference (judged) of checkpoints").lines
    assert (line.x, line.y, line.low, line.high) == ((20,), (1.5,), (0.5,), (2.5,))
    (line,) = chart(view, "mean return (in the environment) of checkpoints").lines
    assert (line.y, line.low, line.high) == ((3.0,), (2.0,), (None,))
    (line,) = chart(view, "floor (judged) of checkpoints").lines
    assert line.low == ()
    assert not [each for each in view.charts if each.title.startswith(("returns", "verdict"))]


def test_it_grows_with_the_run(run: Path) -> None:
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    records = (run / METRICS_FILE).read_text().splitlines(keepends=True)
    (run / METRICS_FILE).write_text("".join(records[:2]) + records[2][:20])  # half a line
    (run / VALIDATION_FILE).write_text("")
    look = RunView(run)
    assert re.fullmatch(r"6 of 12 updates; last reading \d+ s ago", look().state)
    assert dict(look().facts)["checkpoints"] == 1
    (run / METRICS_FILE).write_text("".join(records[:3]))
    view = look()
    assert view.state.startswith("9 of 12 updates")
    assert list(chart(view, "imitation").lines[0].x) == [3, 6, 9]
    assert "left, without measuring" in dict(view.facts)


def test_a_long_run_is_thinned_and_read_only_once(run: Path) -> None:
    file = run / METRICS_FILE
    lines = [json.dumps({"step": step, "critic": step / 7}) + "\n" for step in range(20_001)]
    file.write_text("".join(lines[:9_000]))
    look = RunView(run)
    look()
    file.write_text("".join(["x" * (len(lines[0]) - 1) + "\n", *lines[1:9_000]]))
    (line,) = chart(look(), "critic").lines  # what was read is not read again
    assert line.x[0] == 0
    for count in (9_001, 15_000, 20_001):
        file.write_text("".join(lines[:count]))
        (line,) = chart(look(), "critic").lines
        assert line.x[-1] == count - 1
        assert len(line.x) <= MAX_POINTS + 2
        assert list(line.y) == [step / 7 for step in line.x]
        assert max(np.diff(line.x[:-1])) == min(np.diff(line.x[:-1]))
    file.write_text("".join([*lines, "{}\n"]))
    with pytest.raises(DqlError, match="line 20002: damaged"):
        look()
    other = [json.dumps({"step": step, "critic": 1.0}) + "\n" for step in range(1, 30_000)]
    file.write_text("".join(other))
    (line,) = chart(look(), "critic").lines
    assert set(line.y) == {1.0}


def test_what_is_wrong_is_said_first(run: Path) -> None:
    look = RunView(run)
    record_alarm(run, 9, {"reason": "too large"})
    assert (look().level, look().state) == (
        "warn",
        "the critics diverge since update 9; 12 of 12 updates",
    )
    record_alarm_end(run, 12)
    assert look().level == "ok"
    update_run_info(run, failure="a loss is not finite at step 12")
    assert (look().level, look().state) == ("error", "failed: a loss is not finite at step 12")


def test_damage_is_told_and_over_when_it_is(run: Path) -> None:
    look, whole = RunView(run), (run / METRICS_FILE).read_text()
    (run / METRICS_FILE).write_text(whole + "{}\n")
    with pytest.raises(DqlError, match=r"metrics.jsonl: line 5: damaged"):
        look()
    (run / METRICS_FILE).write_text(whole)
    assert look().level == "ok"


def test_files_of_somebody_else_break_nothing(run: Path) -> None:
    odd = {"step": 15, "<b>": 1.0, "critic": "low", "imitation": True, "q_data": None}
    odd |= {
        "updates_per_s": [1],
        "improvement": {"mean": 2.0, "ci95": ["a", 3]},
        "x": {"mean": []},
    }
    odd |= {"held": {"mean": 1.0, "ci95": 3}, "online": [1], "judged": {"floor": {}}}
    for name in (METRICS_FILE, VALIDATION_FILE):
        append_record(run / name, odd)
    best = {"best_offline": {"checkpoint": "", "step": "7"}, "best_online": {"checkpoint": ""}}
    (run / "best.json").write_text(json.dumps(best))
    view = RunView(run)()
    json.loads(view.to_json())
    assert list(chart(view, "<b>").lines[0].y) == [1.0]
    assert list(chart(view, "critic").lines[0].x) == [3, 6, 9, 12]
    assert list(chart(view, "improvement").lines[0].high)[-1] == 3
    assert list(chart(view, "held").lines[0].low) == []
    assert view.remarks == []


def test_runs_of_several_seeds_share_their_charts(
    tmp_path: Path,
    tiny_dataset: Path,  # noqa: F811
) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    for seed in (0, 1):
        assignments = [f"data.dataset={tiny_dataset}", f"run.seed={seed}"]
        config = load_config(tmp_path / "config.yaml", assignments)
        assert train(config, tmp_path / "runs" / f"seed-{seed}").finished
    look = RunView(tmp_path / "runs")
    view = look()
    assert view.state == "2 runs: 2 finished"
    assert [line.name for line in chart(view, "imitation").lines] == ["seed-0", "seed-1"]
    assert dict(view.facts)["seed-1: updates"] == 12
    (tmp_path / "runs/seed-1" / RUN_FILE).write_text("{")
    view = look()
    assert view.level == "error"
    assert "seed-1" in view.remarks[0]
    assert dict(view.facts)["seed-0: updates"] == 12
    shutil.rmtree(tmp_path / "runs/seed-1")
    assert (look().level, look().state) == ("ok", "finished: 12 of 12 updates")


def test_another_run_in_its_place_is_seen(run: Path) -> None:
    look = RunView(run)
    assert look().state == "finished: 12 of 12 updates"
    text = (run / "config.yaml").read_text()
    assert "steps: 12" in text
    (run / "config.yaml").write_text(text.replace("steps: 12", "steps: 99"))
    assert look().state.startswith("12 of 99 updates; last reading")


def test_a_run_that_fell_silent_is_told_of(run: Path) -> None:
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    assert RunView(run)().level == "ok"
    for name in (METRICS_FILE, VALIDATION_FILE, RUN_FILE):
        os.utime(run / name, (0, time.time() - SILENT_S - 3600))
    view = RunView(run)()
    assert (view.level, view.state) == ("warn", "12 of 12 updates; last reading 75 min ago")


def test_a_trial_that_a_sweep_ended_early_is_no_cause_for_a_warning(run: Path) -> None:
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    for name in (METRICS_FILE, VALIDATION_FILE, RUN_FILE):
        os.utime(run / name, (0, time.time() - SILENT_S - 3600))
    parameters = {"policy.eta": 0.5}
    note_end(run, parameters)  # as it begins
    assert RunView(run)().level == "warn"
    note_end(run, parameters, pruned=True)
    view = RunView(run)()
    told = "ended early, since other trials were better: 12 of 12 updates"
    assert (view.level, view.state) == ("ok", told)
    shutil.copytree(run, run.parent / "runs" / "a")
    shutil.copytree(run, run.parent / "runs" / "b")
    assert RunView(run.parent / "runs")().state == "2 runs: 0 finished, 2 ended early"
    note_end(run, parameters, failure="too large")
    assert (RunView(run)().level, RunView(run)().state) == ("error", "failed: too large")
    (run / TRIAL_FILE).write_text("{}")
    with pytest.raises(CheckpointError, match=r"trial\.json: damaged: key 'parameters'"):
        RunView(run)()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"holds no run of 'dql train' .no {RUN_FILE}"):
        RunView(tmp_path)
