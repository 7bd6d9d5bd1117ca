import json
import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.machine import RESULTS
from benchmarks.suite import run as running
from benchmarks.suite.data import main as make_data
from benchmarks.suite.findings import BC, Cell, Findings, bootstrap
from benchmarks.suite.grid import jobs, small_jobs
from benchmarks.suite.measuring import Plan, read_transitions
from benchmarks.suite.methods import METHODS, configuration, find_method
from benchmarks.suite.our_training import Stopwatch
from benchmarks.suite.rows import ROWS_FILE, add_row, claim, read_rows
from benchmarks.suite.sets import SETS, find_set
from benchmarks.suite.table import README, overview, report, scores, times, with_overview
from benchmarks.suite.table import main as make_tables
from dql_core.config import TrainConfig
from dql_core.data.dataset import load_dataset
from dql_core.errors import ConfigError
from dql_core.training.derived import derive
from tests.benchmarks.conftest import made_row

NAME = "hopper-mixed"
TINY = {"run.execution": "eager", "policy.width": 8, "critic.width": 8, "run.batch_size": 16}
TINY_OPTIONS = [f"--override={key}={value}" for key, value in TINY.items()]


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [made_row(NAME, "default", seed, 1.5, 2.5, alarms=seed) for seed in (0, 1)]
    for row in rows:
        add_row(tmp_path, row)
    assert read_rows(tmp_path / ROWS_FILE) == {row.key: row for row in rows}


def test_a_line_that_was_cut_short_is_neither_read_nor_in_the_way(tmp_path: Path) -> None:
    first, second = (made_row(NAME, "default", seed, 1.0) for seed in (0, 1))
    add_row(tmp_path, first)
    with (tmp_path / ROWS_FILE).open("a") as file:
        file.write(json.dumps(asdict(second))[:50])
    assert list(read_rows(tmp_path / ROWS_FILE)) == [first.key]
    add_row(tmp_path, second)
    assert list(read_rows(tmp_path / ROWS_FILE)) == [first.key, second.key]


def test_what_is_no_row_is_named(tmp_path: Path) -> None:
    (tmp_path / ROWS_FILE).write_text('{"step": 1}\n')
    with pytest.raises(ConfigError, match="line 1 is no row"):
        read_rows(tmp_path / ROWS_FILE)


def test_only_one_process_works_on_a_row(tmp_path: Path) -> None:
    with claim(tmp_path, "a") as first, claim(tmp_path, "a") as second, claim(tmp_path, "b") as b:
        assert (first, second, b) == (True, False, True)
    with claim(tmp_path, "a") as again:
        assert again


def test_the_clock_of_a_training_goes_on_where_its_checkpoint_is(tmp_path: Path) -> None:
    path = tmp_path / "clock.jsonl"
    lines = [{"step": n, "seconds": 100.0 * n, "cpu_seconds": 90.0 * n} for n in (1, 2, 3)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    Stopwatch(path, 2).report(3, {})
    steps = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in steps] == [1, 2, 3]
    assert 200.0 <= steps[-1]["seconds"] < 201.0
    assert 180.0 <= steps[-1]["cpu_seconds"] < 181.0


def run(agents: Path, out: Path, *more: str) -> None:
    make_data(["--agents", str(agents), "--sets", NAME, "--size", "300", "--out", str(out)])
    fixed = ["--set", NAME, "--updates", "20", "--points", "2", "--episodes", "2"]
    fixed += ["--last-episodes", "3"]
    running.main([*fixed, "--data", str(out), "--out", str(out / "rows"), *more])


