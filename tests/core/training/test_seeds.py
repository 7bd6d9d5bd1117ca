"""Several seeds at once, and what they come to."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from rich.console import Console

from dql_core.cli.train import train, train_seeds
from dql_core.cli.training_bars import figures_table
from dql_core.cli.training_settings import Request, settings
from dql_core.config import load_config
from dql_core.data.dataset import write_dataset
from dql_core.errors import CheckpointError, ConfigError, DqlError
from dql_core.evaluation.statistics import estimate_mean
from dql_core.training.checkpoint import load_checkpoint
from dql_core.training.multi_seed import (
    Figure,
    cores,
    create_seed_folder,
    parse_seeds,
    seed_runs,
    summarize,
)
from tests.core.conftest import TINY_SPEC, tiny_episode

pytestmark = pytest.mark.slow

CONFIG = """
run: {steps: 12, batch_size: 8, log_every: 3, checkpoint_every: 6, num_threads: 1}
policy: {width: 8}
critic: {width: 8}
validation: {held_out: 0.4}
"""


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset with episodes long enough for one of three to be held out."""
    folder = tmp_path_factory.mktemp("tiny") / "dataset"
    rng = np.random.default_rng(0)
    episodes = [tiny_episode(rng, 12, terminated=index == 1) for index in range(3)]
    write_dataset(folder, episodes, TINY_SPEC)
    return folder


def tensors(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "checkpoints/step-00000012/state.safetensors")


def test_each_seed_is_a_run_of_its_own_and_a_failing_one_hides_no_other(
    tmp_path: Path, config_file: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, out = tmp_path / "alone", tmp_path / "seeds"
    config = load_config(config_file, [f"data.dataset={tiny_dataset}"])
    train(config_file, [str(tiny_dataset)], alone, ["run.seed=3"])
    create_seed_folder(out, config, (3, 5))
    (out / "seed-5").mkdir()
    (out / "seed-5" / "note").write_text("in the way")
    with pytest.raises(DqlError, match=r"1 of 2 seeds failed: seed 5: .*seed-5: already exists"):
        train_seeds(out, seed_runs(out, config, (3, 5)), Console())
    shown = capsys.readouterr().out
    assert "seed 3: data: rewards, as learned" in shown
    assert "seed 3: 12/12 " in shown
    assert "imitation (last)" in shown
    summary = json.loads((out / "summary.json").read_text())
    assert summary["seeds"] == [3, 5]
    assert "already exists" in summary["failed"]["5"]
    first, second = tensors(alone), tensors(out / "seed-3")
    assert all(torch.equal(first[name], second[name]) for name in first)

    (out / "seed-5" / "note").unlink()
    train(config_file, [str(tiny_dataset)], seeds="3,5", resume=out)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["seeds"], summary["failed"]) == ([3, 5], {})
    figure = summary["figures"]["held-out imitation (last)"]
    assert figure["mean"] == pytest.approx(sum(figure["by_seed"].values()) / 2)
    assert sorted(figure["by_seed"]) == ["3", "5"]


