"""`dql train --init-from RUN`: what is taken of the run, and what is not."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from dql_core.cli.train import train
from dql_core.cli.training_settings import Request, settings
from dql_core.config import TrainConfig, load_config
from dql_core.data.dataset import write_dataset
from dql_core.errors import CheckpointError, ConfigError
from dql_core.training.checkpoint import load_checkpoint, save_checkpoint
from dql_core.training.multi_seed import read_seed_folder
from dql_core.training.run_files import read_run_info
from tests.core.conftest import TINY_SPEC, tiny_episode

pytestmark = pytest.mark.slow

CONFIG = """
run: {steps: 20, batch_size: 8, log_every: 1, num_threads: 1}
data: {n_step: 1, reward_scale: 0.5}
policy: {width: 8, ema_every: 3}
critic: {width: 8, discount: 0.9}
"""


@pytest.fixture
def trained(tmp_path: Path, config_file: Path, tiny_dataset: Path) -> Path:
    train(config_file, [str(tiny_dataset)], tmp_path / "trained")
    return tmp_path / "trained"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    write_dataset(tmp_path / "new", [tiny_episode(rng, 20, terminated=True)], TINY_SPEC)
    return tmp_path / "new"


def test_without_a_configuration_all_but_the_data_is_the_runs(
    tmp_path: Path,
    trained: Path,
    new: Path,
    config_file: Path,
    tiny_dataset: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    capsys.readouterr()
    both, run = [str(tiny_dataset), str(new)], tmp_path / "run"
    train(None, both, run, ["run.steps=5", "data.ratio=[1,3]"], init_from=trained)
    began, config = load_config(config_file), load_checkpoint(run).config
    assert config == began.model_copy(
        update={
            "run": began.run.model_copy(update={"steps": 5}),
            "data": began.data.model_copy(update={"dataset": tuple(both), "ratio": (1.0, 3.0)}),
            "init": config.init,
        }
    )
    assert config.init.run == str(trained)
    shown = capsys.readouterr()
    shown_text = " ".join((shown.out + shown.err).split())
    assert f"begins with the weights of {trained}/checkpoints/step-00000020 (" in shown_text
    assert (
        f"each batch of 8 has 2 of {tiny_dataset} (19 transitions, each 0.51 times as often as "
        f"without data.ratio), 6 of {new} (20 transitions, each 1.5 times as often as without "
        f"data.ratio)"
    ) in shown_text
    assert "derived from" not in shown_text
    assert not (run / "derived.yaml").exists()


def test_a_configuration_of_its_own_may_name_the_run(
    tmp_path: Path, trained: Path, new: Path, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.parent)
    train(config_file, [str(new)], tmp_path / "named", ["init.run=trained", "run.steps=2"])
    assert load_checkpoint(tmp_path / "named").config.init.run == str(trained)
    run = tmp_path / "option"
    train(config_file, [str(new)], run, ["init.run=other"], init_from=Path("trained"))
    assert read_run_info(run)["initialised_from"]["run"] == str(trained)


def test_such_a_run_resumes_as_it_began_and_takes_no_other_run(
    tmp_path: Path, trained: Path, new: Path
) -> None:
    run = tmp_path / "run"
    train(None, [str(new)], run, init_from=trained)
    shutil.rmtree(run / "checkpoints" / "step-00000020")
    with pytest.raises(ConfigError, match="leave --dataset, --eval-env, --init-from and"):
        train(resume=run, init_from=trained)
    shutil.rmtree(trained)
    train(resume=run)
    assert load_checkpoint(run).step == 20


def test_several_seeds_begin_with_the_same_weights(
    tmp_path: Path, trained: Path, new: Path
) -> None:
    out = tmp_path / "seeds"
    train(None, [str(new)], out, ["run.steps=3"], seeds="0,1", init_from=trained)
    config, seeds = read_seed_folder(out)
    assert (config.init.run, seeds) == (str(trained), (0, 1))
    first = [
        load_checkpoint(out / f"seed-{seed}/checkpoints/step-00000000").agent.modules["policy"]
        for seed in seeds
    ]
    last = [load_checkpoint(out / f"seed-{seed}").agent.modules["policy"] for seed in seeds]
    for weights, same in ((first, True), (last, False)):
        a, b = (next(module.parameters()) for module in weights)
        assert bool((a == b).all()) is same


def test_wrong_input_is_refused_before_anything_is_written(
    tmp_path: Path, trained: Path, new: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(CheckpointError, match="no such run folder or checkpoint"):
        train(None, [str(new)], run, init_from=tmp_path / "gone")
    with pytest.raises(ConfigError, match="name a dataset: --dataset DIR"):
        train(None, None, run, init_from=trained)
    with pytest.raises(ConfigError, match=r"--set preset: .*trained has settled its keys"):
        train(None, [str(new)], run, ["preset=paper"], init_from=trained)
    with pytest.raises(ConfigError, match=r"data.ratio: \[1, 1\] has 2 numbers"):
        train(None, [str(new)], run, ["data.ratio=[1,1]"], init_from=trained)
    assert not run.exists()


def test_the_environment_of_somebody_elses_run_is_not_taken(
    tmp_path: Path, tiny_run: Path, new: Path
) -> None:
    checkpoint = load_checkpoint(tiny_run)
    theirs = checkpoint.config.model_copy(
        update={
            "evaluation": checkpoint.config.evaluation.model_copy(update={"env": "evil:Env-v0"}),
            "data": checkpoint.config.data.model_copy(update={"weights": {"intervention": 2.0}}),
        }
    )
    save_checkpoint(tmp_path / "theirs", dataclasses.replace(checkpoint, config=theirs))
    found = settings(Request(None, (str(new),), None, (), tmp_path / "theirs"))
    assert found.evaluation.env == TrainConfig().evaluation.env == ""
    assert found.data.weights == {}
    asked = settings(Request(None, (str(new),), "Pendulum-v1", (), tmp_path / "theirs"))
    assert asked.evaluation.env == "Pendulum-v1"
