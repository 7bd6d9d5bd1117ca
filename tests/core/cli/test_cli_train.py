import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dql_core.cli.train import metrics_text, time_left, train
from dql_core.errors import ConfigError, DatasetError
from dql_core.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

CONFIG = """
run: {steps: 20, batch_size: 8, log_every: 1, num_threads: 1}
policy: {width: 8}
critic: {width: 8}
"""


def test_train_follows_the_file_and_the_overrides_and_shows_how_it_goes(
    tmp_path: Path, config_file: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(config_file, [str(tiny_dataset)], run, ["run.steps=10", "agent=diffusion_bc"])
    checkpoint = load_checkpoint(run)
    assert (checkpoint.step, checkpoint.config.agent) == (10, "diffusion_bc")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("diffusion_bc: 1/10 imitation ")
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
    with pytest.raises(DatasetError, match=r"neither a folder.*did you mean 'dataset'"):
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
    with pytest.raises(ConfigError, match="leave --dataset, --eval-env and --set away"):
        train(None, [str(tiny_dataset)], resume=run)
    with pytest.raises(ConfigError, match=r"--resume continues .*run; leave --out away"):
        train(None, None, tmp_path / "other", resume=run)
    with pytest.raises(ConfigError, match="name a configuration, or a run to resume"):
        train()


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