def test_ctrl_c_stops_all_with_checkpoints(
    tmp_path: Path, config_file: Path, tiny_dataset: Path
) -> None:
    out = tmp_path / "seeds"
    command = [sys.executable, "-m", "dql_ros.cli.main", "train", str(config_file)]
    options = ["--dataset", str(tiny_dataset), "--out", str(out), "--seeds", "0,1,2"]
    endless = ["--set", "run.steps=100000000", "--set", "run.execution=eager"]
    with subprocess.Popen(
        [*command, *options, *endless],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        training: set[str] = set()
        for line in process.stdout:
            if "/100000000 " in line:
                training.add(line.split(":")[0])
            if len(training) == min(cores(), 3):
                break
        process.send_signal(signal.SIGINT)
        shown, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"interrupted; resume with: dql train --resume {out}" in shown
    assert "Traceback" not in shown + err
    for seed in training:
        run = out / seed.replace(" ", "-")
        assert load_checkpoint(run).step > 0


@pytest.mark.parametrize("text", ["", "1,", "a", "1,1", "-1,0", "1;2"])
def test_seeds_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be different numbers of at least 0, as in 0,1,2"):
        parse_seeds(text)


def test_seeds_go_on_only_as_they_began(
    tmp_path: Path, config_file: Path, tiny_dataset: Path
) -> None:
    out = tmp_path / "seeds"
    create_seed_folder(out, settings(Request(config_file, (str(tiny_dataset),), None, ())), (0, 1))
    with pytest.raises(ConfigError, match="began with --seeds 0,1 and cannot continue with 0,2"):
        train(resume=out, seeds="0,2")
    with pytest.raises(
        ConfigError, match=r"began with run\.steps=12 and cannot continue with run"
    ):
        train(config_file, [str(tiny_dataset)], overrides=["run.steps=13"], resume=out)
    with pytest.raises(CheckpointError, match="does not hold runs of several seeds"):
        train(resume=tmp_path, seeds="0,1")
    with pytest.raises(ConfigError, match="seeds: already exists"):
        train(config_file, [str(tiny_dataset)], out, seeds="0,1")
    (out / "seeds.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"seeds\.json: damaged: "):
        train(resume=out)


def make_run(
    folder: Path, records: list[dict[str, Any]], offline: int | None, online: int | None
) -> Path:
    folder.mkdir()
    chosen = {"last": records[-1]["step"], "best_offline": offline, "best_online": online}
    best = {which: step and {"step": step} for which, step in chosen.items()}
    (folder / "best.json").write_text(json.dumps(best))
    for name, lines in (
        ("validation.jsonl", records),
        ("metrics.jsonl", [{"step": 5, "imitation": 9.0}, {"step": 20, "imitation": 0.5}]),
    ):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_rolled_out_runs_are_summed_up_by_their_returns(tmp_path: Path) -> None:
    runs = {}
    for seed in (0, 1):
        records = [
            {"step": step, "online": {"mean_return": seed + step, "success_rate": 0.5}}
            for step in (10, 20)
        ]
        runs[seed] = make_run(tmp_path / str(seed), records, 10, 20)
    figures = summarize(runs)
    assert figures["return (last)"].values == {0: 20, 1: 21}
    assert figures["return (best_offline)"].values == {0: 10, 1: 11}
    assert figures["return (best_online)"].values == {0: 20, 1: 21}
    assert figures["success rate (last)"].estimate.mean == 0.5
    assert not any("imitation" in name for name in figures)


def test_other_runs_are_summed_up_by_losses_and_held_out_errors(tmp_path: Path) -> None:
    records = [{"step": step, "held_out_td_error": step / 10} for step in (10, 20)]
    figures = summarize({7: make_run(tmp_path / "run", records, 10, None)})
    assert {name: figure.values for name, figure in figures.items()} == {
        "imitation (last)": {7: 0.5},
        "held-out td error (last)": {7: 2.0},
        "held-out td error (best_offline)": {7: 1.0},
    }


def test_the_table_has_students_interval_over_the_seeds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    figure = Figure({0: 1.0, 1: 2.0, 4: 4.0})
    Console(width=200).print(figures_table("runs", {"return (last)": figure}))
    estimate = estimate_mean([1.0, 2.0, 4.0])
    shown = capsys.readouterr().out
    assert f"2.333 ± {estimate.high - estimate.mean:.2g}" in shown
    assert all(f"seed {seed}" in shown for seed in (0, 1, 4))
    assert figure.to_json()["by_seed"] == {"0": 1.0, "1": 2.0, "4": 4.0}


def test_a_figure_that_a_seed_lacks_is_left_out_there() -> None:
    table = figures_table("runs", {"a": Figure({0: 1.0, 1: 2.0}), "b": Figure({1: 3.0})})
    assert math.isinf(Figure({1: 3.0}).estimate.high)
    assert [len(list(column.cells)) for column in table.columns] == [2, 2, 2, 2]
