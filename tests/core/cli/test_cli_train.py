import dataclasses
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dql_core.data.dataset as dataset_module
from dql_core.cli.train import train
from dql_core.cli.training_bars import metrics_text, time_left
from dql_core.config import load_config
from dql_core.data.dataset import write_dataset
from dql_core.data.episode_reader import EpisodeReader
from dql_core.errors import ConfigError, DatasetError
from dql_core.training.checkpoint import load_checkpoint
from dql_core.training.run_files import read_records
from tests.core.conftest import TINY_SPEC, tiny_episode

pytestmark = pytest.mark.slow

CONFIG = """
run: {steps: 20, batch_size: 8, log_every: 1, num_threads: 1}
data: {n_step: 1}
policy: {width: 8}
critic: {width: 8}
"""


@pytest.fixture
def zero_dataset(tmp_path: Path) -> Path:
    """Return two episodes, recorded without a reward."""
    rng = np.random.default_rng(0)
    episodes = [tiny_episode(rng, 10, terminated=False) for _ in range(2)]
    silent = [dataclasses.replace(each, rewards=0 * each.rewards) for each in episodes]
    write_dataset(tmp_path / "zero", silent, TINY_SPEC)
    return tmp_path / "zero"


def test_train_follows_the_file_and_the_overrides_and_shows_how_it_goes(
    tmp_path: Path, config_file: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(config_file, [str(tiny_dataset)], run, ["run.steps=10", "agent=diffusion_bc"])
    checkpoint = load_checkpoint(run)
    assert (checkpoint.step, checkpoint.config.agent) == (10, "diffusion_bc")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("run.steps: after 10 updates the average that acts is 99% ")
    assert lines[1].startswith("diffusion_bc: 1/10 imitation ")
    assert lines[-2] == f"last: {run}/checkpoints/step-00000010"
    assert lines[-1].startswith(f"best_offline: {run}/checkpoints/step-00000010 (smallest ")


def test_the_run_finds_its_dataset_again_from_another_folder(
    tmp_path: Path, config_file: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_dataset.parent)
    train(config_file, [tiny_dataset.name], tmp_path / "run", ["run.steps=1"])
    assert load_checkpoint(tmp_path / "run").config.data.dataset == str(tiny_dataset)


def test_without_out_a_run_gets_a_folder_of_its_own(
    tmp_path: Path, config_file: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train(config_file, [str(tiny_dataset)], None, ["run.steps=1"])
    (run,) = (tmp_path / "runs" / "tiny").iterdir()
    assert load_checkpoint(run).step == 1


def test_wrong_input_is_refused_before_anything_is_written(
    tmp_path: Path, config_file: Path, tiny_dataset: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"unknown key 'run.stesp' \(did you mean 'steps'\?\)"):
        train(config_file, [str(tiny_dataset)], run, ["run.stesp=1"])
    with pytest.raises(ConfigError, match="no dataset is named"):
        train(config_file, None, run)
    with pytest.raises(DatasetError, match=r"neither a folder.*did you mean '.*/dataset'"):
        train(config_file, [str(tiny_dataset.with_name("datasets"))], run)
    assert not run.exists()


def test_an_interrupted_run_goes_on_where_it_is(
    tmp_path: Path, config_file: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(config_file, [str(tiny_dataset)], run)
    shutil.rmtree(run / "checkpoints" / "step-00000020")
    train(resume=run)
    train(config_file, [str(tiny_dataset)], resume=run)
    assert load_checkpoint(run).step == 20
    assert "step-00000020" in capsys.readouterr().out


def test_going_on_takes_no_other_settings(
    tmp_path: Path, config_file: Path, tiny_dataset: Path
) -> None:
    run = tmp_path / "run"
    train(config_file, [str(tiny_dataset)], run)
    with pytest.raises(ConfigError, match=r"began with policy\.width=8 and cannot continue with"):
        train(config_file, [str(tiny_dataset)], None, ["policy.width=16"], resume=run)
    with pytest.raises(
        ConfigError, match="leave --dataset, --eval-env, --init-from and --set away"
    ):
        train(None, [str(tiny_dataset)], resume=run)
    with pytest.raises(ConfigError, match=r"--resume continues .*run; leave --out away"):
        train(None, None, tmp_path / "other", resume=run)
    with pytest.raises(
        ConfigError, match="name a dataset: --dataset DIR; or a configuration, or a"
    ):
        train()


def test_without_a_configuration_it_is_derived_from_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    write_dataset(tmp_path / "log", [tiny_episode(rng, 30, True) for _ in range(20)], TINY_SPEC)
    run, again = tmp_path / "run", tmp_path / "again"
    quick = ["run.steps=300", "run.execution=eager", "run.log_every=50", "run.num_threads=1"]
    train(None, [str(tmp_path / "log")], run, quick)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"derived from {tmp_path}/log: 20 episodes, 600 transitions:"
    assert "  run.steps: 300 (as stated)" in lines
    assert "  policy.width: 128 (fewer than 2,000 transitions)" in lines
    assert (
        "  critic.discount: 0.933 (episodes of 30 steps at 20 Hz: looks 15 steps (0.75 s) ahead)"
        in lines
    )
    assert (
        f"{run}/derived.yaml has all this: edit it and give it to 'dql train', or use --set"
        in lines
    )
    checkpoint = load_checkpoint(run)
    assert (checkpoint.step, checkpoint.config.critic.kind) == (300, "expectile")
    readings = read_records(run / "metrics.jsonl")
    assert readings[-1]["imitation"] < 0.9 * readings[0]["imitation"]

    train(run / "derived.yaml", None, again)
    assert load_checkpoint(again).config.hash() == checkpoint.config.hash()
    assert readings == [
        {**reading, "updates_per_s": pytest.approx(reading["updates_per_s"], rel=10)}
        for reading in read_records(again / "metrics.jsonl")
    ]


def test_what_is_derived_and_trained_is_read_once(
    tmp_path: Path, zero_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    class CountingReader(EpisodeReader):
        def __init__(self, data_path: Path, *arguments: Any, **options: Any) -> None:
            read.append(data_path.parent)
            super().__init__(data_path, *arguments, **options)

    monkeypatch.setattr(dataset_module, "EpisodeReader", CountingReader)
    quick = ["run.steps=1", "run.execution=eager", "policy.width=8"]
    train(None, [str(zero_dataset)], tmp_path / "run", quick)
    assert read == [zero_dataset]


def test_a_derived_run_goes_on_as_it_began(tmp_path: Path, zero_dataset: Path) -> None:
    run, quick = tmp_path / "run", ["run.steps=20", "run.execution=eager", "policy.width=8"]
    train(None, [str(zero_dataset)], run, quick)
    began = load_checkpoint(run).config
    assert began.agent == "diffusion_bc"
    shutil.rmtree(run / "checkpoints" / "step-00000020")
    train(resume=run)
    train(run / "derived.yaml", resume=run)
    resumed = load_checkpoint(run)
    assert (resumed.step, resumed.config) == (20, began)


def test_several_seeds_share_what_is_derived(tmp_path: Path, zero_dataset: Path) -> None:
    runs, quick = tmp_path / "runs", ["run.steps=2", "run.execution=eager", "policy.width=8"]
    train(None, [str(zero_dataset)], runs, quick, seeds="3,4")
    for seed in (3, 4):
        config = load_config(runs / "derived.yaml", [f"run.seed={seed}", "run.num_threads=1"])
        assert load_checkpoint(runs / f"seed-{seed}").config.hash() == config.hash()


def test_several_datasets_are_one_to_derive_from(
    tmp_path: Path, tiny_dataset: Path, zero_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["run.steps=1", "run.execution=eager", "policy.width=8", "critic.width=8"]
    train(None, [str(tiny_dataset), str(zero_dataset)], tmp_path / "run", quick)
    assert ": 5 episodes, 39 transitions:" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "run").config.agent == "diffusion_ql"


def test_what_cannot_be_derived_from_is_refused_before_anything_is_written(
    tmp_path: Path, zero_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    with pytest.raises(DatasetError, match="neither a folder nor a local Minari id"):
        train(None, ["nothing"], run)
    with pytest.raises(DatasetError, match="every reward is 0 and diffusion_ql learns from"):
        train(None, [str(zero_dataset)], run, ["agent=diffusion_ql"])
    with pytest.raises(ConfigError, match=r"unknown key 'run\.stesp'"):
        train(None, [str(zero_dataset)], run, ["run.stesp=1"])
    assert not run.exists()
    run.mkdir()
    (run / "note").write_text("in the way")
    with pytest.raises(ConfigError, match="run: already exists"):
        train(None, ["nothing"], run)
    train(
        None, [str(zero_dataset)], None, ["run.steps=1", "run.execution=eager", "policy.width=8"]
    )
    (of_dataset,) = (tmp_path / "runs" / "zero").iterdir()
    assert load_config(of_dataset / "derived.yaml").agent == "diffusion_bc"


def test_ctrl_c_leaves_a_checkpoint_and_no_traceback(
    tmp_path: Path, config_file: Path, tiny_dataset: Path
) -> None:
    command = [sys.executable, "-m", "dql_ros.cli.main", "train", str(config_file)]
    options = ["--dataset", str(tiny_dataset), "--out", str(tmp_path / "run")]
    endless = ["--set", "run.steps=100000000", "--set", "run.execution=eager"]
    with subprocess.Popen(
        [*command, *options, *endless],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("data: rewards, as learned: ")
        assert process.stdout.readline().startswith("values: the rewards allow ")
        assert process.stdout.readline().startswith("diffusion_ql: 1/100000000")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted after" in out
    assert "Traceback" not in err
    assert load_checkpoint(tmp_path / "run").step > 0


def test_the_bars_text_has_speed_losses_and_the_time_left() -> None:
    metrics = {"imitation": 0.51234, "critic": 1234.5, "q_alarm": 0.0, "updates_per_s": 87.6}
    assert metrics_text(metrics) == "88/s imitation 0.512 critic 1.23e+03"
    assert metrics_text(metrics | {"q_alarm": 1.0}).startswith("DIVERGES 88/s imitation")
    assert time_left(8760, metrics) == " (0:01:40 left)"
    assert time_left(0, metrics) == ""
    assert time_left(100, {"imitation": 0.5}) == ""