def test_a_row_is_trained_once(
    agents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["--method", "diffusion_bc", "--label", "tiny", *TINY_OPTIONS]
    run(agents, tmp_path, *command)
    before = read_rows(tmp_path / "rows" / ROWS_FILE)
    (row,) = before.values()
    assert [point.step for point in row.curve] == [10, 20]
    assert [len(point.scores) for point in row.curve] == [2, 3]
    assert 0.0 < row.curve[0].seconds < row.curve[1].seconds
    assert (row.method, row.alarms, row.failure) == ("tiny", 0, "")
    monkeypatch.delattr(running, "train_row")
    run(agents, tmp_path, *command)
    assert read_rows(tmp_path / "rows" / ROWS_FILE) == before


def test_a_finished_training_is_rolled_out_with_another_choice(
    agents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(agents, tmp_path, "--method", "diffusion_bc_mode")
    assert exit_.value.code == 2
    assert "run --method diffusion_bc first" in capsys.readouterr().err
    run(agents, tmp_path, "--method", "diffusion_bc", "--precision", "bfloat16")
    run(agents, tmp_path, "--method", "diffusion_bc_mode")
    trained, chosen = read_rows(tmp_path / "rows" / ROWS_FILE).values()
    (point,), last = chosen.curve, trained.curve[-1]
    assert (chosen.method, point.step, len(point.scores)) == ("diffusion_bc_mode", 20, 3)
    assert (point.seconds, point.cpu_seconds) == (last.seconds, last.cpu_seconds)
    assert point.scores != last.scores
    assert (chosen.precision, chosen.alarms) == (trained.precision, trained.alarms)
    assert chosen.precision == "bfloat16"
    shutil.rmtree(tmp_path / "rows" / "rows")
    (tmp_path / "rows" / ROWS_FILE).write_text(json.dumps(asdict(trained)) + "\n")
    with pytest.raises(SystemExit):
        run(agents, tmp_path, "--method", "diffusion_bc_mode")
    assert "has no policy of its last update" in capsys.readouterr().err


def test_a_training_that_is_stopped_before_its_first_checkpoint_is_a_result(
    agents: Path, tmp_path: Path
) -> None:
    wild = ["critic.learning_rate=30", "critic.bound_targets=false", "critic.gradient_clip=null"]
    wild += ["critic.layer_norm=false"]
    options = [f"--override={each}" for each in (*wild, "validation.on_divergence=stop")]
    run(agents, tmp_path, "--method", "td3_bc", "--label", "wild", *TINY_OPTIONS, *options)
    (row,) = read_rows(tmp_path / "rows" / ROWS_FILE).values()
    assert row.failure.startswith("the critics diverge at step 10: ")
    assert (row.alarms, row.curve) == (1, ())


def test_a_row_of_other_data_is_neither_kept_nor_compared(
    agents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = replace(made_row(NAME, "default", 0, 1.0), updates=20)
    add_row(tmp_path / "rows", row)
    with pytest.raises(SystemExit):
        run(agents, tmp_path, "--method", "default")
    assert "was trained on other data" in capsys.readouterr().err
    add_row(tmp_path / "rows", replace(row, seed=1, data_sha256="1" * 64))
    with pytest.raises(SystemExit):
        make_tables(["--rows", str(tmp_path / "rows" / ROWS_FILE), "--updates", "20"])
    assert "hopper-mixed is not the same data in all rows" in capsys.readouterr().err


def test_an_interrupted_row_goes_on(
    agents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["--method", "td3_bc", "--label", "tiny", *TINY_OPTIONS]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(running, "clean", interrupt)  # after training and rollouts
        with pytest.raises(SystemExit) as exit_:
            run(agents, tmp_path, *command)
    assert exit_.value.code == 130
    assert not (tmp_path / "rows" / ROWS_FILE).exists()
    with monkeypatch.context() as rolled_out:
        rolled_out.delattr("benchmarks.suite.measuring.Rollouts.point")
        run(agents, tmp_path, *command)
    (row,) = read_rows(tmp_path / "rows" / ROWS_FILE).values()
    assert [point.step for point in row.curve] == [10, 20]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "defualt"], "did you mean"),
        (["--method", "paper"], "--paper DIR"),
        (["--method", "paper", "--paper", "/nowhere"], "is not the paper's code"),
        (["--method", "default", "--label", "x"], "--override"),
        (["--method", "paper", "--label", "x", "--override", "run.seed=1"], "no configuration"),
        (["--method", "default", "--points", "21"], "--points"),
    ],
)
def test_a_mistake_is_one_line(
    agents: Path,
    tmp_path: Path,
    options: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(agents, tmp_path, *options)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_competitors_get_every_transition(agents: Path, tmp_path: Path) -> None:
    make_data(["--agents", str(agents), "--sets", NAME, "--size", "300", "--out", str(tmp_path)])
    data = load_dataset(tmp_path / NAME)
    found = read_transitions(data)
    assert len(found.rewards) == len(found.next_observations) == data.num_transitions == 300
    assert found.terminals.sum() == sum(episode.terminated for episode in data.episodes)
    assert found.ends.sum() == len(data.episodes)
    assert not (found.terminals & ~found.ends).any()


def test_our_methods_are_configurations() -> None:
    for name in ("diffusion_bc", "td3_bc", "paper_preset", "default", "one_step"):
        config = configuration(
            find_method(name),
            find_set("halfcheetah-mixed"),
            ["critic.width=64"],
            dataset="d",
            seed=4,
        )
        assert (config.run.seed, config.data.dataset, config.critic.width) == (4, "d", 64)
        if name == "paper_preset":
            assert (config.policy.gradient_clip, config.critic.gradient_clip) == (2.0, 2.0)
            assert not config.data.normalize_observations
    default = configuration(find_method("default"), find_set(NAME), [], dataset="d")
    assert default == TrainConfig.model_validate({"data": {"dataset": "d"}})


def test_a_derived_configuration_is_that_of_the_data_with_the_suites_updates(
    agents: Path, tmp_path: Path
) -> None:
    make_data(["--agents", str(agents), "--sets", NAME, "--size", "300", "--out", str(tmp_path)])
    dataset = str(tmp_path / NAME)
    config = configuration(
        find_method("derived"), find_set(NAME), ["critic.tau=0.1"], dataset=dataset, steps=70
    )
    assert (config.run.steps, config.critic.tau, config.data.dataset) == (70, 0.1, dataset)
    stated = TrainConfig.model_validate(
        {"run": {"steps": 70}, "critic": {"tau": 0.1}, "data": {"dataset": dataset}}
    )
    assert config == derive(load_dataset(dataset), stated).config
    assert config.critic.layer_norm


def test_steps_are_spread_evenly_and_end_with_the_last_update(tmp_path: Path) -> None:
    plan = Plan(NAME, find_set(NAME), tmp_path, 0, 105, 10, 1, 1, tmp_path)
    assert plan.steps == [*range(10, 101, 10), 105]


def test_the_grid_has_one_seed_of_all_and_three_of_what_is_compared() -> None:
    rows = list(jobs(list(SETS)))
    assert len(rows) == len(set(rows))
    seeds = {method: {s for name, m, s in rows if m == method} for method in METHODS}
    assert seeds["paper"] == {0}
    few = list(small_jobs(list(SETS)))
    assert len(few) == len(set(few)) == 7 * 3 * 2 * 3
    assert {find_set(name).name for name, *_ in few} == set(SETS)
    assert seeds["default"] == seeds["paper_preset"] == seeds["d3rlpy_iql"] == {0, 1, 2}


def test_an_interval_over_seeds_is_wider_than_over_the_episodes_of_one() -> None:
    rng = np.random.default_rng(0)
    seeds = [list(mean + rng.normal(size=10)) for mean in (0.0, 10.0, 20.0)]
    several, single = bootstrap(seeds), bootstrap(seeds[1:2])
    assert several.mean == pytest.approx(np.mean(seeds))
    assert several.low < single.low < single.mean < single.high < several.high
    # The mean of n values has a standard deviation of 1 / sqrt(n) of theirs.
    assert single.high - single.low == pytest.approx(
        2 * 1.96 * np.std(seeds[1]) / 10**0.5, rel=0.1
    )
    assert bootstrap(seeds) == several


ROWS = [
    made_row(NAME, "paper", 0, 5.0, 30.0, 50.0, 40.0, 40.0),
    made_row(NAME, "default", 0, 41.0, 42.0, 43.0, 44.0, 45.0),
    made_row(NAME, "default", 1, 45.0, 46.0, 47.0, 48.0, 49.0),
    made_row(NAME, "paper_preset", 0, 5.0, 10.0, 20.0, 30.0, 39.0, alarms=2),
    made_row("pusht-human", "default", 0, 1.0, 2.0, 3.0, 4.0, 5.0),
]


def test_a_choice_without_a_training_has_a_score_and_no_time() -> None:
    chosen = made_row(NAME, "default_softmax", 0, 46.0)
    findings = Findings([*ROWS, chosen])
    assert "Diffusion-QL, softmax" in scores(findings, findings.sets)
    assert "46.0" in scores(findings, findings.sets)
    assert times(findings) == times(Findings(ROWS))


def test_times_are_to_the_score_of_the_papers_last_step() -> None:
    findings = Findings(ROWS)
    paper, default = findings.cell(NAME, "paper"), findings.cell(NAME, "default")
    assert paper is not None
    assert default is not None
    assert paper.seconds == 50.0
    assert paper.seconds_to(40.0) == 30.0
    assert default.seconds_to(43.0) == 10.0
    assert default.seconds_to(50.0) is None
    assert default.curve[0].score == 43.0
    assert (default.curve[0].low, default.curve[0].high) == (41.0, 45.0)
    computing = Findings(ROWS, "cpu").cell(NAME, "paper")
    assert computing is not None
    assert (computing.seconds, computing.seconds_to(40.0)) == (45.0, 27.0)


def test_points_of_a_curve_are_compared_on_the_starts_that_all_have() -> None:
    row = made_row(NAME, "paper", 0, 30.0, 40.0)
    last = replace(row.curve[-1], scores=(40.0, 44.0, 0.0, 0.0))
    cell = Cell((replace(row, curve=(row.curve[0], last)),))
    assert [moment.score for moment in cell.curve] == [30.0, 42.0]
    assert cell.score.mean == 21.0
    # The paper's code is not reached by what is worse on the same starts.
    slow = made_row(NAME, "default", 0, 35.0, 41.0)
    assert "never" in times(Findings([*cell.rows, slow]))


def test_verdicts_name_the_sets_that_miss() -> None:
    verdicts = Findings(ROWS).verdicts()
    assert [verdict.split(": on ")[-1] for verdict in verdicts] == [
        "0 of 1 sets; not on hopper-mixed",
        "1 of 1 sets",
        "0 of 0 sets",
        "1 of 2 sets; not on pusht-human",
        "1 of 1 sets",
        "0 of 0 sets",
    ]


@pytest.mark.parametrize("judged", ["default", "derived"])
def test_few_episodes_are_judged_apart(judged: str) -> None:
    rows = [
        made_row(f"{NAME}-{episodes}", method, 0, score, alarms=alarms)
        for episodes, method, score, alarms in (
            (10, judged, 9.0, 0),
            (10, "diffusion_bc", 9.0, 0),
            (25, judged, 9.0, 1),
            (25, "diffusion_bc", 8.0, 0),
            (2, judged, 7.0, 0),
            (2, "diffusion_bc", 8.0, 0),
        )
    ]
    *whole, small = Findings(rows).verdicts()
    assert small.endswith("on 1 of 3 sets; not on hopper-mixed-2, hopper-mixed-25")
    assert {verdict.split(": on ")[-1] for verdict in whole} == {"0 of 0 sets"}


def test_few_episodes_have_a_table_of_their_own() -> None:
    few = f"{NAME}-10"
    rows = [
        made_row(name, method, 0, score)
        for name, method, score in ((NAME, "paper", 1.0), (NAME, "default", 2.0), (few, BC, 3.0))
    ]
    findings = Findings(rows)
    assert (findings.sets, findings.subsets) == ([NAME], [few])
    assert few not in overview(findings) + scores(findings, [NAME]) + times(findings)
    page = report(findings, rows)
    section = page.partition("## Of few episodes\n\n")[2].partition("\n\n##")[0]
    assert section.splitlines()[0] == "| set | the data | Diffusion-BC |"
    assert section.splitlines()[-1] == f"| {few} | 20.0 | **3.0 [3.0, 3.0]** 1 x 2 |"
    assert "few episodes\n\n" not in report(Findings(rows[:2]), rows[:2])


def test_a_training_that_broke_at_once_is_counted() -> None:
    lost = replace(made_row(NAME, "default", 0, 1.0), curve=(), failure="diverged")
    paper = made_row(NAME, "paper", 0, 1.0)
    findings = Findings([lost, made_row(NAME, "default", 1, 2.0), paper])
    assert "**2.0 [2.0, 2.0]** 1 x 2, 1 diverged" in scores(findings, [NAME])
    assert Findings([lost, paper]).methods == ["paper", "default"]
    for table in overview, partial(scores, names=[NAME]), times:
        assert "| 1 diverged |" in table(Findings([lost, paper]))


def test_the_best_baseline_stands_beside_ours_and_the_papers() -> None:
    rows = [
        made_row(NAME, method, 0, score)
        for method, score in (("default", 3.0), ("td3_bc", 2.0), ("diffusion_bc", 1.0))
    ]
    assert "not run | TD3+BC 2.0 [2.0, 2.0] (2 of 5 run) | 3.0 [3.0, 3.0] |" in overview(
        Findings(rows)
    )


def test_the_readme_has_the_table_of_the_rows_that_are_kept() -> None:
    rows = [row for row in read_rows(RESULTS / "suite.jsonl").values() if row.updates == 30_000]
    table = overview(Findings(rows, "cpu"))
    assert table.strip() in README.read_text()
    assert table.strip() in (RESULTS / "suite.md").read_text()
    headings, *_ = table.splitlines()
    stale = f"# A page\n\n{headings}\n| --- |\n| old |\n\nmore\n"
    assert with_overview(stale, table) == f"# A page\n\n{table.strip()}\n\nmore\n"


@pytest.mark.parametrize("survivors", [0, 1])
def test_a_goal_is_missed_where_a_seed_broke_at_once(survivors: int) -> None:
    small = f"{NAME}-10"
    rows = [
        replace(made_row(name, "default", seed, 99.0), curve=curve, failure=failure)
        for name in (NAME, small)
        for seed, curve, failure in (
            (0, (), "diverged"),
            *((1 + i, made_row(NAME, "default", 0, 99.0).curve, "") for i in range(survivors)),
        )
    ]
    rows += [made_row(NAME, "paper", 0, 1.0), made_row(small, "diffusion_bc", 0, 1.0)]
    verdicts = Findings(rows).verdicts()
    assert verdicts[1].endswith(f"on 0 of 1 sets; not on {NAME}")
    assert verdicts[-1].endswith(f"on 0 of 1 sets; not on {small}")


def test_tables_and_figures_are_made_from_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in [*ROWS, made_row(NAME, "default", 7, 99.0)]:
        add_row(tmp_path, row)
    out, images = tmp_path / "results", tmp_path / "images"
    out.mkdir()
    command = ["--rows", str(tmp_path / ROWS_FILE), "--updates", "50"]
    make_tables([*command, "--out", str(out), "--images", str(images)])
    assert capsys.readouterr().out.splitlines() == Findings(ROWS).verdicts()
    table = (out / "suite.md").read_text()
    cells = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in table.splitlines()
        if line.startswith(("| hopper", "| pusht"))
    }
    # The second table is the one of times.
    assert cells[NAME] == ["40.0", "0.8", "never (0.8)", "0.2 (20%)"]
    assert cells["pusht-human"] == ["20.0", "not run", "not run", "**5.0 [5.0, 5.0]** 1 x 2"]
    assert (
        f"| {NAME} | 20.0 | 40.0 [40.0, 40.0] 1 x 2 | 39.0 [39.0, 39.0] 1 x 2, 1 diverged |"
        in table
    )
    assert list(read_rows(out / "suite.jsonl")) == sorted(row.key for row in ROWS)
    for name in ("suite_updates.svg", "suite_minutes.svg"):
        assert "<svg" in (images / name).read_text()
