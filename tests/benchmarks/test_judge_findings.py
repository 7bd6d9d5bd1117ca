"""Made rows: what is truly so is known."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.judge.d3rlpy_fqe import Fitted
from benchmarks.judge.estimates import Estimated
from benchmarks.judge.findings import DISTANCE, FITTED, JUDGE, TD_ERROR, OfSet, group, verdicts
from benchmarks.judge.policies import Made
from benchmarks.judge.rows import Row
from benchmarks.judge.table import main as make_table
from benchmarks.judge.truth import Truth
from benchmarks.suite.rows import ROWS_FILE, add_row, read_rows_of

SET, BEHAVIOUR = "hopper-mixed", 10.0


def made_row(run: str, step: int, truth: float, value: float | None, **more: Any) -> Row:
    """A policy that earned ``truth`` twice and is taken to be worth ``value``, give or take 2."""
    verdict = "no verdict" if value is None else ("better" if value > BEHAVIOUR else "worse")
    low, high, floor = (
        (None, None, None) if value is None else (value - 2.0, value + 2.0, value - 1.0)
    )
    row = Row(
        set_name=SET,
        policy=Made(f"{run}@{step}", run, f"runs/{run}", step),
        truth=Truth((truth, truth), (truth - 0.5, truth + 0.5)),
        estimated=Estimated(verdict, value, low, high, floor, (0.0,), 0.0, distance=step / 10),
        d3rlpy=Fitted(-truth, 100, 1.5, 1.0),
        td_error=None,
        discount=0.99,
        behaviour=BEHAVIOUR,
        judged_behaviour=9.0,
        together=6,
        seconds=60.0,
        cpu_seconds=50.0,
        learned=100,
        held_out=200,
        episodes=5,
        updates=30,
        data_sha256="0" * 64,
        machine={
            "cpus": 2,
            "load": 1.0,
            "python": "3",
            "commit": "abc",
            "versions": {"torch": "2"},
        },
    )
    return replace(row, **more)


ROWS = [
    made_row("bc", 10, 5.0, 4.0),
    made_row("bc", 20, 8.0, 8.5),
    made_row("ql", 10, 14.0, 13.0),
    made_row("ql", 20, 4.0, 2.0, td_error=3.0),
    made_row("ql", 30, 7.5, 12.0, td_error=1.0),
]
CHANGED = replace(
    made_row("ql", 30, 1.0, None, td_error=2.0),
    policy=Made("ql_first", "ql", "runs/ql", 30, {"rule": "first"}),
)
ALL = OfSet(SET, (*ROWS, CHANGED))


def test_order_is_that_of_true_values_among_what_has_an_estimate() -> None:
    judge, fitted = ALL.rank(JUDGE), ALL.rank(FITTED)
    assert judge is not None
    assert fitted is not None
    assert judge.count == 5
    assert judge.correlation.mean == pytest.approx(0.9)  # two neighbours of five changed places
    assert judge.correlation.low < 0.9 <= judge.correlation.high
    assert fitted.correlation.mean == pytest.approx(-1.0)
    assert fitted.count == 6
    td_error = ALL.rank(TD_ERROR)
    assert td_error is not None
    assert td_error.correlation.mean == pytest.approx(0.5)
    assert td_error.count == 3
    assert OfSet(SET, tuple(ROWS[:2])).rank(JUDGE) is None


def test_regret_within_runs_is_that_of_checkpoints_only() -> None:
    regret = ALL.regret_in_runs(JUDGE)
    assert regret is not None
    # bc: the last is chosen and the best; ql: the first is, and the last is 6.5 below it.
    assert (regret.chosen, regret.last) == (0.0, 3.25)
    assert regret.spread == pytest.approx((3.0 + 10.0) / 2)
    theirs = ALL.regret_in_runs(FITTED)
    assert theirs is not None
    assert theirs.chosen == pytest.approx((3.0 + 10.0) / 2)
    nearest = ALL.regret_in_runs(DISTANCE)
    assert nearest is not None
    assert nearest.chosen == pytest.approx((3.0 + 0.0) / 2)
    assert OfSet(SET, (ROWS[0],)).regret_in_runs(JUDGE) is None


def test_regret_over_all_is_compared_with_the_last_of_any_run() -> None:
    regret = ALL.regret_over_all(JUDGE)
    assert (regret.chosen, regret.last, regret.spread) == (0.0, 14.0 - 7.75, 13.0)
    # Where nothing is said, one is left with the last.
    silent = OfSet(SET, tuple(made_row("bc", step, step / 10, None) for step in (10, 20, 15)))
    assert silent.regret_over_all(JUDGE).chosen == silent.regret_over_all(JUDGE).last == 0.0
    assert silent.regret_over_all(TD_ERROR).chosen == 0.0


def test_intervals_and_verdicts_are_compared_with_the_truth() -> None:
    assert ALL.covered == [True, True, True, True, False]
    assert [row.key for row in ALL.worse_called_better] == [f"{SET}_ql@30"]
    assert ALL.surely_worse(ROWS[1]) is False  # two rollouts that far apart say little
    assert ALL.surely_worse(replace(ROWS[1], truth=Truth((8.0,), (8.0, 8.0)))) is True
    assert (ALL.better, ALL.called("better"), ALL.called("no verdict")) == (1, 2, 1)


def test_goals_name_the_sets_that_miss() -> None:
    other = OfSet("arm", tuple(replace(row, set_name="arm") for row in ROWS[:4] * 3))
    found = verdicts([other, ALL])
    assert found[0] == f"at least 12 policies: on 1 of 2 sets; not on {SET}"
    assert found[1] == "Spearman of at least 0.7, by value: on 2 of 2 sets"
    assert found[2] == "Spearman of at least 0.7, by what chooses: on 2 of 2 sets"
    assert found[6].startswith("the interval holds the true value in at least 80%: on 2 of 2 sets")
    assert found[7] == f"policies worse than the data that were called better: 1 ({SET}_ql@30)"


def test_a_page_is_made_of_whole_sets_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in ROWS:
        add_row(tmp_path, row)
    command = ["--rows", str(tmp_path / ROWS_FILE), "--out", str(tmp_path / "results")]
    with pytest.raises(SystemExit) as ended:
        make_table(command)
    assert ended.value.code == 2
    assert "lacks 1 of 6 policies" in capsys.readouterr().err
    add_row(tmp_path, CHANGED)
    (tmp_path / "results").mkdir()
    make_table([*command, "--images", str(tmp_path)])
    assert capsys.readouterr().out.splitlines() == verdicts([ALL])
    page = (tmp_path / "results/judge.md").read_text()
    assert "| hopper-mixed | 6 | 0.90 [" in page
    assert "| hopper-mixed | each run | 50% | 0% | 100% |" in page
    assert "| ql@30 | 7.5 [1.147, 13.85] | 7.5 | 12 [10, 14] | better | 0% | -7.5 | 1 |" in page
    drawn = (tmp_path / "judge.svg").read_text()
    assert all(f"{row.policy.name}: {row.estimated.verdict}" in drawn for row in ALL.rows)
    kept = tmp_path / "results/judge.jsonl"
    assert read_rows_of(Row, kept) == {row.key: row for row in ALL.rows}


def test_rows_that_were_judged_otherwise_are_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in (*ROWS, replace(CHANGED, updates=31)):
        add_row(tmp_path, row)
    with pytest.raises(SystemExit):
        make_table(["--rows", str(tmp_path / ROWS_FILE), "--out", str(tmp_path)])
    assert "was not judged alike in all rows" in capsys.readouterr().err


def test_sets_come_in_the_order_of_tables() -> None:
    rows = [replace(ROWS[0], set_name=name) for name in ("hopper-mixed-10", SET, "arm")]
    assert [one.name for one in group(rows)] == ["arm", SET, "hopper-mixed-10"]
    assert json.loads(json.dumps(asdict(rows[0])))["policy"]["run"] == "bc"
